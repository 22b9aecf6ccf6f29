"""The rule that a sweep's champion is chosen by: one metric, its direction, and constraints that come first."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from sweeps.errors import InvalidInput, Problem
from sweeps.evaluating import Evaluate
from sweeps.metrics import BY_NAME
from sweeps.spec import Champion, Constraint
from tracking.ledger import SweepState

Mode = Literal["max", "min"]

LOSS = "val/loss"
ACCURACY = "dpo/reward_accuracy"
CHANGE = "dpo/chosen_logp_change"
SCORE = "quality/score"
JSON_VALID = "quality/json_valid"
QUALITY = ("quality/", "e2e/", "retrieval/")  # what an evaluation of answers measures; more is better
RETRIEVAL = ("e2e/score", "retrieval/ndcg_at_10")  # of a pipeline, what tables show
DIGITS = 12  # objectives equal after rounding to so many decimals are a tie


def failure(
    constraint: Constraint, metrics: Mapping[str, float], missing: Mapping[str, str] | None = None
) -> str | None:
    """Why ``metrics`` break a constraint, with the value; None when they keep it. What is not measured is not kept.

    Args:
        missing: Why a metric has no value, where that is known.
    """
    value = metrics.get(constraint.metric, math.nan)
    if math.isnan(value):
        why = (missing or {}).get(constraint.metric)
        told = f"not measured ({why})" if why else "not measured"
        return f"{constraint.metric} is {told}, must be {constraint.op} {constraint.bound:g}"
    if constraint.holds(value):
        return None
    return f"{constraint.metric} is {value:.6g}, must be {constraint.op} {constraint.bound:g}"


@dataclass(frozen=True)
class Rule:
    """Constraints first, then the best ``metric``."""

    metric: str
    mode: Mode
    constraints: tuple[Constraint, ...] = ()

    def __str__(self) -> str:
        limits = (
            f", subject to {' and '.join(str(constraint) for constraint in self.constraints)}"
            if self.constraints
            else ""
        )
        return f"{'highest' if self.mode == 'max' else 'lowest'} {self.metric}{limits}"

    def goodness(self, value: float) -> float:
        """The objective turned so that more is better, rounded so that ties are equal."""
        return round(value if self.mode == "max" else -value, DIGITS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "metric": self.metric,
            "mode": self.mode,
            "subject_to": {c.metric: f"{c.op} {c.bound!r}" for c in self.constraints},
        }


def rule_from_spec(spec: Mapping[str, Any]) -> Rule:
    """The rule of a sweep from its stored spec (``champion: {maximize | minimize, subject_to}``).

    Raises:
        InvalidInput: Both directions are set, or a bound cannot be read.
    """
    try:
        champion = Champion.model_validate(spec.get("champion") or {})
    except ValidationError as error:
        problems = [Problem(".".join(map(str, ("champion", *one["loc"]))), one["msg"]) for one in error.errors()]
        raise InvalidInput(problems) from None
    if champion.minimize is not None:
        return Rule(champion.minimize, "min", champion.constraints)
    return Rule(champion.maximize or _scored_by(spec) or SCORE, "max", champion.constraints)


def _scored_by(spec: Mapping[str, Any]) -> str | None:
    """What the sweep's own evaluation is best known by; None where that cannot be read of its spec."""
    try:
        return Evaluate.model_validate(spec.get("evaluate") or {}).objective
    except ValidationError:
        return None


def effective_rule(state: SweepState, rule: Rule | None = None) -> tuple[Rule, str | None]:
    """The rule that can be applied to a sweep, and a sentence where it differs from the one asked for.

    A sweep that evaluates no answers has no quality to choose by: its champion is the lowest validation loss, and the
    sentence says so. Where answers are to be evaluated and the metric is missing, the rule stays: no trial qualifies.
    """
    rule = rule or rule_from_spec(state.spec)
    if not rule.metric.startswith(QUALITY) or _evaluates(state):
        return rule, None
    by = Rule(LOSS, "min", rule.constraints)
    if not losses_compare(state):
        by = Rule(ACCURACY, "max", rule.constraints)
    word = "lowest" if by.mode == "min" else "highest"
    return by, f"No answers are evaluated, so there is no {rule.metric}: the choice is by the {word} {by.metric}."


def losses_compare(state: SweepState) -> bool:
    """Whether all trials have the same loss: preference trials need not, see ``sweeps.preferring``."""
    swept = {key for trial in state.drawn.values() for key in trial.values}
    return not (swept & set(BY_NAME[LOSS].scaled_by) and (state.recipe or {}).get("method") == "dpo")


def tie_break(state: SweepState) -> tuple[str, Mode, str]:
    """What decides first between equal objectives: a metric, its better side, and it in words."""
    if losses_compare(state):
        return LOSS, "min", "the lower validation loss"
    return CHANGE, "max", "the higher likelihood of the chosen answers"


def _evaluates(state: SweepState) -> bool:
    evaluate = state.spec.get("evaluate") or {}
    if any(evaluate.get(key) for key in ("metrics", "judge", "pipeline")):
        return True
    done = (evaluation for trial in state.trials.values() for evaluation in trial.evaluations)
    on_dev = [evaluation for evaluation in done if evaluation.split == "dev"]
    return any(value is not None for evaluation in on_dev for value in evaluation.metrics.values())
