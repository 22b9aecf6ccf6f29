"""Scores of several arms on the same items: read, checked, and laid side by side."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeps.errors import InvalidInput, Problem, nearest

Scores = Mapping[str, float | None]
"""The score of every item by its id; None where it is missing."""

Floats = NDArray[np.float64]


def read_scores(path: Path, metric: str) -> dict[str, float | None]:
    """One metric of every item of a file that ``QualityResult.write_items`` wrote.

    Returns:
        The value by the item's id, None where an item does not have it.

    Raises:
        InvalidInput: The file is not there, a line is no record of an item, or no item has the metric.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(Problem(str(path), f"the scores of each item must be there, but {error.strerror}")) from None
    found: dict[str, float | None] = {}
    names: set[str] = set()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            item, metrics = str(record["id"]), dict(record["metrics"])
        except (ValueError, KeyError, TypeError):
            rule = f"every line must be an item with id and metrics, but got {line[:60]!r}"
            raise InvalidInput(Problem(str(path), rule, line=number)) from None
        if item in found:
            raise InvalidInput(Problem(str(path), f"an item must have one line, but {item!r} has two", line=number))
        found[item] = metrics.get(metric)
        names |= metrics.keys()
    if metric not in names:
        hint = nearest(metric, sorted(names)) if names else "the file has no metrics at all"
        raise InvalidInput(Problem(str(path), f"no item has {metric!r}", hint))
    return found


@dataclass(frozen=True)
class Table:
    """Scores of arms side by side.

    Attributes:
        arms: Names of the rows.
        items: Ids of the columns.
        values: Shape (arms, items); NaN where a score is missing.
        groups: Shape (items,): the number of each item's group. Items of one group are drawn together.
    """

    arms: tuple[str, ...]
    items: tuple[str, ...]
    values: Floats
    groups: NDArray[np.intp]

    def row(self, arm: str) -> Floats:
        """The scores of one arm, shape (items,)."""
        return self.values[self.arms.index(arm)]  # type: ignore[no-any-return]


def side_by_side(scores: Mapping[str, Scores], groups: Mapping[str, Any] | None = None) -> Table:
    """Lay scores side by side over every item that any arm has.

    Args:
        scores: By arm.
        groups: The group of every item, such as its conversation; without, each item is a group of its own.

    Raises:
        InvalidInput: An arm has no items or shares none with another, a score is no finite number, or an item has no
            group.
    """
    problems = [
        Problem(f"{arm}: {item}", f"a score must be a finite number or missing, but got {value!r}")
        for arm, row in scores.items()
        for item, value in row.items()
        if not _is_score(value)
    ]
    problems += [Problem(arm, "an arm must have scores, but has none") for arm, row in scores.items() if not row]
    if problems:
        raise InvalidInput(problems)
    items = tuple(sorted({item for row in scores.values() for item in row}))
    arms = tuple(scores)
    for other in arms[1:]:
        if scores[arms[0]].keys().isdisjoint(scores[other]):
            rule = f"arms must be scored on the same items, but {arms[0]} and {other} share none"
            example = f"{arms[0]} has {next(iter(scores[arms[0]]))!r}, {other} has {next(iter(scores[other]))!r}"
            raise InvalidInput(Problem(other, rule, example))
    values = np.array([[_number(scores[arm].get(item)) for item in items] for arm in arms], dtype=np.float64)
    return Table(arms, items, values.reshape(len(arms), len(items)), _codes(items, groups))


def _is_score(value: Any) -> bool:
    """Missing is None or NaN."""
    if value is None:
        return True
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and not math.isinf(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _codes(items: Sequence[str], groups: Mapping[str, Any] | None) -> NDArray[np.intp]:
    if groups is None:
        return np.arange(len(items))
    if without := [item for item in items if item not in groups]:
        rule = f"every item must have a group, but {len(without)} have none, the first is {without[0]!r}"
        raise InvalidInput(Problem("groups", rule, "give a group to every item, or to none"))
    numbers = _numbered(str(groups[item]) for item in items)
    return np.array(numbers, dtype=np.intp)


def _numbered(names: Iterable[str]) -> list[int]:
    """Each name as the place at which it first occurs among the distinct ones."""
    places: dict[str, int] = {}
    return [places.setdefault(name, len(places)) for name in names]
