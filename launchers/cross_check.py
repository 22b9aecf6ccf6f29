"""The champion's trial once more on another engine, from the same start over the same rows: does it learn the same?

Two engines that agree at every report leave little room for a mistake in one of them. The agreement is part of the
champion's certificate.
"""

import shutil
import time
from pathlib import Path
from typing import Any

from launchers.allocation import charge_work
from launchers.cluster import check_alive, num_cores
from recipes.engines.protocol import Job, TrainingFailed
from tracking.ledger import Ledger, TrialState

FOLDER = "cross_check"
COMPARED = ("train/loss", "val/loss")
REPORTS = 4  # at most: each costs a validation, and a difference stays for all that follow


class CrossCheck:
    """A trial that is being trained again, beside whatever else goes on.

    Args:
        engine: The other engine's name.
        job: The fields of the trial's own ``Job``, as texts and plain values.
        trial: What it reported.
    """

    def __init__(self, engine: str, job: dict[str, Any], trial: TrialState) -> None:
        import ray

        self._engine, self._trial, self._began = engine, trial, time.time()
        # On a CPU nothing else is left to do but to read the challenge set.
        threads = job["threads"] if job["device"] == "gpu" else num_cores()
        again = {**job, "folder": str(Path(job["folder"]) / FOLDER), "threads": threads}
        train = job["settings"]["train"]
        every = spread(train["validate_every"], trial.step, train["max_steps"])
        again["settings"] = {**job["settings"], "engine": engine, "train": {**train, "validate_every": every}}
        gpus = 1 if job["device"] == "gpu" else 0
        self._units = gpus or None  # on a CPU all cores
        self._reference = ray.remote(num_cpus=gpus, num_gpus=gpus, max_retries=1)(_retrain).remote(again, trial.step)

    def abandon(self) -> None:
        """End it: its trial is not the champion after all."""
        import ray

        ray.cancel(self._reference, force=True)

    def finish(self, ledger: Ledger, look: Any) -> str:
        """Wait for it and write the agreement; returns it in words. A failure is noted and fails nothing else."""
        import ray

        waited_since = time.time()  # before that it took what the challenge set left of the cores
        while not ray.wait([self._reference], timeout=1.0)[0]:
            check_alive()
            look()
        charge_work(ledger, "evaluation", "cross-check", time.time() - waited_since, self._trial.id, self._units)
        try:
            reports = ray.get(self._reference)
        except ray.exceptions.RayError as error:
            said = f"the cross-check on {self._engine} failed: {str(error).strip().splitlines()[-1]}"
            ledger.append("note", text=said)
            return said
        found = agreement(self._trial, reports)
        seconds = round(time.time() - self._began, 1)
        ledger.append("cross_check", trial=self._trial.id, check={"engine": self._engine, **found, "seconds": seconds})
        return f"{self._engine} trained it again: {in_words(found)}"


def spread(every: int, last: int, end: int) -> int:
    """How often the other engine reports: at some of the steps at which the trial did, its last one among them.

    Args:
        every: Of the trial, in steps.
        last: The trial's last report.
        end: Where every trial reports, whatever its steps.
    """
    own = -(-last // every)
    few = range(-(-own // REPORTS), own + 1)
    return every * next(some for some in few if last == end or own % some == 0)


def agreement(trial: TrialState, reports: list[dict[str, Any]]) -> dict[str, Any]:
    """How far two engines' reports of one trial are apart.

    Returns:
        ``reports``: how many both made; ``step``: the last of them; for each loss ``own`` and ``other`` there, and
        ``apart``, the largest relative difference over all of them.
    """
    own = {report["step"]: report for report in trial.reports}
    both = [(own[report["step"]], report) for report in reports if report["step"] in own]
    losses = {
        name: {
            "own": both[-1][0][name],
            "other": both[-1][1][name],
            "apart": max(abs(one[name] - other[name]) / abs(other[name]) for one, other in both),
        }
        for name in COMPARED
        if both
    }
    return {"reports": len(both), "step": both[-1][0]["step"] if both else 0, "losses": losses}


def in_words(found: dict[str, Any]) -> str:
    """An agreement in one line."""
    parts = [
        f"{name} {loss['other']:.6g} ({loss['apart']:.1e} apart at most)" for name, loss in found["losses"].items()
    ]
    return f"{', '.join(parts)}, over {found['reports']} reports up to step {found['step']}"


def _retrain(raw: dict[str, Any], last_step: int) -> list[dict[str, Any]]:
    """Train a trial up to a step; what it reported. Runs in a Ray worker."""
    from recipes.engines.nemo.engine import NemoEngine

    job = Job.of(raw)
    reports: list[dict[str, Any]] = []
    session = NemoEngine().open(job, None)
    try:
        while not reports or reports[-1]["step"] < last_step:
            report = session.advance()
            reports.append({"step": report.step, **report.metrics})
            if report.done:
                break
    except TrainingFailed as error:
        raise RuntimeError(str(error)) from None
    finally:
        session.close()
    shutil.rmtree(job.folder, ignore_errors=True)
    return reports
