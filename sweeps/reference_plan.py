"""What the pass over the start will take, with whose log-probabilities a preference loss compares.

They are computed once for each start that trials have, and kept for all of them: a forward pass over every pair of the
training rows, also where short trials see few of them, and of the validation rows. The pass is no trial's: its pack
works for all of them, and the ledger has it among what trials waited for.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.sweep import Sweep
from sweeps.trial import Trial
from sweeps.work import FORWARD_FLOPS, Cost, num_units, num_validation_rows, trial_costs, work_h


@dataclass(frozen=True)
class ReferencePlan:
    """The pass over the starts of a sweep, none of which is kept from before.

    Attributes:
        num_starts: Adapters that trials start from, or the base.
        num_pairs: Of each pass: training and validation rows.
        tokens: Of all passes, both answers with their prompts.
        pool: Where the first trial is cheapest.
        hours: Of all passes there; no trial takes a step before its own is done.
        unit_hours: ``hours`` times the GPUs (or cores) that a trial holds.
        usd: On ``pool``; ``usd_max`` is on the dearest pool of the sweep.
    """

    num_starts: int
    num_pairs: int
    tokens: int
    pool: str
    hours: float
    unit_hours: float
    usd: float
    usd_max: float

    @property
    def sources(self) -> dict[str, str]:
        """Where the numbers come from, in words."""
        forward = "2 × parameters × tokens / speed, no prefix shared, none kept from before"
        return {"reference": f"a forward pass over all training and validation pairs for each start: {forward}"}

    def line(self, unit: str) -> str:
        """The pass in words; ``unit`` is what an hour is of."""
        starts = "the start" if self.num_starts == 1 else f"{self.num_starts} starts"
        return (
            f"and beside the trials, once for all of them, log-probabilities of {self.num_pairs:,} pairs by {starts}: "
            f"at most {self.unit_hours:.3g} {unit}-hours, ${self.usd:.3g}"
        )


def reference_plan(sweep: Sweep, trials: Sequence[Trial], adapters: int = 1) -> ReferencePlan | None:
    """The pass over the starts of these trials; None where there is no trial, or no loss that compares with a start.

    Args:
        trials: Those that are known in advance.
        adapters: From so many each of them may start, where these are yet to be chosen.
    """
    if sweep.settings.get("method") != "dpo" or not trials:
        return None
    facts, settings = sweep.facts, trials[0].settings
    num_starts = len({_start(trial) for trial in trials}) * adapters
    num_pairs = facts.train_rows + num_validation_rows(facts, settings["train"])
    tokens = round(num_starts * num_pairs * facts.tokens_per_row)
    flops, units = FORWARD_FLOPS * tokens * facts.num_parameters, num_units(settings)
    costs = {pool.name: Cost(pool, 0.0, work_h(flops, pool, units), units) for pool in sweep.pools}
    cost = costs[trial_costs(sweep, trials[0])[0].pool.name]
    return ReferencePlan(
        num_starts=num_starts,
        num_pairs=num_pairs,
        tokens=tokens,
        pool=cost.pool.name,
        hours=cost.hours,
        unit_hours=cost.hours * units,
        usd=cost.usd,
        usd_max=max(one.usd for one in costs.values()),
    )


def _start(trial: Trial) -> str:
    """What tells a trial's start from another's: the base, and the adapter on it."""
    return json.dumps([trial.settings["base"], trial.settings["start"]["adapter"]], sort_keys=True)
