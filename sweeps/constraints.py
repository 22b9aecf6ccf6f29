"""Constraints that a trial can no longer keep, as pure functions: what to refuse, and what to stop.

Two kinds of metrics allow it. What a trial's settings alone decide (``adapter/parameters``) is known before it has
trained a step. What only grows (``cost/usd``, ``cost/gpu_s``) and has passed an upper bound has passed it for good. Of
all others a later value may be anything: a validation loss above its bound may still fall below it, and no curve that
was tried foretells it well enough to stop a trial that would have qualified (docs/early_stopping.md). So a trial that
ends within its constraints is never stopped for one.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from sweeps.facts import RecipeFacts
from sweeps.metrics import BY_NAME
from sweeps.schema import Constraint
from sweeps.sweep import Sweep
from sweeps.trial import Trial, make_trial


def known_before(settings: Mapping[str, Any], facts: RecipeFacts) -> dict[str, float]:
    """The metrics of a trial that its settings alone decide, by name; without those that cannot be told.

    ``adapter/parameters`` is the sum of rank × (inputs + outputs) over the layers that ``lora.targets`` names. It needs
    the shapes of the base's layers, which are at hand for a local base that is the recipe's own. A trial that puts a
    new adapter beside the one that it starts from has the ranks of both, over the layers of both.
    """
    if facts.layers is None or settings["base"]["path"] != facts.settings["base"]["path"]:
        return {}
    start = settings.get("start") or {}
    beside = start.get("adapter") is not None and start["mode"] == "stack"
    parts = [settings["lora"], *([facts.starts[start["adapter"]].lora] if beside else [])]
    patterns = [pattern for part in parts for pattern in part["targets"]]
    widths = (
        outputs + inputs
        for name, (outputs, inputs) in facts.layers.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    )
    return {"adapter/parameters": float(sum(part["rank"] for part in parts) * sum(widths))}


def broken_for_good(constraints: Iterable[Constraint], metrics: Mapping[str, float | None]) -> str | None:
    """Why a trial can keep its constraints no more, whatever it still does; None while it can.

    Args:
        constraints: Those of the champion.
        metrics: What is known of the trial so far; of what only grows, no more than it has now.
    """
    for constraint in constraints:
        metric, value = BY_NAME.get(constraint.metric), metrics.get(constraint.metric)
        if metric is None or value is None or constraint.holds(value):
            continue
        if metric.known_before:
            return f"{metric.name} is {_number(value)}, must be {constraint.op} {_number(constraint.bound)}"
        if metric.only_grows and constraint.op in ("<", "<="):
            return f"{metric.name} is at least {_number(value)}, must be {constraint.op} {_number(constraint.bound)}"
    return None


def refusal(sweep: Sweep, trial: Trial) -> str | None:
    """Why a trial is not even started: its settings alone break a constraint. None where it is."""
    if trial.id == spared(sweep):
        return None
    broken = broken_for_good(sweep.spec.enforced, known_before(trial.settings, sweep.facts))
    return f"not started: {broken}" if broken else None


def spared(sweep: Sweep) -> str | None:
    """The id of the trial that is never stopped early: the recipe's own values, where the sweep starts there."""
    return make_trial(sweep, 0, {}).id if sweep.spec.search.start_at == "default" else None


def violation(constraint: Constraint, value: float) -> float:
    """How far a value is from keeping a constraint, as a share of the bound: above 0 exactly where it does not."""
    if constraint.holds(value):
        return 0.0
    distance = abs(value - constraint.bound) / (abs(constraint.bound) or 1.0)
    return max(distance, 1e-12)  # a strict bound is broken by the bound itself


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.6g}"
