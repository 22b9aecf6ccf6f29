"""A Tune trial: opens the engine, advances it from report to report, and keeps its last checkpoint in the run folder.

Whoever dies, driver, worker or machine, the trial goes on from that checkpoint, in this sweep's next session too.

Runs in a Ray actor on the node where Ray put it. It loads no torch: the engine trains in a process of its own.
"""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray import tune

from launchers import checkpoints
from launchers.pack_slot import PackAddress, PackSlot
from recipes.engines.protocol import Diverged, Job, Session, TrainingFailed
from sweeps.errors import InvalidInput
from tracking.meters.energy import EnergyMeter

POINTER = "where.json"
ERROR = "error.txt"  # in the trial's folder: why its last attempt failed


def open_session(engine: str, job: Job, packs: PackAddress | None) -> Session:
    """Start a trial on the engine of this name, or go on from its last checkpoint."""
    if engine == "packed":
        assert packs is not None
        return PackSlot(packs, job)
    assert engine == "nemo", f"the schema knows no engine {engine!r}"
    from recipes.engines.nemo.engine import NemoEngine

    return NemoEngine().open(job, checkpoints.latest(job.folder))


class TrialRunner(tune.Trainable):  # type: ignore[misc]
    """One trial. Its config is what ``launchers.search`` hands out: ``trial``, ``job``, ``engine``."""

    def setup(self, config: dict[str, Any]) -> None:
        self._session: Session | None = None
        self._begun = time.time()
        self._energy_j: float | None = 0.0
        self._meter = EnergyMeter(config["job"]["device"] if config["engine"] != "packed" else "cpu")
        self._in_packs: dict[str, Any] = {"seconds": 0.0, "lost": 0.0, "energy_j": None, "labels": {}}
        self._folder = Path(config["job"]["folder"])
        (self._folder / ERROR).unlink(missing_ok=True)
        checkpoint = checkpoints.latest(self._folder)
        self._resumed = checkpoints.progress_of(checkpoint) if checkpoint else None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same actor, which saves starting a process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Advance to the next report boundary, save there, and report.

        The first step after a failure repeats the report of the checkpoint: the driver may have died with it unread,
        and with the decision that followed from it. A failure that trying again can help is raised, so that Tune
        retries; any other ends the trial as a result with ``failed``.
        """
        if self._resumed is not None:
            progress, self._resumed = self._resumed, None
            return self._result(progress)
        try:
            if self._session is None:
                self._session = self._open()
            session, report = self._session, self._session.advance()
            progress = {"step": report.step, "metrics": report.metrics, "done": report.done}
            checkpoints.commit(self._folder, progress, session.save)
        except (Diverged, InvalidInput) as error:
            self.cleanup()
            diverged = isinstance(error, Diverged)
            return {**self._spent(), "failed": str(error), "diverged": diverged, "done": True}
        except OSError as error:
            self.cleanup()
            raise self._told(TrainingFailed(f"the checkpoint could not be written: {error}")) from None
        except TrainingFailed as error:
            self.cleanup()
            raise self._told(error) from None
        if report.done:
            self.cleanup()
        return self._result(progress)

    def _told(self, error: TrainingFailed) -> TrainingFailed:
        """The error, left in the trial's folder for the driver: Tune keeps only its traceback, and not always."""
        with suppress(OSError):
            (self._folder / ERROR).write_text(str(error), encoding="utf-8")
        return error

    def _result(self, progress: dict[str, Any]) -> dict[str, Any]:
        # Tune's schedulers and searchers look for their metric at the top level of a result.
        return {
            **progress["metrics"],
            **self._spent(),
            "step": progress["step"],
            "metrics": progress["metrics"],
            "finished": progress["done"],
            "done": progress["done"],
        }

    def _spent(self) -> dict[str, Any]:
        """What this attempt has used: of a pack's seconds its share, else all of them; and where that was."""
        if self.config["engine"] == "packed":
            if isinstance(self._session, PackSlot):
                slot = self._session
                used = {"seconds": slot.busy_s, "lost": slot.lost_s, "energy_j": slot.energy_j}
                self._in_packs = {**used, "labels": slot.labels}
            return self._in_packs
        joules = self._meter.lap()
        self._energy_j = None if joules is None or self._energy_j is None else self._energy_j + joules
        return {"seconds": time.time() - self._begun, "energy_j": self._energy_j, "labels": _node_labels()}

    def _open(self) -> Session:
        return open_session(self.config["engine"], Job.of(self.config["job"]), self.config.get("packs"))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Point to the run folder: checkpoints live there, not in Tune's storage."""
        pointer = {"folder": self.config["job"]["folder"]}
        (Path(checkpoint_dir) / POINTER).write_text(json.dumps(pointer))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to do: the next step opens the last checkpoint of the run folder."""

    def cleanup(self) -> None:
        """End the engine's process, or leave the pack."""
        if self._session is not None:
            self._spent()
            self._session.close()
            self._session = None


def _node_labels() -> dict[str, str]:
    import ray

    here = ray.get_runtime_context().get_node_id()
    return next((dict(node.get("Labels", {})) for node in ray.nodes() if node["NodeID"] == here), {})
