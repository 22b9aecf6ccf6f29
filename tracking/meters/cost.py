"""Unit-seconds (of a GPU; on a CPU pool, of a core) and what they cost, kept apart by what they were spent on."""

from typing import Any, Literal

from sweeps.facts import Pool
from tracking.ledger import CostEntry, SweepState

Kind = Literal["training", "evaluation", "idle", "failed"]
KINDS: tuple[Kind, ...] = ("training", "evaluation", "idle", "failed")


def cost_of(kind: Kind, pool: Pool, unit_s: float, trial: str | None = None) -> CostEntry:
    """``unit_s`` unit-seconds of ``pool`` at its price. Eight GPUs for a second are eight unit-seconds."""
    return CostEntry(kind, pool.name, unit_s, unit_s / 3600 * pool.price.usd_per_hour, trial)


def idle_seconds(capacity_units: int, wall_s: float, busy_s: float) -> float:
    """Unit-seconds that were held and did nothing: units × wall-clock seconds, less the unit-seconds in use.

    Never below zero: the clocks of many processes do not add up exactly.
    """
    return max(0.0, capacity_units * wall_s - busy_s)


def summary(state: SweepState) -> dict[str, Any]:
    """A sweep's costs: a share (``{"unit_s", "usd"}``) for each kind, and the totals over all of them.

    Totals are by the design's names: ``cost/gpu_s`` (unit-seconds), ``cost/usd``, and ``cost/idle_usd``, which
    ``cost/usd`` contains.
    """
    shares = {kind: {"unit_s": 0.0, "usd": 0.0} for kind in (*KINDS, *(entry.kind for entry in state.costs))}
    for entry in state.costs:
        shares[entry.kind]["unit_s"] += entry.unit_s
        shares[entry.kind]["usd"] += entry.usd
    return {
        **shares,
        "cost/gpu_s": sum(share["unit_s"] for share in shares.values()),
        "cost/usd": sum(share["usd"] for share in shares.values()),
        "cost/idle_usd": shares["idle"]["usd"],
    }


def trial_cost(state: SweepState, trial_id: str) -> dict[str, float]:
    """What one trial has cost so far, whatever it was spent on. Empty where nothing is recorded."""
    entries = [entry for entry in state.costs if entry.trial == trial_id]
    if not entries:
        return {}
    return {"cost/gpu_s": sum(entry.unit_s for entry in entries), "cost/usd": sum(entry.usd for entry in entries)}
