"""What training takes on a pool: the arithmetic of tokens, and its hours and dollars.

The time of a trial on a pool, in seconds, is

    startup + (steps × batch × tokens per row × 4 N + validations × rows × tokens per row × 2 N) / (speed × units)

with N the base's parameters. A training token costs 2 N FLOPs forward and 2 N backward, because a frozen weight has no
gradient of its own; a validation token costs the forward pass. Validation runs every ``train.validate_every`` steps and
at the end, over a seventh of the train split (the 10 % beside the 70 %), or over ``train.validation_rows`` where these
are fewer. ``units`` is ``parallel.gpus``; on a CPU pool a unit is a core.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.facts import Pool, RecipeFacts
from sweeps.sweep import Sweep
from sweeps.trial import Trial

TRAIN_FLOPS = 4  # per parameter and token of a frozen base: 2 forward, 2 backward
FORWARD_FLOPS = 2
VALIDATION_SHARE = 1 / 7  # rows of validation per row of training: 10 % and 70 % of the data


@dataclass(frozen=True)
class Cost:
    """Something that is computed on one pool, early stopping left out."""

    pool: Pool
    startup_h: float
    work_h: float
    units: int

    @property
    def hours(self) -> float:
        """Of the wall clock."""
        return self.startup_h + self.work_h

    @property
    def usd(self) -> float:
        """Of all its units."""
        return self.hours * self.units * self.pool.price.usd_per_hour

    def expected_hours(self, share: float) -> float:
        """A trial that is stopped has started all the same."""
        return self.startup_h + share * self.work_h


def trial_costs(sweep: Sweep, trial: Trial) -> list[Cost]:
    """What a trial takes on each pool of the sweep, the cheapest first."""
    facts, train = sweep.facts, trial.settings["train"]
    every = train.get("validate_every")
    num_validations = math.ceil(trial.max_steps / every) if every else 1
    train_tokens = trial.max_steps * train["batch_size"] * facts.tokens_per_row
    validation_tokens = num_validations * num_validation_rows(facts, train) * facts.tokens_per_row
    flops = (TRAIN_FLOPS * train_tokens + FORWARD_FLOPS * validation_tokens) * facts.num_parameters
    units = num_units(trial.settings)
    costs = [Cost(pool, pool.startup_s / 3600, work_h(flops, pool, units), units) for pool in sweep.pools]
    return sorted(costs, key=lambda cost: (cost.usd, cost.hours))


def num_validation_rows(facts: RecipeFacts, train: Mapping[str, Any]) -> int:
    """The rows of one validation, by the ``train`` block of a trial."""
    split = math.ceil(facts.train_rows * VALIDATION_SHARE)
    return min(split, train.get("validation_rows") or split)


def num_units(settings: Mapping[str, Any]) -> int:
    """The GPUs (or cores) that a trial holds."""
    return max(1, int(settings.get("parallel", {}).get("gpus") or 1))


def work_h(flops: float, pool: Pool, units: int) -> float:
    """Hours of so much arithmetic."""
    return flops / (pool.speed.achieved_tflops * 1e12 * units) / 3600
