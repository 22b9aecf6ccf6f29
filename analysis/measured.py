"""What the ledger knows of an arm as claims, and how far one arm is from another."""

from analysis.claims import Claim, Relative, relative
from sweeps.metrics import BY_NAME
from tracking.ledger import Evaluation, SweepState

DATA_OF = {
    "latency": "latency requests",
    "serving": "latency requests",
}  # of what an evaluation was measured on, where that is no split


def measured(state: SweepState, arm: str, metric: str, name: str | None = None) -> Claim | None:
    """A metric of an arm on the challenge set, or a latency, or what that comes to in dollars; None where not measured.

    Args:
        state: The sweep.
        arm: A trial's id, or ``base``, ``incumbent``, ….
        metric: By its name.
        name: What the claim calls the arm; by default ``arm``.
    """
    for evaluation in _evaluations(state, arm):
        value = evaluation.metrics.get(metric)
        if value is not None and evaluation.split in ("challenge", "latency", "serving"):
            n = evaluation.detail.get("counts", {}).get(metric, evaluation.n)  # fewer where only some items have it
            rows = state.facts.get("data", {}).get(evaluation.split, {})
            data = DATA_OF.get(evaluation.split, evaluation.split)
            if rate := evaluation.detail.get("rate"):
                data = f"{data} at {rate:g}/s"  # under load, and one at a time: not to be compared
            return Claim(metric, name or arm, value, data, n, rows.get("sha256"))
    return None


def _evaluations(state: SweepState, arm: str) -> list[Evaluation]:
    return state.trials[arm].evaluations if arm in state.trials else state.arms.get(arm, [])


def change(ours: Claim, baseline: Claim) -> tuple[Relative | None, str]:
    """A figure against a baseline's, or None and a sentence why nothing can be said."""
    if (ours.data, ours.n, ours.sha256) != (baseline.data, baseline.n, baseline.sha256):
        return None, f"{ours.arm} and {baseline.arm} were measured on other items"
    if ours.metric in BY_NAME and BY_NAME[ours.metric].unit in ("share", "0–1"):
        return None, "no percentage is taken of a share"
    found = relative(ours, baseline)
    return found, "" if found else f"{baseline.arm} is at 0: nothing is a percentage of that"
