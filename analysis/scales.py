"""How the values of a swept key or a metric lie on an axis: linear, logarithmic, or as categories."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from analysis.plain import plain
from tracking.ledger import SweepState

_LOG_NAMES = ("lr", "learning_rate")
_FEW = 6  # so many distinct numbers at most are shown as evenly spaced steps
_LOG_SPAN = 100.0  # positive values that span more than this are read better on a log axis


@dataclass(frozen=True)
class Scale:
    """An axis over the values that occurred.

    Attributes:
        kind: ``linear``, ``log``, or ``category``.
        low, high: The ends of a numeric axis.
        categories: The labels of a categorical axis, in order; a few numbers that repeat are categories too.
        numeric: Whether all values are numbers.
    """

    kind: Literal["linear", "log", "category"]
    low: float = 0.0
    high: float = 1.0
    categories: tuple[str, ...] = ()
    numeric: bool = True

    def position(self, value: Any) -> float:
        """Where a value lies, from 0 (bottom) to 1 (top); NaN for a missing one."""
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return math.nan
        if self.kind == "category":
            last = len(self.categories) - 1
            return self.categories.index(label(value)) / last if last else 0.5
        if self.low == self.high:
            return 0.5
        if self.kind == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (float(value) - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """(position, text) of the axis's ticks, three to seven of them on a numeric axis."""
        if self.kind == "category":
            return [(self.position(category), category) for category in self.categories]
        values = _log_ticks(self.low, self.high) if self.kind == "log" else _linear_ticks(self.low, self.high)
        return [(self.position(value), number(value)) for value in values]


def scale_of(state: SweepState, key: str, values: Sequence[Any]) -> Scale:
    """The scale of a column: numbers on a numeric axis, anything else as categories.

    An axis is logarithmic where the spec's space says so, for learning rates, and for positive values of a wide span.
    """
    known = [value for value in values if value is not None and not (isinstance(value, float) and math.isnan(value))]
    if not known or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return Scale("category", categories=tuple(sorted({label(value) for value in known})), numeric=False)
    low, high = float(min(known)), float(max(known))
    distinct = sorted(set(known))
    if len(distinct) <= _FEW and len(known) > 2 * len(distinct):
        return Scale("category", low, high, tuple(dict.fromkeys(label(value) for value in distinct)))
    return Scale("log" if is_log(state, key, low, high) else "linear", low, high)


def is_log(state: SweepState, key: str, low: float, high: float) -> bool:
    """Whether a numeric axis from ``low`` to ``high`` is logarithmic."""
    space = json.dumps((state.spec.get("space") or {}).get(key), default=str)
    return low > 0 and ("log" in space or key.rsplit(".", 1)[-1] in _LOG_NAMES or high / low > _LOG_SPAN)


def label(value: Any) -> str:
    """A value as a category: strings as they are, numbers by their value (8 and 8.0 are one), lists joined."""
    value = plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.12g}"
    if isinstance(value, list):
        return ", ".join(label(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def shorten(text: str, limit: int = 16) -> str:
    """``text``, cut in its middle where it is long."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-(limit // 2 - 1) :]}"


def number(value: float) -> str:
    """A number for an axis or a table cell: 0.0003 as 3e-4, 12 as 12."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def _linear_ticks(low: float, high: float) -> list[float]:
    if low == high:
        return [low]
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    if low == high:
        return [low]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        found = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if len(found) <= 6:
            return found or [low, high]
    return found[:: math.ceil(len(found) / 6)]
