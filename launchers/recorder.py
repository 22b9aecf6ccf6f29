"""Tune's callback: writes what happens to the ledger, and sends finished trials to evaluation.

Runs in the driver, between Tune's own steps, so that one process writes the ledger.
"""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from launchers.pools import LABEL
from launchers.search import DistinctSearch
from launchers.trainable import CHECKPOINT
from recipes.engines.protocol import TrainingFailed
from sweeps.facts import Pool
from tracking.ledger import Ledger, State
from tracking.meters.cost import cost_of


class Recorder(tune.Callback):  # type: ignore[misc]
    """Ledger events for everything that Tune tells.

    Args:
        ledger: Open for writing.
        search: Knows our trial behind each of Tune's.
        pools: Those of the sweep.
        units: GPUs (or cores) of one trial.
        finished: Called with our trial's id when its adapter is there; starts its evaluation.
        tick: Called at each of Tune's steps; collects evaluations.
        why_stopped: The reason when the whole sweep is being stopped, else None.
    """

    def __init__(
        self,
        ledger: Ledger,
        search: DistinctSearch,
        pools: tuple[Pool, ...],
        units: int,
        finished: Callable[[str], None],
        tick: Callable[[], None],
        why_stopped: Callable[[], str | None],
    ) -> None:
        self._ledger, self._search, self._pools, self._units = ledger, search, pools, units
        self._finished, self._tick, self._why_stopped = finished, tick, why_stopped
        self._known: set[str] = set()
        self._open: dict[str, Any] = {}  # Tune's trials that have started and not ended, by Tune's id
        self._placed: dict[str, Pool] = {}
        self.spent_usd = 0.0
        self.spent_unit_s = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into snapshots, which we never restore: the ledger is the truth

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Between Tune's steps."""
        self._tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial got its machine, for the first time or again."""
        ours = self._search.trials[trial.trial_id]
        self._open[trial.trial_id] = trial
        if ours.id not in self._known:
            self._known.add(ours.id)
            pool = self._pools[0].name if len(self._pools) == 1 else ""
            self._ledger.append(
                "trial", trial=ours.id, number=ours.number, values=ours.values, pool=pool, max_steps=ours.max_steps
            )
        self._ledger.append("state", trial=ours.id, state=State.RUNNING)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A report boundary."""
        ours = self._search.trials[trial.trial_id]
        pool = self._pool_of(result)
        if trial.trial_id not in self._placed:
            self._placed[trial.trial_id] = pool
            if len(self._pools) > 1:
                self._ledger.append("state", trial=ours.id, state=State.RUNNING, pool=pool.name)
        if "metrics" in result:
            metrics = {key: value for key, value in result["metrics"].items() if math.isfinite(value)}
            self._ledger.append("report", trial=ours.id, step=result["step"], metrics=metrics)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The last step is done, or the trial was stopped early, or it cannot go on."""
        self._open.pop(trial.trial_id, None)
        ours, result = self._search.trials[trial.trial_id], trial.last_result or {}
        failed = result.get("failed")
        self._charge(trial, "failed" if failed else "training", result.get("seconds", 0.0))
        if failed:
            self._ledger.append("state", trial=ours.id, state=State.FAILED, error=failed)
            return
        if not self._keep_adapter(Path(trial.config["job"]["folder"]), ours.id):
            reason = self._why_stopped() or "stopped before its first report"
            self._ledger.append("state", trial=ours.id, state=State.STOPPED, reason=reason)
            return
        if not result.get("finished"):
            reason = (
                self._why_stopped() or f"stopped early at step {result.get('step')}: its loss was not among the best"
            )
            self._ledger.append("state", trial=ours.id, state=State.EVALUATING, reason=reason)
        else:
            self._ledger.append("state", trial=ours.id, state=State.EVALUATING)
        self._finished(ours.id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """All retries are used up."""
        self._open.pop(trial.trial_id, None)
        ours = self._search.trials[trial.trial_id]
        self._charge(trial, "failed", (trial.last_result or {}).get("seconds", 0.0))
        self._ledger.append("state", trial=ours.id, state=State.FAILED, error=_message(trial))

    def close_open(self) -> None:
        """End the trials that Tune stopped with the whole sweep: it tells no callback of them."""
        for trial in list(self._open.values()):
            self.on_trial_complete(0, [], trial)

    def _keep_adapter(self, folder: Path, trial: str) -> bool:
        """Move the last adapter to its place and drop what only resuming would need."""
        saved = folder / CHECKPOINT / "adapter"
        if not saved.exists():
            return False
        shutil.rmtree(folder / "adapter", ignore_errors=True)
        shutil.move(saved, folder / "adapter")
        shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
        self._ledger.append("adapter", trial=trial, folder=f"trials/{trial}/adapter")
        return True

    def _charge(self, trial: Any, kind: Any, seconds: float) -> None:
        pool = self._placed.get(trial.trial_id, self._pools[0])
        entry = cost_of(kind, pool, seconds * self._units, self._search.trials[trial.trial_id].id)
        self.spent_usd += entry.usd
        self.spent_unit_s += entry.unit_s
        self._ledger.append("cost", **vars(entry))

    def _pool_of(self, result: dict[str, Any]) -> Pool:
        label = result.get("labels", {}).get(LABEL)
        return next((pool for pool in self._pools if pool.accelerator == label), self._pools[0])


def _message(trial: Any) -> str:
    """The last line of a trial's error that says what went wrong, without Ray's traceback."""
    error = trial.get_error() if hasattr(trial, "get_error") else None
    text = str(error or "the trial's process died")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [place for place, line in enumerate(lines) if "TrainingFailed" in line]
    message = "\n".join(lines[marked[-1] :]) if marked else lines[-1]
    return message.removeprefix(f"{TrainingFailed.__module__}.{TrainingFailed.__name__}: ")
