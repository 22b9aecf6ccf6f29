"""What the ledger knows of an arm as claims, and how far one arm is from another."""

from collections.abc import Mapping
from typing import Any

from analysis.claims import Claim, Relative, relative
from sweeps.metrics import BY_NAME
from tracking.ledger import SweepState

REQUESTS = "latency requests"
DATA_OF = {"latency": REQUESTS, "serving": REQUESTS}  # of what an evaluation was measured on, where that is no split
MEDIAN = "latency/formulation_p50_s"


def measured(state: SweepState, arm: str, metric: str, name: str | None = None) -> Claim | None:
    """A metric of an arm on the challenge set, or a latency, or what that comes to in dollars; None where not measured.

    Args:
        state: The sweep.
        arm: A trial's id, or ``base``, ``incumbent``, ….
        metric: By its name.
        name: What the claim calls the arm; by default ``arm``.
    """
    for evaluation in state.evaluations_of(arm):
        value = evaluation.metrics.get(metric)
        if value is not None and evaluation.split in ("challenge", "latency", "serving"):
            n = evaluation.detail.get("counts", {}).get(metric, evaluation.n)  # fewer where only some items have it
            rows = state.facts.get("data", {}).get(evaluation.split, {})
            data = DATA_OF.get(evaluation.split, evaluation.split)
            if rate := evaluation.detail.get("rate"):
                data = _loaded(data, rate)
            return Claim(metric, name or arm, value, data, n, rows.get("sha256"))
    return None


def served(grid: Mapping[str, Any] | None, kind: str, tp: int, name: str) -> Claim | None:
    """The median time that a server of the grid takes for an answer, at the rate that all of its servers bore first.

    Args:
        grid: As ``analysis.latency.read_grid`` has it.
        kind: Of the GPU.
        tp: GPUs of the server.
        name: What the claim calls it.
    """
    for point in grid["points"] if grid else ():
        if (point["accelerator"], point["tp"]) == (kind, tp) and point["runs"]:
            run = point["runs"][0]
            value = run["metrics"].get(MEDIAN)
            return None if value is None else Claim(MEDIAN, name, value, _loaded(REQUESTS, run["rate"]), run["n"])
    return None


def _loaded(data: str, rate: float) -> str:
    """Requests under a load: figures at another one, or one request at a time, are not to be compared with theirs."""
    return f"{data} at {rate:g}/s"


def change(ours: Claim, baseline: Claim) -> tuple[Relative | None, str]:
    """A figure against a baseline's, or None and a sentence why nothing can be said."""
    if (ours.data, ours.n, ours.sha256) != (baseline.data, baseline.n, baseline.sha256):
        return None, f"{ours.arm} and {baseline.arm} were measured on other items"
    if ours.metric in BY_NAME and BY_NAME[ours.metric].unit in ("share", "0–1"):
        return None, "no percentage is taken of a share"
    found = relative(ours, baseline)
    return found, "" if found else f"{baseline.arm} is at 0: nothing is a percentage of that"
