"""How many steps early stopping spends, and how often it keeps the best trial: rules replayed on the measured grids.

    python -m tests.benchmarks.early_stopping.simulate                # about ten minutes of one core

Writes ``results/early_stopping*.{json,md}``. A grid's champion is kept where a trial comes to its end whose final loss
is within two standard deviations of the seed noise of the grid's best. Three numbers are a mean between the ends of its
95 % interval, from a bootstrap over grids and, within each, over shuffles.
"""

import argparse
import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from launchers.halving import Rule, make_rule
from sweeps.schema import StopEarly
from tests.benchmarks.early_stopping import alternatives
from tests.benchmarks.early_stopping.alternatives import Replaced, SeesLosses
from tests.benchmarks.early_stopping.replay import CURVES, Grid, Outcome, load, replays, seed_noise
from tests.benchmarks.report import RESULTS, report

NUM_RESAMPLES = 1000
BANDS = (5e-4, 2e-3, 4e-3, 8e-3, 1.2e-2, 4e-2)  # of the learning rate
CHOSEN = StopEarly()
EVERY = 6
RULES = [
    (StopEarly(algorithm="asha", grace=0.5, reduction=2), 15),
    (StopEarly(algorithm="asha", grace=0.15, reduction=3), 3),
    (StopEarly(algorithm="asha", grace=0.1, reduction=3), 6),
    (StopEarly(algorithm="asha", grace=0.1, reduction=4), 6),
    (StopEarly(grace=0.2, reduction=3), 6),
    (StopEarly(grace=0.1, reduction=2), 6),
    (StopEarly(grace=0.1, reduction=3), 3),
    (CHOSEN, EVERY),
    (StopEarly(grace=0.1, reduction=4), 6),
    (StopEarly(grace=0.05, reduction=5 / 3), 3),
    (StopEarly(grace=0.05, reduction=2), 3),
    (StopEarly(grace=0.25, reduction=3), 15),
]


def interval(outcomes: Sequence[Sequence[Outcome]], measure: Callable[[Outcome], float]) -> list[float]:
    """The mean of a measure between the ends of its interval; ``outcomes`` are lists of replays, one for each grid."""
    values = [[measure(one) for one in grid] for grid in outcomes]
    draw, means = random.Random(0), []
    for _ in range(NUM_RESAMPLES):
        grids = draw.choices(values, k=len(values))
        means.append(statistics.fmean(statistics.fmean(draw.choices(grid, k=len(grid))) for grid in grids))
    means.sort()
    low, high = means[int(0.025 * NUM_RESAMPLES)], means[int(0.975 * NUM_RESAMPLES) - 1]
    return [round(value, 4) for value in (low, statistics.fmean(map(statistics.fmean, values)), high)]


class Bench:
    """The measured grids and what a tie is."""

    def __init__(self, path: Path, shuffles: int) -> None:
        self.grids, self.shuffles = load(path), shuffles
        self.validation_steps: float = json.loads(path.read_text(encoding="utf-8"))["about"]["validation_in_steps"]
        self.noise, self.repeated = seed_noise(path)
        self.path = path

    def others(self, grid: Grid) -> list[Grid]:
        return [other for other in self.grids if other is not grid]

    def keeps(self, outcome: Outcome) -> bool:
        """Whether the champion, or a tie, came to its end."""
        return outcome.regret <= 2 * self.noise

    def run(
        self, make: Callable[[Grid], Callable[[], Rule]], *, every: int, concurrency: int = 4, shuffles: int = 0
    ) -> list[list[Outcome]]:
        """Replays of each grid."""
        number = shuffles or self.shuffles
        return [replays(grid, make(grid), concurrency=concurrency, every=every, shuffles=number) for grid in self.grids]

    def figures(self, outcomes: Sequence[Sequence[Outcome]], every: int) -> dict[str, Any]:
        """What a table says of a rule."""

        def time_of(steps: float, num_reports: float) -> float:
            return steps + self.validation_steps * num_reports

        trials, steps = len(self.grids[0].curves), self.grids[0].num_steps
        whole = time_of(trials * steps, trials * steps / 15)
        return {
            "steps": interval(outcomes, lambda one: one.share),
            "kept": interval(outcomes, self.keeps),
            "worst grid kept": min(statistics.fmean(map(self.keeps, grid)) for grid in outcomes),
            "the very best kept": interval(outcomes, lambda one: one.regret <= 1e-9),
            "time with validation": interval(
                outcomes, lambda one: time_of(one.share * trials * steps, one.num_reports) / whole
            ),
        }


