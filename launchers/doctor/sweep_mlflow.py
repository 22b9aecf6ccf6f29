"""Checks of a sweep's runs in MLflow: one for the sweep, one for each trial and arm, all saying what the ledger says.

Nothing is corrected in place: MLflow's parameters and histories cannot be. A run that says something else is deleted
(MLflow keeps it among the deleted ones) and written again from the ledger.
"""

import math
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers import home
from launchers.doctor.check import Check, Finding, failed, ok
from launchers.doctor.sweep_ledger import few, fix
from sweeps.errors import PodiumError, ServiceUnreachable
from tracking.ledger import SweepState, is_open
from tracking.mlflow_client import check, connect, search_runs, sqlite_folder, without_password
from tracking.mlflow_runs import (
    PARENT_TAG,
    STARTED_TAG,
    SWEEP_TAG,
    TERMINAL,
    WantedRun,
    child_runs,
    sweep_run,
    tag_of,
)
from tracking.mlflow_view import ARTIFACTS_TAG, EXPERIMENT, MlflowView

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RELATIVE = 1e-9  # a database may keep a double in its own way


def checks(state: SweepState) -> list[Check]:
    """All of this file."""
    return [Check("MLflow runs", lambda: look(state), limit_s=180, service=True)]


@dataclass
class _There:
    """What MLflow has of a sweep: its parent runs, and the child runs by the tag that finds them again."""

    client: "MlflowClient"
    parents: "list[Run]"
    children: "dict[tuple[str, str], list[Run]]"


def look(state: SweepState) -> list[Finding]:
    """Compare every run with what the ledger wants of it."""
    uri = home.tracking_uri()
    there = _there(state, uri)
    shown = without_password(uri)
    if there is None or not there.parents:
        says = f"{shown} has no run of this sweep"
        written = state.mlflow.get("tracking_uri")
        if written not in (None, shown):
            return [failed(f"{says}; it was written to {written}", "set MLFLOW_TRACKING_URI to that")]
        return [failed(says, f"{fix(state.folder)} writes it from the ledger", lambda: _sync(state, uri))]
    doubles = list(_doubles(state, there))
    if doubles:
        return doubles  # which of them is right is seen once there is one
    running = is_open(state.folder)
    parent = sweep_run(state)
    pairs = [(parent, there.parents[0])]
    missing = []
    for wanted in child_runs(state):
        runs = there.children.get(wanted.tag)
        if runs:
            pairs.append((wanted, runs[0]))
        else:
            missing.append(wanted.name)
    if running:
        return [ok(f"{len(pairs)} runs, none twice; the sweep is open, so their contents were not compared")]
    behind, wrong = list(missing), []
    for wanted, run in pairs:
        late, other = differences(wanted, run)
        behind += [f"{wanted.name}: {text}" for text in late]
        if other:
            wrong.append((wanted, run, other))
    findings = [_wrong(state, there, uri, *one) for one in wrong]
    if behind:
        says = f"MLflow is behind the ledger: {few(behind)}"
        findings.append(failed(says, f"{fix(state.folder)} lets it catch up", lambda: _sync(state, uri)))
    if state.ended is None:
        left = [wanted.name for wanted, run in pairs if run.info.status not in TERMINAL]
        says = f"left RUNNING in MLflow, and the sweep has no driver: {few(left)}"
        findings.append(failed(says, f"{fix(state.folder)} closes the sweep, and then these"))
    return findings or [ok(f"{len(pairs)} runs at {shown} say what the ledger says")]


