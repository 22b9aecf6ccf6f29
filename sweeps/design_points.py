"""Which points of the space are tried before any result is known."""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.space import Space
from sweeps.sweep import Sweep
from sweeps.trial import Trial, make_trial

MANY = 10_000  # trials that nobody plans by accident; combinations that are written out one by one
_ATTEMPTS_PER_TRIAL = 50


@dataclass(frozen=True)
class Design:
    """The trials that are known in advance.

    Attributes:
        trials: Distinct by id, numbered from 0 without gaps.
        num_trials: All trials of the sweep, also those that a searcher will choose while it runs.
        exhausted: The space has fewer distinct points than ``search.trials`` asks for.
    """

    trials: tuple[Trial, ...]
    num_trials: int
    exhausted: bool


def planned_points(sweep: Sweep, most: int = MANY) -> Design:
    """The trials of a sweep that are known in advance: the same ones for the same sweep and seed.

    Trial 0 is the recipe's defaults where ``search.start_at`` says so. A ``grid`` follows the order in which the space
    is written, the last key fastest; of a larger one the first ``most`` points are given. ``random`` is a Latin
    hypercube. Of ``tpe`` and ``nsga2`` the first half, at least five, is such a hypercube, and the rest is chosen from
    results. With ``search.seeds`` each point is repeated, and its repeats have consecutive numbers.
    """
    search = sweep.spec.search
    wanted = search.trials
    if search.algorithm == "grid":
        wanted = min(search.trials, most)
    elif search.algorithm in ("tpe", "nsga2"):
        wanted = min(search.trials, max(5, search.trials // 2))
    points, exhausted = _distinct(sweep, wanted, search.trials)
    trials = [
        make_trial(sweep, index * search.seeds + repeat, point, repeat)
        for index, point in enumerate(points)
        for repeat in range(search.seeds)
    ]
    num_points = search.trials
    if exhausted:
        num_points = num_distinct(sweep) if _is_enumerable(sweep.space) else len(points)
    return Design(tuple(trials), num_points * search.seeds, exhausted)


def num_distinct(sweep: Sweep) -> int:
    """Distinct points of a finite space, the recipe's defaults among them where the search starts there."""
    points = itertools.chain(_start(sweep), grid(sweep.space))
    return len({make_trial(sweep, 0, point).id for point in points})


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination of a finite space, completed, in the order it is written; the last key changes fastest."""
    axes = [dimension.distribution.values() for dimension in space.dimensions.values()]
    for combination in itertools.product(*axes):
        yield space.complete(dict(zip(space.dimensions, combination, strict=True)))


def latin_hypercube(space: Space, num_points: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    """Points whose coordinates fall once into each of ``num_points`` equally wide cells of every axis."""
    cells = {key: draw.sample(range(num_points), num_points) for key in space.dimensions}
    for index in range(num_points):
        yield space.sample({key: (cells[key][index] + draw.random()) / num_points for key in cells})


def _start(sweep: Sweep) -> list[Mapping[str, Any]]:
    return [sweep.space.default_values()] if sweep.spec.search.start_at == "default" else []


def _is_enumerable(space: Space) -> bool:
    return space.size is not None and space.size <= MANY


def _distinct(sweep: Sweep, wanted: int, total: int) -> tuple[list[Mapping[str, Any]], bool]:
    """Up to ``wanted`` points that train differently, and whether the space has fewer than ``total``."""
    found: dict[str, Mapping[str, Any]] = {}
    for point in itertools.chain(_start(sweep), _candidates(sweep, wanted)):
        found.setdefault(make_trial(sweep, 0, point).id, point)
        if len(found) >= wanted:
            break
    if len(found) < wanted:
        return list(found.values()), True
    small = _is_enumerable(sweep.space) and (sweep.space.size or 0) + 1 < 4 * total
    return list(found.values()), wanted < total and small and num_distinct(sweep) < total


def _candidates(sweep: Sweep, wanted: int) -> Iterator[Mapping[str, Any]]:
    search, space = sweep.spec.search, sweep.space
    if search.algorithm == "grid":
        yield from grid(space)
        return
    draw = random.Random(search.seed)
    yield from latin_hypercube(space, max(1, wanted - len(_start(sweep))), draw)
    # Coarse axes give some points twice: fill up, exactly where the space can be written out.
    if _is_enumerable(space):
        rest = list(grid(space))
        draw.shuffle(rest)
        yield from rest
        return
    for _ in range(_ATTEMPTS_PER_TRIAL * wanted):
        yield space.sample({key: draw.random() for key in space.dimensions})
