"""MLflow as a view of the ledger: written in batches, idempotently, and caught up with after an outage.

``MlflowView.sync`` compares what a run should hold (``tracking.mlflow_runs``) with what was written to it, and writes
the difference. What was written is remembered; a new process, or one whose last sync failed, asks MLflow instead. So
nothing is written twice, and a server that goes away costs nothing but the delay.
"""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from tracking.ledger import SweepState
from tracking.mlflow_client import check, connect, default_uri, search_runs, sqlite_folder, told, without_password
from tracking.mlflow_runs import (
    PARENT_TAG,
    STARTED_TAG,
    SWEEP_TAG,
    TERMINAL,
    TRIAL_FILES,
    Point,
    WantedRun,
    child_runs,
    sweep_run,
    tag_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["MlflowView", "SyncResult", "check", "connect", "default_uri"]

EXPERIMENT = "podium"
METRICS_PER_BATCH = 1000  # MLflow's own limits
PARAMS_PER_BATCH = 100
# Gone again when a trial goes on, or when a sweep has another version.
PASSING_TAGS = ("podium.reason", "podium.error", "podium.superseded", "podium.champion")
ARTIFACTS_TAG = "podium.artifacts"  # what was uploaded, one "fingerprint name" a line

_log = logging.getLogger(__name__)


class SyncResult(TypedDict):
    """What a sync wrote, in numbers, and where. Not ``ok``: ``error`` says why, and the next sync catches up."""

    ok: bool
    error: str | None
    runs: int
    params: int
    metrics: int
    artifacts: int
    tracking_uri: str
    experiment_id: str | None
    parent_run_id: str | None


@dataclass
class _Written:
    """What one run of MLflow holds already."""

    run_id: str
    tags: dict[str, str]
    params: set[str]
    gauges: dict[str, float]
    status: str
    points: set[tuple[str, int, int | None, int | None]] = field(default_factory=set)


class MlflowView:
    """Writes one sweep to MLflow. Not thread-safe: one call of :meth:`sync` at a time, from any thread.

    Args:
        tracking_uri: A server, or a database.
        trial_files: Of a trial's folder, the files and folders to keep as artifacts once it has ended.
        retry_every_s: After a failure, the time during which a sync returns at once, unless the sweep has ended.
    """

    def __init__(
        self, tracking_uri: str, trial_files: tuple[str, ...] = TRIAL_FILES, retry_every_s: float = 10.0
    ) -> None:
        self.tracking_uri = tracking_uri
        self._shown = without_password(tracking_uri)
        self.trial_files = trial_files
        self.retry_every_s = retry_every_s
        self._client: MlflowClient | None = None
        self._retry_at = 0.0
        self._error: str | None = None
        self._forget()

    def _forget(self) -> None:
        self._experiment_id: str | None = None
        self._parent: _Written | None = None
        self._children: dict[tuple[str, str], _Written] | None = None

    def run_ids(self) -> dict[str, str]:
        """The run of every trial and of every other arm, by its id or name, as far as they are written."""
        return {key: written.run_id for (_, key), written in (self._children or {}).items()}

    def sync(self, state: SweepState) -> SyncResult:
        """Bring MLflow up to date with the state. Never raises for what MLflow or the network does."""
        result = SyncResult(
            ok=False,
            error=self._error,
            runs=0,
            params=0,
            metrics=0,
            artifacts=0,
            tracking_uri=self._shown,
            experiment_id=self._experiment_id,
            parent_run_id=self._parent.run_id if self._parent else None,
        )
        if self._error and not state.ended and time.monotonic() < self._retry_at:
            return result
        try:
            self._sync(state, result)
        except Exception as error:  # MLflow is a view: no fault of it, or of the way to it, may stop a sweep
            if self._error is None:
                _log.warning(
                    "MLflow at %s: %s; the ledger goes on, MLflow catches up later",
                    self._shown,
                    told(error),
                )
            _log.debug("sync failed", exc_info=True)
            self._error = result["error"] = told(error)
            self._retry_at = time.monotonic() + self.retry_every_s
            self._forget()  # a request that failed may have been carried out all the same: ask before writing again
            return result
        if self._error is not None:
            _log.warning("MLflow at %s answers again and is up to date", self._shown)
        self._error = result["error"] = None
        result["ok"] = True
        return result

    def _sync(self, state: SweepState, result: SyncResult) -> None:
        if self._client is None:
            self._client = connect(self.tracking_uri)
        client = self._client
        if self._experiment_id is None:
            self._experiment_id = result["experiment_id"] = _experiment(client, self.tracking_uri)
        parent = sweep_run(state)
        if self._parent is None:
            filters = {SWEEP_TAG: state.name, STARTED_TAG: parent.tags[STARTED_TAG]}
            found = next(search_runs(client, self._experiment_id, filters), None)
            self._parent = _existing(client, found, parent) if found else self._create(client, parent, result)
        result["parent_run_id"] = self._parent.run_id
        if self._children is None:
            filters = {PARENT_TAG: self._parent.run_id}
            self._found = {tag_of(run): run for run in search_runs(client, self._experiment_id, filters)}
            self._children = {}
        pairs = [(parent, self._parent)]
        for wanted in child_runs(state, self.trial_files):
            wanted.tags[PARENT_TAG] = self._parent.run_id
            written = self._children.get(wanted.tag)
            if written is None:
                run = self._found.pop(wanted.tag, None)
                written = _existing(client, run, wanted) if run else self._create(client, wanted, result)
                self._children[wanted.tag] = written
            pairs.append((wanted, written))
        for wanted, written in pairs:
            _write_values(client, wanted, written, result)
        # Files last, so that a slow upload holds up no number, and a run's end after its files.
        for wanted, written in pairs:
            _write_artifacts(client, wanted, written, result)
            _write_status(client, wanted, written)

    def _create(self, client: "MlflowClient", wanted: WantedRun, result: SyncResult) -> _Written:
        assert self._experiment_id is not None
        run = client.create_run(self._experiment_id, wanted.start_ms, wanted.tags, wanted.name)
        result["runs"] += 1
        return _Written(run.info.run_id, dict(wanted.tags), set(), {}, run.info.status)


def _experiment(client: "MlflowClient", tracking_uri: str) -> str:
    """The id of the experiment, made where there is none, and restored where it was deleted."""
    from mlflow.exceptions import MlflowException

    folder = sqlite_folder(tracking_uri)
    location = (folder / "artifacts").resolve().as_uri() if folder is not None else None
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException:  # another sweep made it in the meantime
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _existing(client: "MlflowClient", run: "Run", wanted: WantedRun) -> _Written:
    """What a run that is there already holds, as far as the wanted one is concerned."""
    data = run.data
    written = _Written(run.info.run_id, dict(data.tags), set(data.params), dict(data.metrics), run.info.status)
    reports = {_identity(point) for point in wanted.points if point.time_ms is not None}
    for key in {point.key for point in wanted.points} & set(data.metrics):
        evaluations: Counter[str] = Counter()
        for metric in client.get_metric_history(run.info.run_id, key):
            report = (key, metric.step, metric.timestamp, None)
            if report in reports:
                written.points.add(report)
            else:
                written.points.add((key, 0, None, evaluations[key]))
                evaluations[key] += 1
    return written


def _identity(point: Point) -> tuple[str, int, int | None, int | None]:
    return (
        (point.key, point.step, point.time_ms, None) if point.ordinal is None else (point.key, 0, None, point.ordinal)
    )


def _write_values(client: "MlflowClient", wanted: WantedRun, written: _Written, result: SyncResult) -> None:
    from mlflow.entities import Metric, Param, RunTag

    tags = [RunTag(key, value) for key, value in wanted.tags.items() if written.tags.get(key) != value]
    params = [Param(key, value) for key, value in wanted.params.items() if key not in written.params]
    points = {_identity(point): point for point in wanted.points if _identity(point) not in written.points}
    gauges = {key: value for key, value in wanted.gauges.items() if written.gauges.get(key) != value}
    for key in [key for key in PASSING_TAGS if key in written.tags and key not in wanted.tags]:
        client.delete_tag(written.run_id, key)
        del written.tags[key]
    now_ms = time.time_ns() // 1_000_000
    # A run shows its latest value, and of values of one step and millisecond MLflow takes the highest: so a later
    # evaluation of the same trial, which may be written in the same moment, has a later time.
    metrics = [
        Metric(
            point.key,
            point.value,
            now_ms + (point.ordinal or 0) if point.time_ms is None else point.time_ms,
            point.step,
        )
        for point in points.values()
    ]
    metrics += [Metric(key, value, now_ms, 0) for key, value in gauges.items()]
    while params or tags:
        client.log_batch(written.run_id, params=params[:PARAMS_PER_BATCH], tags=tags[:PARAMS_PER_BATCH])
        result["params"] += len(params[:PARAMS_PER_BATCH])
        params, tags = params[PARAMS_PER_BATCH:], tags[PARAMS_PER_BATCH:]
    for start in range(0, len(metrics), METRICS_PER_BATCH):
        batch = metrics[start : start + METRICS_PER_BATCH]
        client.log_batch(written.run_id, metrics=batch)
        result["metrics"] += len(batch)
    # Only now: after a failure halfway everything written is asked for, not remembered.
    written.tags.update(wanted.tags)
    written.params.update(wanted.params)
    written.points.update(points)
    written.gauges.update(gauges)


def _write_artifacts(client: "MlflowClient", wanted: WantedRun, written: _Written, result: SyncResult) -> None:
    lines = written.tags.get(ARTIFACTS_TAG, "").splitlines()
    kept = {name: fingerprint for fingerprint, _, name in (line.partition(" ") for line in lines)}
    before = dict(kept)
    for artifact in wanted.artifacts:
        fingerprint = artifact.fingerprint()
        if kept.get(artifact.name) == fingerprint:
            continue
        if artifact.source.is_dir():
            client.log_artifacts(written.run_id, str(artifact.source), artifact.name)
        else:
            client.log_artifact(written.run_id, str(artifact.source), artifact.target or None)
        kept[artifact.name] = fingerprint
        result["artifacts"] += 1
    if kept != before:
        text = "\n".join(f"{fingerprint} {name}" for name, fingerprint in kept.items())
        client.set_tag(written.run_id, ARTIFACTS_TAG, text)
        written.tags[ARTIFACTS_TAG] = text


def _write_status(client: "MlflowClient", wanted: WantedRun, written: _Written) -> None:
    if written.status == wanted.status:
        return
    if wanted.status in TERMINAL:
        client.set_terminated(written.run_id, wanted.status, wanted.end_ms)
    else:
        client.update_run(written.run_id, wanted.status)
    written.status = wanted.status
