"""What a sweep will take, before anything is started: trials, pools, hours and dollars, and where each is from.

``sweeps/work.py`` has the arithmetic.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sweeps import preferring, stopping
from sweeps.constraints import refusal
from sweeps.design_points import planned_points
from sweeps.facts import Pool
from sweeps.judge_plan import JudgePlan, judge_plan
from sweeps.metrics import BY_NAME
from sweeps.reference_plan import ReferencePlan, reference_plan
from sweeps.schema import StopEarly
from sweeps.sweep import Sweep
from sweeps.trial import Trial, num_steps
from sweeps.work import Cost, trial_costs


@dataclass(frozen=True)
class TrialPlan:
    """One planned trial, priced on the pool where it is cheapest.

    Attributes:
        hours: Wall-clock hours.
        unit_hours: ``hours`` times the GPUs (or cores) that it holds.
        usd: On ``pool``; ``usd_max`` is on the dearest pool of the sweep.
    """

    number: int
    id: str
    values: dict[str, Any]
    pool: str
    steps: int
    hours: float
    unit_hours: float
    usd: float
    usd_max: float


@dataclass(frozen=True)
class Limit:
    """One limit of the budget.

    Attributes:
        needed: What the whole sweep takes without early stopping; None where it cannot be known.
        expected: What it takes with early stopping; None likewise.
        stops: Whether the limit would stop the sweep, going by ``expected``.
    """

    name: str
    limit: float
    needed: float | None
    expected: float | None
    stops: bool | None

    def line(self, whose: str = "") -> str:
        """The limit in words."""
        needed = "unknown without the cluster" if self.expected is None else f"{self.expected:.3g} expected"
        verdict = {True: "it would stop the sweep", False: "enough", None: "not known"}[self.stops]
        return f"budget {self.name}{whose} {self.limit:g}: {needed}, {verdict}"


@dataclass(frozen=True)
class Plan:
    """What a sweep will take: training, the pass over its starts, and the judge.

    Evaluation, export and idle machines are not in it.

    Attributes:
        name: Of the sweep.
        trials: Those that are known in advance.
        num_trials: All of them, also those that are chosen while the sweep runs.
        num_chosen_later: ``num_trials`` without ``trials``; each is taken to need the mean of the known ones.
        chosen_by: The search algorithm.
        exhausted: The space has fewer distinct points than ``search.trials``.
        unit: What ``gpu_hours`` counts: ``GPU``, ``core`` (on CPU pools), or ``GPU or core``.
        gpu_hours: Unit-hours of all trials, none stopped early, each on its cheapest pool: an upper bound.
        usd: Their price; ``usd_max`` is on the dearest pools.
        expected_gpu_hours: With early stopping, see :func:`expected_share`. ``expected_usd`` likewise.
        share: The expected share of the steps that are trained.
        wall_clock_h: Expected hours with the units that were given; None without them.
        budget: Each limit of the budget.
        reference: What the losses of preference trials compare with; None for those of another method. It is charged to
            no trial and held against no limit of trials: in ``wall_clock_h``, and not in ``gpu_hours`` and ``usd``.
        judge: What its judge will be asked; None without one. Not in ``usd``.
        sources: Where every number comes from, in words.
        notes: What a reader should know besides.
    """

    name: str
    trials: tuple[TrialPlan, ...]
    num_trials: int
    num_chosen_later: int
    chosen_by: str
    exhausted: bool
    unit: str
    gpu_hours: float
    usd: float
    usd_max: float
    expected_gpu_hours: float
    expected_usd: float
    share: float
    wall_clock_h: float | None
    budget: tuple[Limit, ...]
    reference: ReferencePlan | None
    judge: JudgePlan | None
    sources: dict[str, str]
    notes: tuple[str, ...]

    def foretold(self) -> dict[str, Any]:
        """The totals that a sweep keeps, to hold against what it came to."""
        names = ("gpu_hours", "usd", "expected_gpu_hours", "expected_usd")
        judge = {"verdicts": self.judge.num_verdicts, "usd": self.judge.usd} if self.judge else None
        return {**{name: getattr(self, name) for name in names}, "judge": judge}

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, as ``podium plan -o json`` prints it."""
        result = asdict(self)
        for key in ("trials", "budget", "notes"):
            result[key] = list(result[key])
        return result

    def lines(self) -> list[str]:
        """The plan's totals in words, each with where its number comes from."""
        later = (
            f", {self.num_chosen_later} of them chosen by {self.chosen_by} while it runs"
            if self.num_chosen_later
            else ""
        )
        lines = [
            f"{self.num_trials} trials{later}",
            f"at most {self.gpu_hours:.3g} {self.unit}-hours, ${self.usd:.3g} on the cheapest pool of each trial, "
            f"${self.usd_max:.3g} on the dearest",
        ]
        if self.share < 1:
            lines.append(
                f"with early stopping about {self.expected_gpu_hours:.3g} {self.unit}-hours, ${self.expected_usd:.3g} "
                f"({self.share:.0%} of the steps)"
            )
        lines += [self.reference.line(self.unit)] if self.reference else []
        lines += self.judge.lines() if self.judge else []
        lines += [limit.line() for limit in self.budget]
        sources = {**self.sources, **(self.judge.sources if self.judge else {})}
        lines += [f"  {name}: {source}" for name, source in sources.items()]
        return [*lines, *self.notes]


