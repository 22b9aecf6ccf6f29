"""The ledger: what happened in a sweep, one JSON object a line, appended and flushed before anything acts on it.

It is the truth; MLflow, tables and reports are views. ``Ledger`` appends under a lock, so that one process writes;
``read`` folds the lines into a :class:`~tracking.state.SweepState` and needs no lock. A torn last line, left by a
process that died while writing, is passed over, and cut off by the next writer.
"""

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sweeps.errors import InvalidInput, PodiumError, Problem
from tracking.folders import name_of
from tracking.state import INCUMBENT, CostEntry, Evaluation, Session, State, SweepState, TrialState, Version

__all__ = [
    "FILE_NAME",
    "FORMAT",
    "CostEntry",
    "Evaluation",
    "Ledger",
    "LedgerBroken",
    "LedgerLocked",
    "Session",
    "State",
    "SweepState",
    "TrialState",
    "Version",
    "fold",
    "is_open",
    "read",
    "take_lock",
]

FILE_NAME = "ledger.jsonl"
LOCK_NAME = "lock"
FORMAT = 2
RESTORE = "restore the file from a copy"
LOCK_WAIT_S = 1.0  # a reader that asks who writes holds the lock for a moment


def fold(lines: Iterator[dict[str, Any]], folder: Path) -> SweepState:
    """Replay a ledger's events, oldest first.

    Each event has ``t`` (epoch seconds) and ``event``, one of: ``sweep`` (name, format, spec, recipe, facts; again for
    a changed version, with changes, and the kept trials' values by id) · ``begin`` (host, pid: a driver starts) ·
    ``trial`` (trial, number, values, pool, max_steps, repeat, known) · ``start`` (trial, number, values, pool,
    max_steps, adapter, stage, stage_number, spent, known: a trial of an earlier stage takes part) · ``state`` (trial,
    state, pool?, error?, reason?, halted?) · ``report`` (trial, step, metrics) · ``adapter`` (trial, folder) ·
    ``evaluation`` (the fields of :class:`Evaluation`) · ``units`` (units: what the session holds, by pool) · ``cost``
    (the fields of :class:`CostEntry`; its session is the present one unless it is told) · ``mlflow`` (any of
    SweepState.mlflow) · ``challenge`` (read, arms, n, rule, why) · ``champion`` (champion) · ``cross_check`` (trial,
    check) · ``export`` (export) · ``note`` (text) · ``end`` (status, reason?, code, at?: when the driver was last
    heard of, where another process closes the sweep).

    Raises:
        InvalidInput: The ledger is of another format, or holds no sweep.
    """
    sweep: SweepState | None = None
    for number, line in enumerate(lines, start=1):
        try:
            sweep = _folded(sweep, line, folder)
        except (LookupError, TypeError, ValueError, AttributeError):
            rule = f"no event of a sweep: {json.dumps(line, ensure_ascii=False)[:60]}"
            raise InvalidInput(Problem(FILE_NAME, rule, RESTORE, number), str(folder / FILE_NAME)) from None
    if sweep is None:
        raise InvalidInput(Problem(str(folder), "the ledger holds no sweep"))
    return sweep


def _folded(sweep: SweepState | None, line: dict[str, Any], folder: Path) -> SweepState:
    event = line["event"]
    if event == "sweep":
        return _versioned(sweep, line, folder)
    if sweep is None:
        raise LookupError("a ledger begins with its sweep")
    if sweep.sessions and event != "begin":  # which may come long after the session before it
        sweep.sessions[-1].last = line["t"]
    if event in ("trial", "start", "state", "report", "adapter"):
        _apply_to_trial(sweep, event, line)
    else:
        _apply(sweep, event, line)
    return sweep


