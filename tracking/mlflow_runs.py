"""What MLflow should hold of a sweep: pure functions from the ledger's state to the runs, values and files of the view.

One parent run is the sweep; a child run is a trial, or an arm that is no trial ("base"). ``tracking.mlflow_view``
writes these. Nothing here imports MLflow.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking.ledger import Evaluation, State, SweepState, TrialState
from tracking.meters.cost import summary, trial_cost

SWEEP_TAG = "podium.sweep"
STAGE_TAG = "podium.stage"  # of a sweep in stages: which one; on a trial, the one that has trained it
STARTED_TAG = "podium.started"  # tells two sweeps of one name apart, say of two people on one server
TRIAL_TAG = "podium.trial"
ARM_TAG = "podium.arm"
PARENT_TAG = "mlflow.parentRunId"

TRIAL_FILES = ("trial.yaml", "nemo.yaml", "engine.log", "adapter", "samples.jsonl")
SWEEP_FILES = ("report.html", "champion.json")

_RUN_STATUS = {
    State.PENDING: "SCHEDULED",
    State.DONE: "FINISHED",
    State.STOPPED: "KILLED",
    State.FAILED: "FAILED",
}
_SWEEP_STATUS = {"RUNNING": "RUNNING", "DONE": "FINISHED", "FAILED": "FAILED"}
TERMINAL = ("FINISHED", "FAILED", "KILLED")
_NOT_IN_A_NAME = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True)
class Point:
    """One value of a metric's history.

    A report is told from another by key, step and time. An evaluation has no time of its own: ``ordinal`` counts the
    evaluations of the run that gave this key, so that the length of a history says which are there already.
    """

    key: str
    value: float
    step: int
    time_ms: int | None = None
    ordinal: int | None = None


@dataclass(frozen=True)
class Artifact:
    """A file or folder to keep with a run, under ``target`` (a folder of the run's artifacts, "" for the root)."""

    source: Path
    target: str = ""

    @property
    def name(self) -> str:
        """Where it lies among the artifacts."""
        return f"{self.target}/{self.source.name}" if self.target else self.source.name

    def fingerprint(self) -> str:
        """Changes when the content does: total size, and latest modification in nanoseconds."""
        files = [path for path in self.source.rglob("*") if path.is_file()] if self.source.is_dir() else [self.source]
        stats = [path.stat() for path in files]
        return f"{sum(stat.st_size for stat in stats)}-{max((stat.st_mtime_ns for stat in stats), default=0)}"


@dataclass
class WantedRun:
    """A run as it should be. ``gauges`` hold one current value each; ``points`` are histories, oldest first."""

    tag: tuple[str, str]  # the tag that finds the run again among the sweep's
    name: str
    start_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    gauges: dict[str, float] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    status: str = "RUNNING"
    end_ms: int | None = None


def sweep_run(state: SweepState) -> WantedRun:
    """The parent run: the sweep's settings, its costs, the champion's metrics, its report."""
    run = WantedRun((SWEEP_TAG, state.name), state.name, _ms(state.started))
    run.tags = {SWEEP_TAG: state.name, STARTED_TAG: str(_ms(state.started))}
    if stage := state.facts.get("stage"):
        run.tags[STAGE_TAG] = stage["name"]
    if state.reason:
        run.tags["podium.reason"] = state.reason
    run.tags["podium.version"] = str(state.version)
    search = state.spec.get("search") or {}
    settings = {"recipe": state.spec.get("recipe"), **{key: search.get(key) for key in ("algorithm", "trials", "seed")}}
    # MLflow's parameters never change, so each version of the sweep has its own.
    prefix = f"v{state.version}/" if state.version > 1 else ""
    run.params = {prefix + key: _text(value) for key, value in settings.items() if value is not None}
    champion = state.trials.get(str((state.champion or {}).get("champion")))
    if champion is not None:
        run.tags["podium.champion"] = champion.id
        run.gauges.update(_numbers(champion.metrics))
        for evaluation in champion.evaluations:
            run.gauges.update(_numbers(_named(evaluation)))
    # After the champion's: on the parent, a cost is that of the whole sweep.
    run.gauges.update({key: value for key, value in summary(state).items() if isinstance(value, float)})
    wanted = ["spec.yaml", *(SWEEP_FILES if state.ended else ())]  # a report that is still being rewritten can wait
    run.artifacts = [Artifact(state.folder / name) for name in wanted if (state.folder / name).is_file()]
    run.status = _SWEEP_STATUS.get(state.status, "KILLED")
    run.end_ms = _ms(state.ended) if state.ended else None
    return run


def child_runs(state: SweepState, trial_files: tuple[str, ...] = TRIAL_FILES) -> Iterator[WantedRun]:
    """A run for every trial, then one for every other arm that was evaluated."""
    for trial in state.every_trial.values():
        yield _trial_run(state, trial, trial_files)
    for arm, evaluations in state.arms.items():
        run = WantedRun((ARM_TAG, arm), arm, _ms(state.started), tags={SWEEP_TAG: state.name, ARM_TAG: arm})
        run.points = list(_evaluated([*state.superseded.get(arm, ()), *evaluations], step=0))
        run.artifacts = list(_answers(state.folder, evaluations))
        if state.ended:
            run.status, run.end_ms = "FINISHED", _ms(state.ended)
        yield run


def _trial_run(state: SweepState, trial: TrialState, files: tuple[str, ...]) -> WantedRun:
    run = WantedRun((TRIAL_TAG, trial.id), _title(trial), _ms(trial.started or state.started))
    run.tags = {
        SWEEP_TAG: state.name,
        TRIAL_TAG: trial.id,
        "podium.state": trial.state.value,
        "podium.pool": trial.pool,
        "podium.version": str(trial.version),
    }
    if trial.stage is not None:
        run.tags[STAGE_TAG] = trial.stage
    if trial.id in state.history:
        run.tags["podium.superseded"] = f"no point of version {state.version}"
    run.tags.update({f"podium.{key}": text for key in ("reason", "error") if (text := getattr(trial, key))})
    swept = {_name(path): _text(value) for path, value in trial.values.items()}
    run.params = {**swept, "trial": str(trial.own_number)}
    if trial.started is not None and trial.pool:  # a parameter cannot change; a pool may, until the trial has started
        run.params["pool"] = trial.pool
    for report in trial.reports:
        for key, value in _numbers(report).items():
            run.points.append(Point(key, value, report["step"], _ms(report["t"])))
    run.points.extend(_evaluated([*trial.superseded, *trial.evaluations], trial.step))
    run.gauges = {**trial.known, **trial_cost(state, trial.id)}
    run.status = _RUN_STATUS.get(trial.state, "RUNNING")
    if trial.state is State.STOPPED and trial.evaluations:
        run.status = "FINISHED"  # stopped early and scored: a result like any other, not something that went wrong
    if (state.ended or trial.id in state.history) and run.status not in TERMINAL:
        run.status = "KILLED"  # the sweep is over, or has another version, and this trial with it
    if run.status in TERMINAL:
        run.end_ms = _ms(trial.ended or state.ended or trial.started or state.started)
        run.artifacts = [*_files_of(state, trial, files), *_answers(state.folder, trial.evaluations)]
    return run


def _title(trial: TrialState) -> str:
    if trial.stage is not None:
        return f"#{trial.stage_number} of {trial.stage} {trial.id}"
    return f"#{trial.number} {trial.id}"


def _files_of(state: SweepState, trial: TrialState, names: tuple[str, ...]) -> Iterator[Artifact]:
    folder = state.folder / "trials" / trial.id
    paths = {name: folder / name for name in names}
    if trial.adapter and "adapter" in paths:
        paths["adapter"] = state.folder / trial.adapter
    for name, path in paths.items():
        # An adapter's folder may have any name; its artifact is always "adapter".
        if path.is_dir():
            yield from (Artifact(entry, name) for entry in sorted(path.iterdir()))
        elif path.is_file():
            yield Artifact(path)


def _answers(folder: Path, evaluations: list[Evaluation]) -> Iterator[Artifact]:
    for evaluation in evaluations:
        if evaluation.items and (folder / evaluation.items).is_file():
            yield Artifact(folder / evaluation.items, answers_folder(evaluation))


def answers_folder(evaluation: Evaluation) -> str:
    """Where an evaluation's answers lie among its run's artifacts."""
    return f"answers/{evaluation.split}-{_name(evaluation.id).replace('/', '_')}"


def _evaluated(evaluations: list[Evaluation], step: int) -> Iterator[Point]:
    seen: Counter[str] = Counter()
    for evaluation in evaluations:
        for key, value in _numbers(_named(evaluation)).items():
            yield Point(key, value, step, ordinal=seen[key])
            seen[key] += 1


def _named(evaluation: Evaluation) -> dict[str, float | None]:
    """Its metrics; those of the sealed split say so in their names."""
    prefix = "challenge/" if evaluation.split == "challenge" else ""
    return {prefix + key: value for key, value in evaluation.metrics.items()}


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """The metrics among the values: named with a slash, and known (a percentile without enough requests is null)."""
    return {
        _name(key): float(value)
        for key, value in values.items()
        if "/" in key and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _name(text: str) -> str:
    """A name that MLflow takes for a parameter or a metric."""
    return _NOT_IN_A_NAME.sub("_", text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def tag_of(run: Any) -> tuple[str, str]:
    """The tag by which a run of MLflow is that of a trial or of another arm; empty for a sweep's own."""
    return next(((key, run.data.tags[key]) for key in (TRIAL_TAG, ARM_TAG) if key in run.data.tags), ("", ""))