def plan(
    sweep: Sweep, units: Mapping[str, int] | None = None, today: datetime.date | None = None, adapters: int = 1
) -> Plan:
    """Plan a sweep.

    Args:
        sweep: The sweep.
        units: GPUs (on a CPU pool, cores) that are there, by pool; without it no wall-clock time is given.
        today: Notes tell prices that are old by then.
        adapters: From so many each trial may start, where these are yet to be chosen.
    """
    design = planned_points(sweep)
    costs = [trial_costs(sweep, trial) for trial in design.trials]
    trials = tuple(_trial_plan(trial, cost) for trial, cost in zip(design.trials, costs, strict=True))
    early = sweep.spec.early_stopping
    kept = [trial for trial in design.trials if refusal(sweep, trial) is None]
    trained = [costs[trial.number] for trial in kept]
    num_trained = round(design.num_trials * len(trained) / len(costs))
    share = expected_share(sweep, early, max(1, num_trained)) if early else 1.0
    # Trials that a searcher will choose are taken to be like the known ones.
    factor = design.num_trials / len(trials)
    cheapest = [cost[0] for cost in costs]
    expected = [cost[0].expected_hours(share) * cost[0].units for cost in trained]
    prices = (cost[0].pool.price.usd_per_hour for cost in trained)
    reference = reference_plan(sweep, kept, adapters)
    gpu_hours = factor * sum(cost.hours * cost.units for cost in cheapest)
    usd = factor * sum(cost.usd for cost in cheapest)
    expected_gpu_hours = factor * sum(expected)
    expected_usd = factor * sum(hours * price for hours, price in zip(expected, prices, strict=True))
    before_h = reference.hours if reference else 0.0
    wall_full = _wall_clock_h(sweep, costs, design.num_trials, 1.0, units, before_h)
    wall = _wall_clock_h(sweep, trained, num_trained, share, units, before_h) if trained else 0.0
    budget = sweep.spec.budget
    wall_limit_h = budget.wall_clock_s / 3600 if budget.wall_clock_s is not None else None
    limits = (
        limit_of("gpu_hours", budget.gpu_hours, gpu_hours, expected_gpu_hours),
        limit_of("usd", budget.usd, usd, expected_usd),
        limit_of("wall_clock_h", wall_limit_h, wall_full, wall),
    )
    return Plan(
        name=sweep.spec.name,
        trials=trials,
        num_trials=design.num_trials,
        num_chosen_later=design.num_trials - len(trials),
        chosen_by=sweep.spec.search.algorithm,
        exhausted=design.exhausted,
        unit=_unit(sweep.pools),
        gpu_hours=gpu_hours,
        usd=usd,
        usd_max=factor * sum(trial.usd_max for trial in trials),
        expected_gpu_hours=expected_gpu_hours,
        expected_usd=expected_usd,
        share=share * len(trained) / len(costs),
        wall_clock_h=wall,
        budget=tuple(limit for limit in limits if limit is not None),
        reference=reference,
        judge=judge_plan(sweep, design.num_trials),
        sources={**_sources(sweep, early, share), **(reference.sources if reference else {})},
        notes=(
            *_notes(sweep, design.exhausted, design.num_trials, len(costs), len(costs) - len(trained)),
            *(note for pool in sweep.pools if today and (note := pool.price.age_note(pool.name, today))),
        ),
    )


def expected_share(sweep: Sweep, early: StopEarly, num_trials: int) -> float:
    """The share of all steps that is trained with early stopping, which spares the recipe's own values."""
    if early.algorithm == "asha":
        share = share_of_asha(early)
    else:
        max_steps = num_steps(sweep.settings, sweep.facts.train_rows)
        every = int(sweep.settings["train"].get("validate_every") or max_steps)
        reports = [*range(every, max_steps, every), max_steps]
        first = stopping.first_rung(early.grace, max_steps)
        share = stopping.expected_share(num_trials, reports, first, early.reduction)
    return share + (1 - share) / num_trials if sweep.spec.search.start_at == "default" else share


def share_of_asha(early: StopEarly) -> float:
    """The share of all steps that successive halving with rungs trains.

    With rungs r₀ = grace, r₁ = grace × η, … below 1 and η = reduction, every trial reaches r₀ and a share η⁻⁽ᵏ⁺¹⁾ goes
    on from rung k, so that the share is r₀ + Σₖ η⁻⁽ᵏ⁺¹⁾ (rₖ₊₁ − rₖ), the last rung followed by 1. ASHA does not wait
    for a rung to fill, lets more trials pass at the beginning, and so trains more: in measured sweeps of 20 trials a
    tenth of all steps (docs/early_stopping.md).
    """
    rungs: list[float] = []
    rung = early.grace
    while rung < 1 and len(rungs) < 64:
        rungs.append(rung)
        rung *= early.reduction
    if not rungs:
        return 1.0
    ends = [*rungs[1:], 1.0]
    steps = (
        early.reduction ** -(k + 1) * (end - begin) for k, (begin, end) in enumerate(zip(rungs, ends, strict=True))
    )
    return min(1.0, rungs[0] + sum(steps))