def _there(state: SweepState, uri: str) -> "_There | None":
    """Ask MLflow. None where there is no database yet, which is not made by asking.

    Raises:
        ServiceUnreachable: It does not answer.
    """
    if sqlite_folder(uri) is not None and not Path(uri.removeprefix("sqlite:///").partition("?")[0]).exists():
        return None
    check(uri)
    client = connect(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None or experiment.lifecycle_stage == "deleted":
        return None
    started = sweep_run(state).tags[STARTED_TAG]
    parents = list(search_runs(client, experiment.experiment_id, {SWEEP_TAG: state.name, STARTED_TAG: started}))
    children: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for parent in parents:
        for run in search_runs(client, experiment.experiment_id, {PARENT_TAG: parent.info.run_id}):
            children[tag_of(run)].append(run)
    parents.sort(key=lambda run: (-_num_children(run, children), run.info.run_id))
    return _There(client, parents, children)


def _num_children(parent: "Run", children: "dict[tuple[str, str], list[Run]]") -> int:
    return sum(run.data.tags.get(PARENT_TAG) == parent.info.run_id for runs in children.values() for run in runs)


def _doubles(state: SweepState, there: _There) -> Iterator[Finding]:
    """Runs that are there twice, and runs of trials that the ledger does not know."""
    wanted = {run.tag: run for run in child_runs(state)}
    spare = there.parents[1:]
    for tag, runs in there.children.items():
        if tag == ("", ""):
            continue  # somebody's own run under the sweep's: not ours to judge
        if tag not in wanted:
            spare += runs
        elif len(runs) > 1:
            best = min(runs, key=lambda run: _badness(wanted[tag], run, there.parents[0].info.run_id))
            spare += [run for run in runs if run is not best]
    if spare:
        names = [f"{run.info.run_name} ({run.info.run_id[:8]})" for run in spare]
        says = f"{len(spare)} runs of this sweep are in MLflow besides the ledger's: {few(names)}"
        yield failed(says, f"{fix(state.folder)} deletes the duplicates", lambda: _delete(there.client, spare))


def _badness(wanted: WantedRun, run: "Run", parent: str) -> tuple[bool, int, int, str]:
    """Orders duplicates: the one under the right parent, with the fewest differences, comes first."""
    late, other = differences(wanted, run)
    return run.data.tags.get(PARENT_TAG) != parent, len(other), len(late), str(run.info.run_id)


def differences(wanted: WantedRun, run: "Run") -> tuple[list[str], list[str]]:
    """In what a run is behind what it should hold, and in what it says something else."""
    late, other = [], []
    for key, value in wanted.params.items():
        said = run.data.params.get(key)
        if said is None:
            late.append(f"no parameter {key}")
        elif said != value:
            other.append(f"parameter {key} is {said!r}, not {value!r}")
    last = {point.key: point.value for point in sorted(wanted.points, key=lambda point: point.step)}
    for key, number in last.items():
        said = run.data.metrics.get(key)
        if said is None:
            late.append(f"no {key}")
        elif not math.isclose(said, number, rel_tol=RELATIVE):
            other.append(f"{key} is {said:g}, not {number:g}")
    for key, number in wanted.gauges.items():
        said = run.data.metrics.get(key)
        if said is None or not math.isclose(said, number, rel_tol=RELATIVE):
            late.append(f"{key} is {'missing' if said is None else f'{said:g}'}, not {number:g}")
    if run.info.status != wanted.status:
        late.append(f"is {run.info.status}, not {wanted.status}")
    kept = {line.partition(" ")[2] for line in run.data.tags.get(ARTIFACTS_TAG, "").splitlines()}
    files = [artifact.name for artifact in wanted.artifacts if artifact.name not in kept]
    if files:
        late.append(f"without {few(files)}")
    return late, other


def _wrong(state: SweepState, there: _There, uri: str, wanted: WantedRun, run: "Run", other: list[str]) -> Finding:
    """A run that contradicts the ledger: deleted and written again, with all below it if it is the sweep's own."""
    runs = [run]
    if wanted.tag[0] == SWEEP_TAG:
        runs += [child for children in there.children.values() for child in children]

    def again() -> str:
        _delete(there.client, runs)
        return f"deleted the run {run.info.run_id[:8]} of {wanted.name}; {_sync(state, uri)}"

    says = f"MLflow and the ledger disagree on {wanted.name}: {few(other)}"
    return failed(says, f"{fix(state.folder)} writes the run again", again)


def _delete(client: "MlflowClient", runs: "list[Run]") -> str:
    for run in runs:
        client.delete_run(run.info.run_id)
    return f"deleted {len(runs)} runs in MLflow: {few([str(run.info.run_name) for run in runs])}"


def _sync(state: SweepState, uri: str) -> str:
    """Let MLflow catch up with the ledger as it is now."""
    from tracking.ledger import read

    result = MlflowView(uri).sync(read(state.folder))
    if not result["ok"]:
        raise ServiceUnreachable(f"MLflow at {without_password(uri)} did not catch up: {result['error']}")
    counts = [f"{result[key]} {key}" for key in ("runs", "params", "metrics", "artifacts") if result[key]]  # type: ignore[literal-required]
    return f"MLflow caught up: wrote {', '.join(counts) or 'what had changed'}"


def fetch(state: SweepState, tag: tuple[str, str], artifact: str, to: Path) -> None:
    """Bring a file or folder that MLflow keeps of a run to ``to``, which is not there yet.

    Raises:
        PodiumError: MLflow has no such run or artifact.
        ServiceUnreachable: It does not answer.
    """
    there = _there(state, home.tracking_uri())
    runs: list[Any] = there.children.get(tag, []) if there else []
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".podium-doctor-", dir=to.parent) as folder:
        for run in runs:
            assert there is not None
            if there.client.list_artifacts(run.info.run_id, str(Path(artifact).parent).removeprefix(".")):
                try:
                    shutil.move(there.client.download_artifacts(run.info.run_id, artifact, folder), to)
                except Exception as error:  # MLflow's stores raise what their libraries raise
                    raise PodiumError(f"MLflow's copy of {artifact} cannot be read: {error}") from None
                return
    raise PodiumError(f"MLflow keeps no copy of {artifact} of {tag[1]}")