def _versioned(sweep: SweepState | None, line: dict[str, Any], folder: Path) -> SweepState:
    """The state with a new version of the sweep's YAML; of a new sweep, when there is no state yet."""
    if line["format"] != FORMAT:
        rule = f"the run folder is of format {line['format']}, this Podium reads {FORMAT}"
        hint = "use the Podium that wrote it, or another name for the sweep"
        raise InvalidInput(Problem(str(folder), rule, hint))
    if sweep is None:
        sweep = SweepState(line["name"], folder, line["t"], line["spec"], line["recipe"], line["facts"])
    if line["facts"].get("incumbent") != sweep.facts.get("incumbent"):
        # What was measured of the former one says nothing of this one.
        sweep.superseded.setdefault(INCUMBENT, []).extend(sweep.arms.pop(INCUMBENT, ()))
    sweep.spec, sweep.recipe, sweep.facts = line["spec"], line["recipe"], line["facts"]
    sweep.versions.append(Version(sweep.version + 1, line["t"], tuple(line.get("changes", ()))))
    kept, every = line.get("kept", {}), sweep.every_trial
    sweep.trials = {key: trial for key, trial in every.items() if key in kept}
    sweep.history = {key: trial for key, trial in every.items() if key not in kept}
    for key, trial in sweep.trials.items():
        trial.values = kept[key]  # this version may sweep other keys
    sweep.champion = None  # chosen among the trials of a version, so anew
    sweep.status, sweep.reason, sweep.ended, sweep.code = "RUNNING", None, None, 0
    return sweep


def _apply(sweep: SweepState, event: str, line: dict[str, Any]) -> None:
    fields = {key: value for key, value in line.items() if key not in ("event", "t")}
    if event == "begin":
        sweep.sessions.append(Session(line["t"], sweep.version, line["host"], line["pid"], line["t"]))
        sweep.status, sweep.reason, sweep.ended, sweep.code = "RUNNING", None, None, 0
    elif event == "evaluation":
        _evaluated(sweep, Evaluation(**fields))
    elif event == "cost":
        sweep.costs.append(CostEntry(**{"session": len(sweep.sessions), **fields}))
    elif event == "units":
        sweep.sessions[-1].units = line["units"]
    elif event == "mlflow":
        sweep.mlflow.update(fields)
    elif event == "challenge":
        sweep.challenge_reads.append({key: value for key, value in line.items() if key != "event"})
    elif event == "champion":
        sweep.champion = line["champion"]
    elif event == "cross_check":
        sweep.cross_checks[line["trial"]] = line["check"]
    elif event == "export":
        sweep.exports.append(line["export"])
    elif event == "note":
        sweep.notes.append(line["text"])
    elif event == "end":
        sweep.status, sweep.reason, sweep.ended = line["status"], line.get("reason"), line["t"]
        sweep.code = line.get("code", 0)
        if sweep.sessions:
            session = sweep.sessions[-1]
            session.ended, session.status, session.reason = line.get("at", line["t"]), sweep.status, sweep.reason


def _evaluated(sweep: SweepState, evaluation: Evaluation) -> None:
    """An arm's latest evaluation of a split takes the place of the one before."""
    trial = sweep.trials.get(evaluation.arm) or sweep.history.get(evaluation.arm)
    present = trial.evaluations if trial else sweep.arms.setdefault(evaluation.arm, [])
    superseded = trial.superseded if trial else sweep.superseded.setdefault(evaluation.arm, [])
    superseded += [other for other in present if other.split == evaluation.split]
    present[:] = [other for other in present if other.split != evaluation.split]
    present.append(evaluation)


def _apply_to_trial(sweep: SweepState, event: str, line: dict[str, Any]) -> None:
    key = line["trial"]
    if event == "trial":
        known = sweep.history.pop(key) if key in sweep.history else None
        sweep.trials[key] = known or TrialState(
            key,
            line["number"],
            line["values"],
            line["pool"],
            repeat=line.get("repeat", 0),
            version=sweep.version,
            max_steps=line["max_steps"],
            known=line.get("known", {}),
        )
        return
    if event == "start":
        _take_part(sweep, line)
        return
    trial = sweep.trials[key]
    if event == "report":
        if line["step"] > trial.step:  # a step that was repeated after a failure is told once
            trial.step = line["step"]
            trial.reports.append({"step": line["step"], "t": line["t"], **line["metrics"]})
    elif event == "adapter":
        trial.adapter = line["folder"]
    else:
        _move_to(trial, line)


