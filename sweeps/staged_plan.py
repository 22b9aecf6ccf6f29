"""What a staged sweep will take: each stage's own plan, their sum, and the budget of all of them together."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.plan import Limit, Plan, limit_of, plan
from sweeps.schema import Budget
from sweeps.sweep import Sweep

_SUMMED = ("num_trials", "gpu_hours", "usd", "usd_max", "expected_gpu_hours", "expected_usd")


@dataclass(frozen=True)
class StagedPlan:
    """The plans of the stages.

    Attributes:
        name: Of the whole.
        stages: By name, in their order.
        total: Their trials, unit-hours and dollars, summed up.
        wall_clock_h: Of one stage after the other; None without the machines.
        budget: Each limit of the budget of all stages.
        start_notes: Of each stage that starts from another, what is not known of its start yet.
    """

    name: str
    stages: dict[str, Plan]
    total: dict[str, float]
    wall_clock_h: float | None
    budget: tuple[Limit, ...]
    start_notes: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values, as ``podium plan -o json`` prints it."""
        return {
            "name": self.name,
            "stages": {name: made.to_dict() for name, made in self.stages.items()},
            "total": self.total,
            "wall_clock_h": self.wall_clock_h,
            "budget": [vars(limit) for limit in self.budget],
            "notes": list(self.start_notes.values()),
        }

    def lines(self) -> Iterator[str]:
        """The sum in words."""
        total = self.total
        units = " or ".join(dict.fromkeys(made.unit for made in self.stages.values()))
        yield (
            f"all {len(self.stages)} stages: {total['num_trials']:.0f} trials, at most {total['gpu_hours']:.3g} "
            f"{units}-hours, ${total['usd']:.3g} to ${total['usd_max']:.3g}"
        )
        if total["expected_gpu_hours"] < total["gpu_hours"]:
            expected = f"{total['expected_gpu_hours']:.3g} {units}-hours, ${total['expected_usd']:.3g}"
            yield f"with early stopping about {expected}"
        if passes := [made.reference for made in self.stages.values() if made.reference]:
            hours, usd = sum(one.unit_hours for one in passes), sum(one.usd for one in passes)
            yield f"and for the log-probabilities of their starts at most {hours:.3g} {units}-hours, ${usd:.3g}"
        for limit in self.budget:
            yield limit.line(" of all stages")
        yield from self.start_notes.values()


def staged_plan(
    name: str,
    sweeps: Mapping[str, Sweep],
    starts: Mapping[str, tuple[str, int]],
    budget: Budget,
    units: Mapping[str, int] | None = None,
    today: datetime.date | None = None,
) -> StagedPlan:
    """Plan every stage.

    Args:
        name: Of the whole.
        sweeps: The stages by name, in their order.
        starts: Of the later ones, the stage that it starts from, and from how many of its trials.
        budget: Of all of them together.
        units: As :func:`sweeps.plan.plan` takes it, and ``today``.
    """
    plans = {
        stage: plan(sweep, units, today, adapters=starts[stage][1] if stage in starts else 1)
        for stage, sweep in sweeps.items()
    }
    total = {key: sum(getattr(made, key) for made in plans.values()) for key in _SUMMED}
    hours = [made.wall_clock_h for made in plans.values()]
    wall = None if None in hours else sum(hour for hour in hours if hour is not None)
    limits = [
        limit_of("gpu_hours", budget.gpu_hours, total["gpu_hours"], total["expected_gpu_hours"]),
        limit_of("usd", budget.usd, total["usd"], total["expected_usd"]),
        limit_of("wall_clock_h", budget.wall_clock_s and budget.wall_clock_s / 3600, wall, wall),
    ]
    notes = {stage: _note(stage, *start) for stage, start in starts.items()}
    return StagedPlan(name, plans, total, wall, tuple(limit for limit in limits if limit), notes)


def _note(stage: str, source: str, top: int) -> str:
    whom = f"the champion of {source}" if top == 1 else f"the best {top} of {source}"
    return (
        f"{stage} starts from {whom}, which is not known yet: its rank, and with it the ids of the trials, are taken "
        "from the recipe"
    )


def first_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every column that some of the rows have, in the order in which they first come."""
    return list(dict.fromkeys(key for row in rows for key in row))
