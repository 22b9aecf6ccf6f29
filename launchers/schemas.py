"""The JSON schema that a sweep's answers should keep to."""

import json
from pathlib import Path
from typing import Any


def schema_of(named: str | None, builtin: str | None, base_dir: Path) -> dict[str, Any] | None:
    """The sweep's own, or the demo task's for the demo's data.

    Args:
        named: ``evaluate.schema``: the path of a file.
        builtin: ``data.builtin`` of the recipe.
        base_dir: What a relative path is taken from.
    """
    if named:
        path = Path(named).expanduser()
        loaded: dict[str, Any] = json.loads((path if path.is_absolute() else base_dir / path).read_text("utf-8"))
        return loaded
    if builtin in ("commerce", "commerce_pairs"):
        from recipes.commerce.task import PROPOSAL_SCHEMA

        return PROPOSAL_SCHEMA
    return None