def _take_part(sweep: SweepState, line: dict[str, Any]) -> None:
    """A trial that an earlier stage has trained and scored is one of this sweep's, with nothing left to do."""
    told = ("number", "values", "pool", "max_steps", "known", "adapter", "stage", "stage_number", "spent")
    fields = {name: line[name] for name in told}
    key, steps = line["trial"], line["max_steps"]
    before = sweep.history.pop(key, None) or sweep.trials.pop(key, None)
    trial = TrialState(key, **fields, state=State.DONE, step=steps, version=sweep.version, ended=line["t"])
    if before is not None:
        trial.evaluations, trial.superseded = before.evaluations, before.superseded
    sweep.trials[key] = trial


def _move_to(trial: TrialState, line: dict[str, Any]) -> None:
    trial.state = State(line["state"])
    trial.pool = line.get("pool", trial.pool)
    if trial.state in (State.PENDING, State.RUNNING):  # once more: what ended it before no longer holds
        trial.error = trial.reason = trial.ended = None
        trial.halted = False
    elif trial.state is State.EVALUATING:
        trial.error, trial.halted = None, False
    trial.error, trial.reason = line.get("error", trial.error), line.get("reason", trial.reason)
    trial.halted = line.get("halted", trial.halted)
    if trial.state is not State.RUNNING:
        trial.running_since = None
    elif "pool" not in line:  # which is told when the trial is on its machine already
        trial.running_since = line["t"]
        trial.started = trial.started or line["t"]
    if trial.state in (State.DONE, State.STOPPED, State.FAILED):
        trial.ended = line["t"]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                return  # torn: its writer died, or has not come to the end of it
            try:
                yield json.loads(raw)
            except ValueError:
                rule = f"not JSON: {raw[:60]!r}"
                problem = Problem(path.name, rule, RESTORE, number)
                raise InvalidInput(problem, str(path)) from None


def read(folder: Path) -> SweepState:
    """The state of the sweep in a run folder.

    Raises:
        InvalidInput: The folder has no ledger, or a line in its middle is not JSON.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise InvalidInput(Problem(str(folder), f"no {FILE_NAME} here", "is this the run folder of a sweep?"))
    return fold(_lines(path), folder)


def is_open(folder: Path) -> bool:
    """Whether some process writes this ledger at the moment: it holds the lock."""
    try:
        with (folder / LOCK_NAME).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def take_lock(file: IO[str]) -> bool:
    """Lock a file for this process alone; False where another keeps it for longer than a reader holds it."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


class LedgerLocked(InvalidInput):
    """Another process writes this ledger."""


class LedgerBroken(PodiumError):
    """The ledger cannot be written. What it holds is whole, and a later session goes on from there."""


class Ledger:
    """Appends to the ledger of a run folder. One process at a time: whoever holds the folder's lock.

    Raises:
        LedgerLocked: On entering, when another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / LOCK_NAME).open("a+")
        if not take_lock(self._lock):
            raise self._locked()
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {platform.node()}")
        self._lock.flush()
        self._cut_torn_line()
        self._file = self.path.open("ab", buffering=0)
        return self

    def _locked(self) -> LedgerLocked:
        self._lock.seek(0)
        owner = self._lock.read().strip() or "another process"
        self._lock.close()
        rule = f"{owner} is writing this sweep"
        return LedgerLocked(Problem(str(self.folder), rule, "wait for it, or stop it with `podium stop`"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.close()

    def append(self, event: str, **fields: Any) -> None:
        """Write one event and flush it to the disk before returning.

        Raises:
            LedgerBroken: The disk is full, or not there any more. No part of the event is left in the file.
        """
        line = json.dumps({"t": round(time.time(), 3), "event": event, **fields}, ensure_ascii=False, allow_nan=False)
        whole = os.fstat(self._file.fileno()).st_size
        rest = memoryview(f"{line}\n".encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._cut_back_to(whole)
            what = f"{self.path} cannot be written: {error.strerror}"
            sweep = name_of(self.folder).partition("/")[0]
            way_out = f"mend that (`podium gc` frees space), then `podium resume {sweep}` goes on"
            raise LedgerBroken(f"{what}; {way_out}") from None

    def read(self) -> SweepState:
        """The state as of the last append."""
        return read(self.folder)

    def _cut_back_to(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError:
            pass  # then the line is torn, and the next writer cuts it off

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            with self.path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
