"""Replays sweeps on measured curves: the same trials in another order, stopped by a rule, without training anything."""

import heapq
import json
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.halving import Rule

CURVES = Path(__file__).resolve().parents[1] / "results" / "early_stopping_curves.json"
PACE = (0.8, 1.25)  # a trial's time for a step, drawn evenly: in a sweep they do not keep step either

Curve = Mapping[int, float]


@dataclass(frozen=True)
class Grid:
    """Trials of one sweep, each trained to its end.

    Attributes:
        curves: Validation loss by step, by trial, the recipe's default first; shorter where a trial diverged.
        values: Swept values, by trial.
    """

    name: str
    curves: Mapping[str, Curve]
    values: Mapping[str, Mapping[str, Any]]
    num_steps: int

    def final(self, trial: str) -> float:
        """The loss at the end; infinite where the trial diverged."""
        return self.curves[trial].get(self.num_steps, math.inf)

    @property
    def ranking(self) -> list[str]:
        """Trials, the best at the end first."""
        return sorted(self.curves, key=self.final)


@dataclass(frozen=True)
class Outcome:
    """What a sweep spent and found.

    Attributes:
        share: Steps trained, of those of the whole grid.
        regret: Final loss of the best trial that came to its end, less that of the grid's best.
        trained: The last step of every trial.
        num_reports: Validations, of all trials.
    """

    share: float
    regret: float
    trained: Mapping[str, int]
    num_reports: int


def load(path: Path = CURVES) -> list[Grid]:
    """The measured grids."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [grid_of(content, name, ids) for name, ids in content["grids"].items()]


def grid_of(content: Mapping[str, Any], name: str, ids: Sequence[str]) -> Grid:
    """A grid of these trials."""
    steps, trials = content["steps"], content["trials"]
    curves = {key: dict(zip(steps, trials[key]["val/loss"], strict=False)) for key in ids}
    return Grid(name, curves, {key: trials[key]["values"] for key in ids}, steps[-1])


def seed_noise(path: Path = CURVES) -> tuple[float, list[list[float]]]:
    """Standard deviation of the final loss over training seeds, pooled over the repeated points, and their losses."""
    content = json.loads(path.read_text(encoding="utf-8"))
    points = [[content["trials"][key]["val/loss"][-1] for key in ids] for ids in content["repeats"]]
    return math.sqrt(statistics.fmean(statistics.variance(losses) for losses in points)), points


def replay(grid: Grid, order: Sequence[str], rule: Rule, concurrency: int, every: int, draw: random.Random) -> Outcome:
    """Run the trials in this order, so many at a time, each reporting every so many steps; the default is spared."""
    spared = next(iter(grid.curves))
    waiting = list(reversed(order))
    running: list[tuple[float, float, str, int, float]] = []  # time, a draw that breaks ties, trial, next report, pace
    trained: dict[str, int] = {}
    num_reports = 0

    def start(now: float) -> None:
        if waiting:
            pace = draw.uniform(*PACE)
            heapq.heappush(running, (now + every * pace, draw.random(), waiting.pop(), every, pace))

    for _ in range(concurrency):
        start(0.0)
    while running:
        now, _, trial, step, pace = heapq.heappop(running)
        loss = grid.curves[trial].get(step)
        num_reports += loss is not None
        ends = loss is None or (rule.take(trial, step, loss) and trial != spared)
        if ends or step == grid.num_steps:
            trained[trial] = step
            start(now)
            continue
        following = min(grid.num_steps, step + every)
        heapq.heappush(running, (now + (following - step) * pace, draw.random(), trial, following, pace))
    share = sum(trained.values()) / (grid.num_steps * len(grid.curves))
    finished = [grid.final(trial) for trial, step in trained.items() if step == grid.num_steps]
    regret = min(finished, default=math.inf) - grid.final(grid.ranking[0])
    return Outcome(share, regret, trained, num_reports)


def replays(
    grid: Grid,
    make_rule: Callable[[], Rule],
    *,
    concurrency: int = 4,
    every: int = 6,
    shuffles: int = 200,
) -> list[Outcome]:
    """A grid in so many shuffled orders, the same ones for every rule."""
    draw = random.Random(f"{grid.name} {concurrency}")
    outcomes = []
    for _ in range(shuffles):
        order = list(grid.curves)
        draw.shuffle(order)
        outcomes.append(replay(grid, order, make_rule(), concurrency, every, random.Random(draw.random())))
    return outcomes
