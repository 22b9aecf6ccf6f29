"""The ledger: what happened in a sweep, one JSON object a line, appended and flushed before anything acts on it.

It is the truth; MLflow, tables and reports are views. ``Ledger`` appends under a lock, so that one process writes;
``read`` folds the lines into a :class:`SweepState` and needs no lock. A torn last line, left by a process that died
while writing, is passed over, and cut off by the next writer.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sweeps.errors import InvalidInput, Problem

FILE_NAME = "ledger.jsonl"
FORMAT = 1


class State(StrEnum):
    """Where a trial stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    EVALUATING = "EVALUATING"
    DONE = "DONE"
    STOPPED = "STOPPED"
    PAUSED = "PAUSED"
    FAILED = "FAILED"
    PREEMPTED = "PREEMPTED"


@dataclass
class Evaluation:
    """The result of one evaluation task of one arm on one split."""

    id: str
    arm: str  # a trial's id, or "base", "base+schema"
    split: str  # "dev", "challenge", or "latency"
    n: int
    metrics: dict[str, float | None]
    items: str | None = None  # JSONL of the answers and their scores, relative to the run folder
    detail: dict[str, Any] = field(
        default_factory=dict
    )  # judge, data hash, sample sizes: whatever explains the numbers


@dataclass
class TrialState:
    """Everything the ledger knows of one trial."""

    id: str
    number: int
    values: dict[str, Any]  # every swept key by its path
    pool: str
    state: State = State.PENDING
    step: int = 0
    max_steps: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)  # {"step": …, "t": …, "train/loss": …, "val/loss": …}
    adapter: str | None = None  # folder, relative to the run folder
    error: str | None = None
    reason: str | None = None  # why it was stopped
    started: float | None = None  # epoch seconds
    ended: float | None = None
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, float | None]:
        """The last reported training metrics and those of the dev evaluation and latency, by the design's names."""
        merged: dict[str, float | None] = {}
        for report in self.reports:
            merged.update({key: value for key, value in report.items() if "/" in key})
        for evaluation in self.evaluations:
            if evaluation.split != "challenge":
                merged.update(evaluation.metrics)
        return merged


@dataclass
class CostEntry:
    """Seconds of one unit (a core or a GPU) spent on one thing."""

    kind: str  # "training", "evaluation", "idle", "failed"
    pool: str
    unit_s: float
    usd: float
    trial: str | None = None


@dataclass
class SweepState:
    """A sweep as its ledger tells it. ``spec``, ``recipe``, ``facts`` are the dictionaries of the ``sweep`` event."""

    name: str
    folder: Path
    started: float
    spec: dict[str, Any]
    recipe: dict[str, Any]
    facts: dict[str, Any]
    trials: dict[str, TrialState] = field(default_factory=dict)
    arms: dict[str, list[Evaluation]] = field(default_factory=dict)  # arms that are no trials: "base", "base+schema"
    costs: list[CostEntry] = field(default_factory=list)
    champion: dict[str, Any] | None = None
    exports: list[dict[str, Any]] = field(default_factory=list)
    mlflow: dict[str, Any] = field(default_factory=dict)  # tracking_uri, experiment_id, parent run id
    notes: list[str] = field(default_factory=list)  # what went wrong beside the trials
    status: str = "RUNNING"  # or DONE, STOPPED, BUDGET, INTERRUPTED, FAILED
    reason: str | None = None
    ended: float | None = None

    def evaluations(self) -> Iterator[Evaluation]:
        """Every evaluation: those of trials, then those of the other arms."""
        for trial in self.trials.values():
            yield from trial.evaluations
        for evaluations in self.arms.values():
            yield from evaluations