def of(early: StopEarly) -> Callable[[Grid], Callable[[], Rule]]:
    """The rule of a ``stop_early`` block."""
    return lambda grid: lambda: make_rule(early, grid.num_steps)


def name_of(early: StopEarly) -> str:
    return f"{early.algorithm}, grace {early.grace:g}, reduction {early.reduction:.3g}"


def rules(bench: Bench) -> list[dict[str, Any]]:
    """ASHA and continuous halving, four trials at a time; the demo's also one and twenty at a time."""
    rows = []
    for early, every in RULES:
        for concurrency in (4, 1, 20) if early in (CHOSEN, RULES[2][0]) and every == EVERY else (4,):
            outcomes = bench.run(of(early), every=every, concurrency=concurrency)
            row = {"rule": name_of(early), "report every": every, "at a time": concurrency}
            rows.append(row | bench.figures(outcomes, every))
            print(rows[-1], flush=True)
    return rows


def held_out(bench: Bench) -> list[dict[str, Any]]:
    """Grace and reduction chosen on all grids but one, for the fewest steps at 95 % kept, and tried on that one."""
    rows = []
    for algorithm in ("asha", "continuous"):
        tried = [
            (StopEarly(algorithm=algorithm, grace=grace, reduction=reduction), every)
            for grace in (0.05, 0.1, 0.15, 0.2)
            for reduction in (5 / 3, 2, 2.5, 3, 4)
            for every in (3, 6)
            if every <= grace * 60
        ]
        results = [bench.run(of(early), every=every, shuffles=50) for early, every in tried]
        chosen: list[list[Outcome]] = []
        names: Counter[str] = Counter()
        for place in range(len(bench.grids)):

            def mean(result: list[list[Outcome]], measure: Callable[[Outcome], float], place: int = place) -> float:
                return statistics.fmean(measure(one) for at, grid in enumerate(result) if at != place for one in grid)

            keep = [number for number, result in enumerate(results) if mean(result, bench.keeps) >= 0.95]
            best = min(keep, key=lambda number: mean(results[number], lambda one: one.share))
            chosen.append(results[best][place])
            names[f"{name_of(tried[best][0])}, report every {tried[best][1]}"] += 1
        rows.append({"algorithm": algorithm, **bench.figures(chosen, 3), "chosen": dict(names)})
        print(rows[-1], flush=True)
    return rows


