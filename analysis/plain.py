"""Values of data frames as JSON knows them."""

import math
from typing import Any

import pandas as pd


def plain(value: Any) -> Any:
    """A Python value for JSON: numpy scalars unwrapped, NaN, infinity and NA as None, containers by their elements."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries for JSON."""
    return [plain(row) for row in table.to_dict("records")]
