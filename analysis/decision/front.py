"""The Pareto front of quality, latency and cost."""

import math
from collections.abc import Mapping
from typing import Literal

Direction = Literal["max", "min"]


def front(arms: Mapping[str, Mapping[str, float | None]], directions: Mapping[str, Direction]) -> tuple[str, ...]:
    """The arms that no other dominates, in their order.

    One arm dominates another that has the same axes measured, if it is as good on all of them and better on one. What
    was not measured is not known to be worse: an arm without a latency is dominated only by others without one.

    Args:
        arms: The values by axis; missing, None or NaN where not measured.
        directions: The axes that count, and whether more or less is better.
    """
    points = {
        name: {axis: _goodness(values.get(axis), directions[axis]) for axis in directions}
        for name, values in arms.items()
    }
    return tuple(
        name
        for name, point in points.items()
        if not any(_dominates(other, point) for other_name, other in points.items() if other_name != name)
    )


def _goodness(value: float | None, direction: Direction) -> float | None:
    if value is None or math.isnan(value):
        return None
    return value if direction == "max" else -value


def _dominates(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> bool:
    better = False
    for axis, mine in one.items():
        theirs = other[axis]
        if mine is None or theirs is None:
            if mine is not theirs:
                return False
            continue
        if mine < theirs:
            return False
        better = better or mine > theirs
    return better