def fold(lines: Iterator[dict[str, Any]], folder: Path) -> SweepState:
    """Replay a ledger's events, oldest first.

    Each event has ``t`` (epoch seconds) and ``event``, one of: ``sweep`` (name, format, spec, recipe, facts) ·
    ``trial`` (trial, number, values, pool, max_steps) · ``state`` (trial, state, pool?, error?, reason?) ·
    ``report`` (trial, step, metrics) · ``adapter`` (trial, folder) · ``evaluation`` (the fields of
    :class:`Evaluation`) · ``cost`` (the fields of :class:`CostEntry`) · ``mlflow`` (any of SweepState.mlflow) ·
    ``champion`` (champion) · ``export`` (export) · ``note`` (text) · ``end`` (status, reason?).
    """
    sweep: SweepState | None = None
    for line in lines:
        event, at = line["event"], line["t"]
        if event == "sweep":
            if sweep is None:
                sweep = SweepState(line["name"], folder, at, line["spec"], line["recipe"], line["facts"])
            continue
        assert sweep is not None, "a ledger begins with its sweep"
        if event == "trial":
            sweep.trials[line["trial"]] = TrialState(
                line["trial"], line["number"], line["values"], line["pool"], max_steps=line["max_steps"]
            )
        elif event in ("state", "report", "adapter"):
            _apply(sweep.trials[line["trial"]], event, line)
        elif event == "evaluation":
            evaluation = Evaluation(**{key: value for key, value in line.items() if key not in ("event", "t")})
            if evaluation.arm in sweep.trials:
                sweep.trials[evaluation.arm].evaluations.append(evaluation)
            else:
                sweep.arms.setdefault(evaluation.arm, []).append(evaluation)
        elif event == "cost":
            sweep.costs.append(CostEntry(**{key: value for key, value in line.items() if key not in ("event", "t")}))
        elif event == "mlflow":
            sweep.mlflow.update({key: value for key, value in line.items() if key not in ("event", "t")})
        elif event == "champion":
            sweep.champion = line["champion"]
        elif event == "export":
            sweep.exports.append(line["export"])
        elif event == "note":
            sweep.notes.append(line["text"])
        elif event == "end":
            sweep.status, sweep.reason, sweep.ended = line["status"], line.get("reason"), at
    if sweep is None:
        raise InvalidInput(Problem(str(folder), "the ledger holds no sweep"))
    return sweep


def _apply(trial: TrialState, event: str, line: dict[str, Any]) -> None:
    if event == "report":
        trial.step = line["step"]
        trial.reports.append({"step": line["step"], "t": line["t"], **line["metrics"]})
    elif event == "adapter":
        trial.adapter = line["folder"]
    else:
        trial.state = State(line["state"])
        trial.pool = line.get("pool", trial.pool)
        trial.error, trial.reason = line.get("error", trial.error), line.get("reason", trial.reason)
        if trial.state is State.RUNNING and trial.started is None:
            trial.started = line["t"]
        if trial.state in (State.DONE, State.STOPPED, State.FAILED):
            trial.ended = line["t"]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                yield json.loads(raw)
            except ValueError:
                if raw.endswith(b"\n"):
                    rule = f"not JSON: {raw[:60]!r}"
                    raise InvalidInput(
                        Problem(path.name, rule, "restore the file from a copy", number), str(path)
                    ) from None


def read(folder: Path) -> SweepState:
    """The state of the sweep in a run folder.

    Raises:
        InvalidInput: The folder has no ledger, or a line in its middle is not JSON.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise InvalidInput(Problem(str(folder), f"no {FILE_NAME} here", "is this the run folder of a sweep?"))
    return fold(_lines(path), folder)


class Ledger:
    """Appends to the ledger of a run folder. One process at a time: whoever holds the folder's lock.

    Raises:
        InvalidInput: On entering, when another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            rule = "another process is writing this sweep"
            raise InvalidInput(Problem(str(self.folder), rule, "wait for it, or stop it with `podium stop`")) from None
        self._cut_torn_line()
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.close()

    def append(self, event: str, **fields: Any) -> None:
        """Write one event and flush it to the disk before returning."""
        line = json.dumps({"t": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def read(self) -> SweepState:
        """The state as of the last append."""
        return read(self.folder)

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            with self.path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