def tried(bench: Bench) -> list[dict[str, Any]]:
    """Other values at the rungs, other comparisons, with the chosen rule's grace and a harder one."""
    rows = []
    for early in (CHOSEN, StopEarly(reduction=5)):
        first = round(early.grace * bench.grids[0].num_steps)
        makers: dict[str, Callable[[Grid], Callable[[], Rule]]] = {"the loss": of(early)}
        transforms: dict[str, alternatives.Values] = {
            "its slope added": alternatives.slope(0.5),
            "extrapolated by a power law": alternatives.power_law,
            "final loss, learned from the other grids": alternatives.learned,
            "final loss, known beforehand": alternatives.oracle,
        }
        for name, transform in transforms.items():
            values = {grid.name: transform(grid, bench.others(grid)) for grid in bench.grids}
            makers[name] = lambda grid, values=values, early=early: (  # type: ignore[misc]
                lambda: Replaced(make_rule(early, grid.num_steps), values[grid.name])
            )
        for slack in (0.02, 0.05):
            makers[f"the loss, with {slack:.0%} slack"] = lambda grid, slack=slack, first=first, early=early: (  # type: ignore[misc]
                lambda: SeesLosses(first, early.reduction, slack)
            )
        makers["the loss, among like learning rates"] = lambda grid, first=first, early=early: (  # type: ignore[misc]
            lambda: SeesLosses(first, early.reduction, alike=log_rates(grid))
        )
        for name, maker in makers.items():
            row = {"compared": name, "grace": early.grace, "reduction": early.reduction}
            rows.append(row | bench.figures(bench.run(maker, every=EVERY), EVERY))
            print(rows[-1], flush=True)
        waited = [alternatives.waiting(grid, first, early.reduction, EVERY) for grid in bench.grids]
        rows.append(
            {
                "compared": "the loss, all trials waiting for each other",
                "grace": early.grace,
                "reduction": early.reduction,
                "steps": [statistics.fmean(share for share, _ in waited)],
                "kept": [statistics.fmean(regret <= 2 * bench.noise for _, regret in waited)],
            }
        )
        print(rows[-1], flush=True)
    return rows


def log_rates(grid: Grid) -> dict[str, float]:
    """The logarithm of each trial's learning rate."""
    return {trial: math.log(values["optimizer.lr"]) for trial, values in grid.values.items()}


def bands(bench: Bench) -> list[dict[str, Any]]:
    """By learning rate: trials that end, or would have ended, in the best quarter, and how often they were stopped."""
    rows = []
    for early, every in (RULES[2], (CHOSEN, EVERY), (StopEarly(grace=0.2), EVERY)):
        outcomes = bench.run(of(early), every=every)
        for low, high in pairwise(BANDS):
            stopped: list[int] = []
            num_top = num_all = 0
            for grid, replayed in zip(bench.grids, outcomes, strict=True):
                top = set(grid.ranking[: len(grid.curves) // 4])
                inside = [trial for trial in grid.curves if low <= grid.values[trial]["optimizer.lr"] < high]
                num_all += len(inside)
                num_top += len(top & set(inside))
                stopped += [one.trained[trial] for one in replayed for trial in inside if trial in top]
            ends = Counter(stopped)
            before_half = sum(count for step, count in ends.items() if step < bench.grids[0].num_steps / 2)
            rows.append(
                {
                    "rule": name_of(early),
                    "learning rate": f"{low:g}–{high:g}",
                    "trials": num_all,
                    "in the best quarter": num_top,
                    "of these stopped": 1 - ends[bench.grids[0].num_steps] / len(stopped) if stopped else None,
                    "before half-way": before_half / len(stopped) if stopped else None,
                }
            )
            print(rows[-1], flush=True)
    return rows


def conditions(bench: Bench) -> dict[str, Any]:
    """What must be known to read the tables."""
    return {
        "curves": bench.path.name,
        "grids": len(bench.grids),
        "trials of a grid": len(bench.grids[0].curves),
        "steps of a trial": bench.grids[0].num_steps,
        "shuffles of each grid": bench.shuffles,
        "at a time": 4,
        "seed noise": round(bench.noise, 5),
        "repeated points": len(bench.repeated),
        "a validation takes as long as so many steps": bench.validation_steps,
        "time is relative to": "whole grids that validate every 15 steps",
    }


PARTS: dict[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "early_stopping": rules,
    "early_stopping_held_out": held_out,
    "early_stopping_bands": bands,
    "early_stopping_tried": tried,
}


def main(arguments: Iterable[str] | None = None) -> None:
    """Write every table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="some tables alone")
    parser.add_argument("--shuffles", type=int, default=200, help="of each grid (default: 200)")
    parser.add_argument("--curves", type=Path, default=CURVES, help=f"default: {CURVES}")
    parser.add_argument("--to", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    bench = Bench(options.curves, options.shuffles)
    for name in options.only:
        report(name, PARTS[name](bench), conditions(bench), options.to)


if __name__ == "__main__":
    main()
