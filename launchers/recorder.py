"""Tune's callback: writes what happens to the ledger, and sends finished trials to evaluation.

Runs in the driver, between Tune's own steps, so that one process writes the ledger.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from launchers import checkpoints
from launchers.failures import TRAINING, Failures
from launchers.halt import Halt
from launchers.pools import LABEL
from launchers.search import DistinctSearch
from launchers.trainable import ERROR
from sweeps.facts import Pool
from tracking.ledger import CostEntry, Ledger, State
from tracking.meters.cost import Kind, charge, cost_of


@dataclass
class _Attempt:
    """A trial on its machine.

    Attributes:
        trial: Tune's side of it.
        seconds: What it has reported to have used.
        lost: What packs that died had used since its last report before.
        energy_j: What it has reported to have used; None where that is not measured.
        told: When it last reported; at first, when it got the machine.
    """

    trial: Any
    told: float
    seconds: float = 0.0
    lost: float = 0.0
    energy_j: float | None = None


class Recorder(tune.Callback):  # type: ignore[misc]
    """Ledger events for everything that Tune tells.

    Args:
        ledger: Open for writing.
        search: Knows our trial behind each of Tune's.
        pools: Those of the sweep.
        units: GPUs (or cores) of one trial.
        seats: Trials that share these units: of the time since its last report a trial is charged its share.
        finished: Called with our trial's id when its adapter is there; starts its evaluation.
        tick: Called at each of Tune's steps; collects evaluations.
        halt: Why the whole sweep is being stopped, if it is.
        failures: Told of trials that fail for good.
    """

    def __init__(
        self,
        ledger: Ledger,
        search: DistinctSearch,
        pools: tuple[Pool, ...],
        units: int,
        finished: Callable[[str], None],
        tick: Callable[[], None],
        halt: Halt,
        failures: Failures,
        seats: int = 1,
    ) -> None:
        self._seats = seats
        self._ledger, self._search, self._pools, self._units = ledger, search, pools, units
        self._finished, self._tick, self._halt, self._failures = finished, tick, halt, failures
        self._open: dict[str, _Attempt] = {}  # by Tune's id: started and not ended
        self._placed: dict[str, Pool] = {}
        self._spent_on: dict[str, tuple[float, float]] = {}  # unit-seconds and US$ by our id
        for entry in ledger.read().costs:  # of earlier sessions
            self._spend(entry)
        self.spent_usd = 0.0
        self.spent_unit_s = 0.0
        self.stopped_for: Mapping[str, str] = {}  # by our id: why early stopping ended a trial; the scheduler fills it

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into snapshots, which we never restore: the ledger is the truth

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Between Tune's steps."""
        self._tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial got its machine, for the first time or again."""
        self._charge_lost(trial)
        self._placed.pop(trial.trial_id, None)  # another attempt may get another pool
        self._open[trial.trial_id] = _Attempt(trial, time.time())
        self._ledger.append("state", trial=self._ours(trial).id, state=State.RUNNING)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An attempt failed; Tune tries again from the last checkpoint."""
        self._charge_lost(trial)
        self._ledger.append("note", text=f"trial {self._ours(trial).number} is tried again: {_message(trial)}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A report boundary."""
        ours, attempt = self._ours(trial), self._open.get(trial.trial_id)
        if attempt:
            attempt.seconds, attempt.told = result.get("seconds", attempt.seconds), time.time()
            attempt.lost, attempt.energy_j = result.get("lost", attempt.lost), result.get("energy_j", attempt.energy_j)
        pool = self._pool_of(result)
        # A trial that repeats its last report has not joined a pack yet, and does not know where it will run.
        known = len(self._pools) == 1 or LABEL in result.get("labels", {})
        if known and trial.trial_id not in self._placed:
            self._placed[trial.trial_id] = pool
            if len(self._pools) > 1:
                self._ledger.append("state", trial=ours.id, state=State.RUNNING, pool=pool.name)
        if "metrics" in result:
            metrics = {key: value for key, value in result["metrics"].items() if math.isfinite(value)}
            self._ledger.append("report", trial=ours.id, step=result["step"], metrics=metrics)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The last step is done, or the trial was stopped early, or it cannot go on."""
        ours, result = self._ours(trial), trial.last_result or {}
        attempt = self._open.pop(trial.trial_id, None)
        failed = result.get("failed")
        if attempt is not None:
            self._charge(trial, "failed" if failed else "training", self._seconds(attempt, result), attempt.energy_j)
            self._charge(trial, "retried", attempt.lost)
        if failed:
            self._ledger.append("state", trial=ours.id, state=State.FAILED, error=failed)
            if not result.get("diverged"):  # of a diverged trial its values are to blame, not the set-up
                self._failures.failed(TRAINING, failed)
        elif result.get("finished"):
            self._evaluate(ours.id)
        elif self._halt.reason is None:
            why = self.stopped_for.get(ours.id, "Ray Tune ended it")
            self._evaluate(ours.id, reason=f"stopped early at step {result.get('step')}: {why}")
        else:
            self._set_down(ours.id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """All retries are used up."""
        self._charge_lost(trial, "failed")
        error = _message(trial)
        self._ledger.append("state", trial=self._ours(trial).id, state=State.FAILED, error=error)
        self._failures.failed(TRAINING, error)

    def close_open(self) -> None:
        """End the trials that Tune stopped with the whole sweep: it tells no callback of them."""
        for attempt in list(self._open.values()):
            self.on_trial_complete(0, [], attempt.trial)

    def spending(self) -> tuple[float, float]:
        """US$ and unit-seconds of this session's trials, those that still run included."""
        open_ = [
            (self._pool(attempt.trial), (attempt.seconds + attempt.lost + self._since(attempt)) * self._units)
            for attempt in self._open.values()
        ]
        usd = sum(cost_of("training", pool, seconds).usd for pool, seconds in open_)
        return self.spent_usd + usd, self.spent_unit_s + sum(seconds for _, seconds in open_)

    def cost_so_far(self, trial: Any, result: dict[str, Any]) -> dict[str, float]:
        """``cost/usd`` and ``cost/gpu_s`` of Tune's trial with this report: at the end it has cost at least that."""
        pool = self._placed.get(trial.trial_id)
        if pool is None and (len(self._pools) == 1 or LABEL in result.get("labels", {})):
            pool = self._pool_of(result)
        pool = pool or min(self._pools, key=lambda one: one.price.usd_per_hour)  # where it will run is not known yet
        now = cost_of("training", pool, result.get("seconds", 0.0) * self._units)
        unit_s, usd = self._spent_on.get(self._ours(trial).id, (0.0, 0.0))
        return {"cost/usd": usd + now.usd, "cost/gpu_s": unit_s + now.unit_s}

    def lose_open(self) -> None:
        """Ray is gone, and with it every attempt; the next session takes them up."""
        for attempt in list(self._open.values()):
            self._charge_lost(attempt.trial)

    def set_down_waiting(self) -> None:
        """The sweep ends with trials that no machine has taken up: what they have is judged with the rest."""
        for trial in self._ledger.read().trials.values():
            if trial.state is State.PENDING:
                self._set_down(trial.id)

    def _seconds(self, attempt: _Attempt, result: dict[str, Any]) -> float:
        """Of the attempt that has ended: what it reported, or, where the sweep cut it short, all of its time."""
        cut_short = self._halt.reason is not None and not result.get("done")
        return attempt.seconds + self._since(attempt) if cut_short else attempt.seconds

    def _since(self, attempt: _Attempt) -> float:
        """What an attempt has used since its last report: of a pack's time, about its share."""
        return (time.time() - attempt.told) / self._seats

    def _evaluate(self, trial: str, **more: Any) -> None:
        """Keep the trial's last adapter and send it on. Written before anything is removed or started."""
        folder = self._folder(trial)
        checkpoints.keep_adapter(folder)
        self._ledger.append("adapter", trial=trial, folder=f"trials/{trial}/adapter")
        self._ledger.append("state", trial=trial, state=State.EVALUATING, **more)
        if not more.get("halted"):
            checkpoints.drop(folder)
        self._failures.succeeded(TRAINING)
        self._finished(trial)

    def _set_down(self, trial: str) -> None:
        """The sweep halts with this trial half done. Its checkpoint stays, so that it can go on some other day."""
        reason = self._halt.reason
        if self._halt.pauses:
            self._ledger.append("state", trial=trial, state=State.PAUSED, reason=reason)
        elif checkpoints.latest(self._folder(trial)) is None:
            self._ledger.append("state", trial=trial, state=State.STOPPED, reason=reason, halted=True)
        else:
            self._evaluate(trial, reason=reason, halted=True)

    def _charge_lost(self, trial: Any, kind: Kind = "retried") -> None:
        """An attempt that ended in a failure: up to its last report it was training, what came after is lost."""
        attempt = self._open.pop(trial.trial_id, None)
        if attempt is not None:
            self._charge(trial, "training", attempt.seconds, attempt.energy_j)
            self._charge(trial, kind, attempt.lost + self._since(attempt))

    def _charge(self, trial: Any, kind: Kind, seconds: float, energy_j: float | None = None) -> None:
        entry = cost_of(kind, self._pool(trial), seconds * self._units, self._ours(trial).id, energy_j=energy_j)
        self.spent_usd += entry.usd
        self.spent_unit_s += entry.unit_s
        self._spend(entry)
        charge(self._ledger, entry)

    def _spend(self, entry: CostEntry) -> None:
        if entry.trial is not None:
            unit_s, usd = self._spent_on.get(entry.trial, (0.0, 0.0))
            self._spent_on[entry.trial] = (unit_s + entry.unit_s, usd + entry.usd)

    def _pool(self, trial: Any) -> Pool:
        return self._placed.get(trial.trial_id, self._pools[0])

    def _ours(self, trial: Any) -> Any:
        return self._search.trials[trial.trial_id]

    def _folder(self, trial: str) -> Path:
        return self._ledger.folder / "trials" / trial

    def _pool_of(self, result: dict[str, Any]) -> Pool:
        label = result.get("labels", {}).get(LABEL)
        return next((pool for pool in self._pools if pool.accelerator == label), self._pools[0])


def _message(trial: Any) -> str:
    """Why a trial's attempt failed."""
    try:
        return (Path(trial.config["job"]["folder"]) / ERROR).read_text(encoding="utf-8").strip()
    except OSError:  # it had no time to say it
        return "the trial's worker died: it was killed, or its machine is gone"
