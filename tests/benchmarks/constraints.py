"""Constraint-aware early stopping on the demo: steps saved where a third of the space breaks a constraint.

A sweep is run once as it is, and once for each bound with ``stop_early: {algorithm: none}``, which ends trials for
constraints alone. Without it the champion is chosen by the same rule, bound included, among all that was trained: it
must be the same trial. The bound on what a trial costs is put between those of small and of large batches, as the first
run has them, so that a third of its trials is above it.
"""

import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.champion import choose
from analysis.frame import trial_metrics
from analysis.rule import Rule
from sweeps.schema import Constraint
from tests.benchmarks.end_to_end import _call as call
from tests.benchmarks.report import report
from tracking.ledger import State, SweepState, read

SWEEP = """\
name: constraints
recipe: tiny_commerce_sft
pools: [cpu]
set: {train.max_steps: 30, train.validate_every: 3, train.micro_batch_size: 2}
space:
  lora.rank: choice(4, 8, 32)
  train.batch_size: choice(2, 4, 32)
search: {algorithm: grid, start_at: null}
evaluate: {metrics: [shopping], dev: 8, challenge: 8, latency: {top: 0}}
champion: {minimize: val/loss%s}
%s
"""
CONSTRAINED = ", subject_to: {%s: '%s %r'}"


@dataclass(frozen=True)
class Ran:
    """A sweep that came to its end: its state, and wall seconds from nothing to its last trial."""

    state: SweepState
    seconds: float

    @property
    def steps(self) -> int:
        return sum(trial.step for trial in self.state.trials.values())

    @property
    def evaluated(self) -> int:
        return sum(any(one.split == "dev" for one in trial.evaluations) for trial in self.state.trials.values())


def run(repeats: int) -> None:
    """Run the sweep without a bound and with each of two, and write the report; ``repeats`` does not count."""
    whole = _run(SWEEP % ("", ""))
    trials = whole.state.trials.values()
    largest = max(trial.metrics["adapter/parameters"] or 0 for trial in trials if trial.values["lora.rank"] < 32)
    bounds = [
        Constraint(metric="adapter/parameters", op="<=", bound=largest),
        Constraint(metric="cost/gpu_s", op="<", bound=_between(whole.state)),
    ]
    rows = [_row(whole, constraint) for constraint in bounds]
    report("constraints", rows, {"sweep": SWEEP, "seconds": "wall, from nothing to the last trial's score"})


def _row(whole: Ran, constraint: Constraint) -> dict[str, Any]:
    """What the bound saves; fails where it changes the champion."""
    rule = Rule("val/loss", "min", (constraint,))
    before = choose(whole.state, rule)
    bound = CONSTRAINED % (constraint.metric, constraint.op, constraint.bound)
    stopped = _run(SWEEP % (bound, "stop_early: {algorithm: none}"))
    after = choose(stopped.state)
    broken = [
        trial
        for trial in whole.state.trials.values()
        if not constraint.holds(trial_metrics(whole.state, trial)[constraint.metric])
    ]
    losses = [
        one.state.trials[choice.champion].metrics["val/loss"]
        for one, choice in ((whole, before), (stopped, after))
        if choice.champion is not None
    ]
    ended = [trial for trial in stopped.state.trials.values() if trial.state is State.STOPPED]
    print(f"{constraint}: {whole.steps} steps, {stopped.steps} with early stopping", flush=True)
    return {
        "constraint": str(constraint),
        "trials": len(whole.state.trials),
        "break it": len(broken),
        "ended early": len(ended),
        "steps without": whole.steps,
        "steps": stopped.steps,
        "steps saved": f"{1 - stopped.steps / whole.steps:.0%}",
        "evaluated without": whole.evaluated,
        "evaluated": stopped.evaluated,
        "s without": whole.seconds,
        "s": stopped.seconds,
        "same champion": before.champion == after.champion,
        "its val/loss without, with": ", ".join(f"{loss:.4f}" for loss in losses),
        "one reason": ended[0].reason if ended else None,
    }


def _between(state: SweepState) -> float:
    """A bound between what the third of the trials with the largest batches costs and what the others do."""
    costs: dict[bool, list[float]] = {True: [], False: []}
    for trial in state.trials.values():
        costs[trial.values["train.batch_size"] == 32].append(trial_metrics(state, trial)["cost/gpu_s"])
    low, high = max(costs[False]), min(costs[True])
    if low >= high:
        raise SystemExit(f"no bound tells large batches (from {high:.1f} s) from small ones (up to {low:.1f} s) here")
    return round(math.sqrt(low * high), 2)


def _run(text: str) -> Ran:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraints.yaml"
        path.write_text(text)
        began = time.time()
        call(folder, "-m", "launchers.cli", "submit", str(path))
        run_folder = Path(folder) / "home" / "runs" / "constraints"
        events = [json.loads(line) for line in (run_folder / "ledger.jsonl").read_text().splitlines()]
        last = max(one["t"] for one in events if one["event"] == "state" and one["state"] in ("DONE", "STOPPED"))
        return Ran(read(run_folder), last - began)
