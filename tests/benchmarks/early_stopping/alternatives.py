"""Rules that were tried and not taken: other values at the rungs, and other ways to compare.

``values`` gives what a rung compares in place of the loss; a rule then sees those alone, and is judged by the losses.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from launchers.halving import Rule
from sweeps.stopping import num_places
from tests.benchmarks.early_stopping.replay import Grid

Values = Callable[[Grid, Sequence[Grid]], Grid]
"""A grid and the others: the grid with other values in place of its losses. Only the oracle looks ahead."""


def slope(weight: float) -> Values:
    """The logarithm of the loss, carried on by ``weight`` times its last change."""

    def values(grid: Grid, others: Sequence[Grid]) -> Grid:
        def carried(curve: Mapping[int, float]) -> dict[int, float]:
            steps, logs = list(curve), [math.log(loss) for loss in curve.values()]
            before = [logs[0], *logs[:-1]]
            return {step: log + weight * (log - old) for step, log, old in zip(steps, logs, before, strict=True)}

        return with_curves(grid, {trial: carried(curve) for trial, curve in grid.curves.items()})

    return values


def power_law(grid: Grid, others: Sequence[Grid]) -> Grid:
    """The loss at the end by a power law of the step through a trial's last three reports."""

    def extrapolated(curve: Mapping[int, float]) -> dict[int, float]:
        steps, found = list(curve), {}
        for place, step in enumerate(steps):
            last = steps[max(0, place - 2) : place + 1]
            if len(last) < 3:
                found[step] = math.log(curve[step])
                continue
            xs, ys = [math.log(one) for one in last], [math.log(curve[one]) for one in last]
            mean_x, mean_y = sum(xs) / 3, sum(ys) / 3
            rise = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
            exponent = rise / sum((x - mean_x) ** 2 for x in xs)
            found[step] = mean_y + exponent * (math.log(grid.num_steps) - mean_x)
        return found

    return with_curves(grid, {trial: extrapolated(curve) for trial, curve in grid.curves.items()})


def learned(grid: Grid, others: Sequence[Grid]) -> Grid:
    """The loss at the end, learned from the whole grids of others: regression trees on a trial's last four reports.

    A sweep has no such grids: this shows what earlier sweeps of the same task could tell it.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    steps = sorted({step for curve in grid.curves.values() for step in curve})
    known = [curve for other in others for curve in other.curves.values() if other.num_steps in curve]
    targets = [math.log(min(1.0, curve[grid.num_steps])) for curve in known]
    found: dict[str, dict[int, float]] = {trial: {} for trial in grid.curves}
    for place, step in enumerate(steps):
        seen = steps[max(0, place - 3) : place + 1]
        model = ExtraTreesRegressor(200, min_samples_leaf=2, random_state=0)
        model.fit([[math.log(curve[one]) for one in seen] for curve in known], targets)
        here = [trial for trial, curve in grid.curves.items() if step in curve]
        for trial, value in zip(
            here,
            model.predict([[math.log(grid.curves[trial][one]) for one in seen] for trial in here]),
            strict=True,
        ):
            found[trial][step] = float(value)
    return with_curves(grid, found)


def oracle(grid: Grid, others: Sequence[Grid]) -> Grid:
    """The loss at the end itself: what no extrapolation and no annealed branch can surpass."""
    curves = {trial: dict.fromkeys(curve, grid.final(trial)) for trial, curve in grid.curves.items()}
    return with_curves(grid, curves)


def with_curves(grid: Grid, curves: Mapping[str, Mapping[int, float]]) -> Grid:
    """A grid with other values by step."""
    return replace(grid, curves=curves)


class Replaced:
    """A rule that is told another value than the loss."""

    def __init__(self, rule: Rule, values: Grid) -> None:
        self._rule, self._values = rule, values

    def take(self, trial: str, step: int, loss: float) -> bool:
        return self._rule.take(trial, step, self._values.curves[trial][step])


class SeesLosses:
    """Continuous halving with two changes that were tried.

    Args:
        slack: Another trial is ahead only where its loss is lower by this share.
        alike: Compare with the nearer half of the trials alone, by this value (the logarithm of the learning rate).
    """

    def __init__(
        self, first: int, reduction: float, slack: float = 0.0, alike: Mapping[str, float] | None = None
    ) -> None:
        self._first, self._reduction, self._slack, self._alike = first, reduction, slack, alike
        self._curves: dict[str, dict[int, float]] = {}

    def take(self, trial: str, step: int, loss: float) -> bool:
        self._curves.setdefault(trial, {})[step] = loss
        if step < self._first:
            return False
        others = [name for name, curve in self._curves.items() if name != trial and max(curve) >= self._first]
        if self._alike is not None:
            alike = self._alike
            others.sort(key=lambda name: abs(alike[name] - alike[trial]))
            others = others[: math.ceil(len(others) / 2)]
        here = [self._curves[name][step] for name in others if step in self._curves[name]]
        num_ahead = sum(other < loss * (1 - self._slack) for other in here)
        return num_ahead >= num_places(len(others) + 1, step, self._first, self._reduction)


def waiting(grid: Grid, first: int, reduction: float, every: int) -> tuple[float, float]:
    """Halving that waits at each report until all trials have been there: its share of steps, and its regret."""
    alive, spent = list(grid.curves), 0
    for step in range(every, grid.num_steps + 1, every):
        spent += every * len(alive)
        alive = [trial for trial in alive if step in grid.curves[trial]]
        if first <= step < grid.num_steps:
            places = num_places(len(grid.curves), step, first, reduction)
            alive = sorted(alive, key=lambda trial: grid.curves[trial][step])[:places]
    share = spent / (grid.num_steps * len(grid.curves))
    return share, min(map(grid.final, alive)) - grid.final(grid.ranking[0])
