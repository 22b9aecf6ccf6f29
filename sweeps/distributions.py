"""The closed set of distributions that a swept key may have.

Each maps a coordinate of the unit interval to a value (``sample``), so that one design in the unit cube serves every
space; says how many distinct values it has (``size``), which ones (``values``, ``contains``), and its own text in the
grammar (``describe``), from which :func:`sweeps.syntax.parse_distribution` makes it again.
"""

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from sweeps.grammar import format_value
from sweeps.values import freeze, is_number, same, thaw

MAX_STEPS = 1_000_000  # values of one stepped distribution


def _clamp(u: float) -> float:
    return min(max(u, 0.0), 1.0)


def _pick(u: float, num_values: int) -> int:
    """The index of the equally wide cell of the unit interval that ``u`` falls into."""
    return min(int(_clamp(u) * num_values), num_values - 1)


def _check_bounds(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and math.isfinite(high - low)):
        raise ValueError(f"low and high must be finite numbers, but got low={low}, high={high}")
    if low >= high:
        raise ValueError(f"low must be below high, but got low={low}, high={high}")


@dataclass(frozen=True)
class Fixed:
    """One value, the same in every trial."""

    value: Any

    def __post_init__(self) -> None:
        if isinstance(self.value, list | tuple | dict):
            raise ValueError(f"a plain value must be a number, text, true, false or null, but got {self.value}")
        format_value(self.value)

    @property
    def size(self) -> int | None:
        return 1

    def values(self) -> list[Any]:
        return [self.value]

    def sample(self, u: float) -> Any:
        return self.value

    def contains(self, value: Any) -> bool:
        return same(value, self.value)

    def describe(self) -> str:
        return format_value(self.value)


@dataclass(frozen=True)
class Choice:
    """One of several values, equally likely; lists are held as tuples and given out as lists."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", freeze(self.options))
        if not self.options:
            raise ValueError("a choice needs at least one value")
        for index, option in enumerate(self.options):
            if isinstance(option, dict):
                raise ValueError(f"a choice is between plain values or lists, but got {option}")
            format_value(option)
            if any(same(option, earlier) for earlier in self.options[:index]):
                raise ValueError(f"a choice must not list a value twice, but {format_value(option)} is")

    @property
    def size(self) -> int | None:
        return len(self.options)

    def values(self) -> list[Any]:
        return [thaw(option) for option in self.options]

    def sample(self, u: float) -> Any:
        return thaw(self.options[_pick(u, len(self.options))])

    def contains(self, value: Any) -> bool:
        return any(same(value, option) for option in self.options)

    def describe(self) -> str:
        return f"choice({', '.join(format_value(option) for option in self.options)})"


@dataclass(frozen=True)
class IntRange:
    """Whole numbers from ``low`` to ``high``, both included, ``step`` apart, equally likely."""

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"step must be at least 1, but got step={self.step}")
        if self.low > self.high:
            raise ValueError(f"low must not be above high, but got low={self.low}, high={self.high}")
        if (self.high - self.low) % self.step:
            raise ValueError(f"high must be reached in steps, but got {self.low}, {self.high}, step={self.step}")
        if (self.high - self.low) // self.step >= MAX_STEPS:
            raise ValueError(f"a range has at most {MAX_STEPS} values, but got {self.describe()}")

    @property
    def size(self) -> int | None:
        return (self.high - self.low) // self.step + 1

    def values(self) -> list[Any]:
        return list(range(self.low, self.high + 1, self.step))

    def sample(self, u: float) -> Any:
        return self.low + self.step * _pick(u, (self.high - self.low) // self.step + 1)

    def contains(self, value: Any) -> bool:
        return is_number(value) and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def describe(self) -> str:
        step = f", {self.step}" if self.step != 1 else ""
        return f"range({self.low}, {self.high + 1}{step})"  # Hydra's range excludes its stop


@dataclass(frozen=True)
class Uniform:
    """Any number from ``low`` to ``high``, equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)

    @property
    def size(self) -> int | None:
        return None

    def values(self) -> list[Any]:
        raise ValueError(f"{self.describe()} is continuous")

    def sample(self, u: float) -> Any:
        return min(max(self.low + _clamp(u) * (self.high - self.low), self.low), self.high)

    def contains(self, value: Any) -> bool:
        return is_number(value) and self.low <= value <= self.high

    def describe(self) -> str:
        return f"uniform({self.low!r}, {self.high!r})"


@dataclass(frozen=True)
class LogUniform:
    """Any number from ``low`` to ``high``, its logarithm equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)
        if self.low <= 0:
            raise ValueError(f"low must be above 0 on a logarithmic scale, but got low={self.low}")

    @property
    def size(self) -> int | None:
        return None

    def values(self) -> list[Any]:
        raise ValueError(f"{self.describe()} is continuous")

    def sample(self, u: float) -> Any:
        exponent = math.log(self.low) + _clamp(u) * (math.log(self.high) - math.log(self.low))
        return min(max(math.exp(exponent) if exponent < 709.0 else self.high, self.low), self.high)

    def contains(self, value: Any) -> bool:
        return is_number(value) and self.low <= value <= self.high

    def describe(self) -> str:
        return f"loguniform({self.low!r}, {self.high!r})"


@dataclass(frozen=True)
class QUniform:
    """The multiples of ``q`` from ``low`` to ``high``, equally likely, as decimals: 0.3, not 0.30000000000000004."""

    low: float
    high: float
    q: float

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)
        if not (math.isfinite(self.q) and self.q > 0):
            raise ValueError(f"q must be above 0, but got q={self.q}")
        if (self.high - self.low) / self.q > MAX_STEPS or max(abs(self.low), abs(self.high)) / self.q > 1e15:
            raise ValueError(f"q must be coarser, but got low={self.low}, high={self.high}, q={self.q}")
        first, last = self._multiples()
        if first > last:
            raise ValueError(f"a multiple of q must lie between, but got low={self.low}, high={self.high}, q={self.q}")

    def _multiples(self) -> tuple[int, int]:
        low, high, q = (Decimal(repr(number)) for number in (self.low, self.high, self.q))
        first = (low / q).to_integral_value(rounding=ROUND_CEILING)
        return int(first), int((high / q).to_integral_value(rounding=ROUND_FLOOR))

    def _value(self, multiple: int) -> float:
        return float(Decimal(repr(self.q)) * multiple)

    @property
    def size(self) -> int | None:
        first, last = self._multiples()
        return last - first + 1

    def values(self) -> list[Any]:
        first, last = self._multiples()
        return [self._value(multiple) for multiple in range(first, last + 1)]

    def sample(self, u: float) -> Any:
        first, last = self._multiples()
        return self._value(first + _pick(u, last - first + 1))

    def contains(self, value: Any) -> bool:
        if not is_number(value) or not self.low <= value <= self.high:
            return False
        return math.isclose(self._value(round(value / self.q)), value, rel_tol=1e-12, abs_tol=self.q * 1e-9)

    def describe(self) -> str:
        return f"quniform({self.low!r}, {self.high!r}, {self.q!r})"


Distribution = Fixed | Choice | IntRange | Uniform | LogUniform | QUniform