def _trial_plan(trial: Trial, costs: Sequence[Cost]) -> TrialPlan:
    best = costs[0]
    return TrialPlan(
        number=trial.number,
        id=trial.id,
        values=trial.values,
        pool=best.pool.name,
        steps=trial.max_steps,
        hours=best.hours,
        unit_hours=best.hours * best.units,
        usd=best.usd,
        usd_max=costs[-1].usd,
    )


def _wall_clock_h(
    sweep: Sweep,
    costs: Sequence[Sequence[Cost]],
    num_trials: int,
    share: float,
    units: Mapping[str, int] | None,
    before_h: float,
) -> float | None:
    """Hours until all trials are done, every pool that has room working at its own pace after ``before_h``.

    A pool with s places and a mean of h hours a trial finishes s / h trials an hour; the places of all pools together
    are capped by ``concurrency``. It is never less than the shortest trial that fits.
    """
    if units is None:
        return None
    rate, places = 0.0, 0
    shortest = math.inf
    for pool in sweep.pools:
        here = [cost for trial in costs for cost in trial if cost.pool.name == pool.name]
        room = units.get(pool.name, 0) // max(cost.units for cost in here)
        mean_h = sum(cost.expected_hours(share) for cost in here) / len(here)
        if room > 0 and mean_h > 0:
            rate += room / mean_h
            places += room
            shortest = min(shortest, mean_h)
    if not places:
        return None
    if sweep.spec.concurrency is not None:
        rate *= min(1.0, sweep.spec.concurrency / places)
    return before_h + max(num_trials / rate, shortest)


def limit_of(name: str, limit: float | None, needed: float | None, expected: float | None) -> Limit | None:
    """A limit of the budget beside what it is asked for; None where there is none."""
    if limit is None:
        return None
    return Limit(name, limit, needed, expected, None if expected is None else expected > limit)


def _unit(pools: Sequence[Pool]) -> str:
    devices = {pool.device for pool in pools}
    if len(devices) > 1:
        return "GPU or core"
    return "core" if devices == {"cpu"} else "GPU"


def _sources(sweep: Sweep, early: StopEarly | None, share: float) -> dict[str, str]:
    """Where each number of the plan comes from."""
    facts = sweep.facts
    formula = "startup + (4 × parameters × training tokens + 2 × parameters × validation tokens) / speed"
    sources = {
        "steps": "train.max_steps, or train.epochs × train_rows / train.batch_size",
        "hours": f"{formula}, on the cheapest pool for the trial",
        "gpu_hours": "sum of the trials' hours × units, none stopped early; unknown trials as the mean of the known",
        "usd": "hours × units × price of the pool",
        "num_parameters": facts.sources.get("num_parameters", f"recipe {facts.name}"),
        "train_rows": facts.sources.get("train_rows", f"recipe {facts.name}"),
        "tokens_per_row": facts.sources.get("tokens_per_row", f"recipe {facts.name}"),
        "validation": "a forward pass over train_rows / 7 rows, or train.validation_rows where these are fewer, every "
        "train.validate_every steps and at the end",
        "expected": "no trial is stopped for falling behind",
    }
    if early is not None:
        name = "ASHA" if early.algorithm == "asha" else "continuous halving"
        halving = f"grace {early.grace:g}, reduction {early.reduction:g}"
        sources["expected"] = f"{name} with {halving} trains {share:.0%} of the steps"
    for pool in sweep.pools:
        unit = "core" if pool.device == "cpu" else "GPU"
        sources[f"price of {pool.name}"] = pool.price.in_words(unit)
        sources[f"speed of {pool.name}"] = f"{pool.speed.achieved_tflops:g} TFLOP/s per {unit}: {pool.speed.source}"
        sources[f"startup of {pool.name}"] = f"{pool.startup_s:g} s: pool {pool.name}"
    return sources


def _notes(sweep: Sweep, exhausted: bool, num_trials: int, num_known: int, num_refused: int) -> list[str]:
    notes = ["machines for training only: evaluation, export and idle time are not in these numbers"]
    if num_refused:
        known = [one for one in sweep.spec.enforced if one.metric in BY_NAME and BY_NAME[one.metric].known_before]
        bounds = ", ".join(map(str, known))
        notes.append(f"{num_refused} of the {num_known} known trials are not trained: they do not keep to {bounds}")
    if exhausted:
        wanted = sweep.spec.search.trials
        notes.append(
            f"the space has fewer distinct points than the {wanted} that search.trials asks for: {num_trials} trials"
        )
    moved = [key for key in sweep.space.dimensions if key.split(".")[0] in ("base", "data")]
    if moved:
        notes.append(f"{', '.join(moved)} is swept, but all trials are priced with the recipe's own base and data")
    return [*notes, *preferring.notes(sweep)]
