"""Killing a sweep's driver at chosen moments, and telling what a killed sweep has lost.

``python -m tests.chaos.kills`` runs the whole of it and prints a table.
"""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.errors import PodiumError
from tests.launchers.running import ROOT, environment
from tracking.ledger import SweepState, read

# Runs a command of Podium in a process that kills itself at one moment: before or after the nth event of a kind is
# written, halfway through writing it, or as soon as a checkpoint begins to be written.
DYING_DRIVER = """
import json, os, signal, sys, threading, time
from pathlib import Path
moment = json.loads(sys.argv.pop(1))
def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
def watch(pattern):
    home = Path(os.environ["PODIUM_HOME"])
    while not any(home.glob(pattern)):
        time.sleep(0.001)
    die()
from tracking.ledger import Ledger
append, seen = Ledger.append, [0]
def dying(self, event, **fields):
    wanted = event == moment.get("event") and all(fields.get(key) == value for key, value in moment["where"].items())
    seen[0] += wanted
    now = wanted and seen[0] == moment["nth"]
    if now and moment["when"] == "before":
        die()
    if now and moment["when"] == "within":
        os.write(self._file.fileno(), json.dumps({"t": time.time(), "event": event}).encode()[:20])
        die()
    append(self, event, **fields)
    if now:
        die()
Ledger.append = dying
if "file" in moment:
    threading.Thread(target=watch, args=[moment["file"]], daemon=True).start()
from launchers.cli import main
sys.argv = ["podium", *sys.argv[1:]]
main()
"""


@dataclass(frozen=True)
class Moment:
    """When a driver dies: ``when`` (before, within, after) the ``nth`` event of a kind, or when a file is there."""

    name: str
    event: str = ""
    when: str = "after"
    nth: int = 1
    where: dict[str, str] = field(default_factory=dict)
    file: str | None = None

    def to_json(self) -> str:
        watched = {"file": self.file} if self.file else {}
        fields = {"event": self.event, "when": self.when, "nth": self.nth, "where": self.where}
        return json.dumps({**fields, **watched})


MOMENTS = (
    Moment("sweep written, nothing begun", "sweep"),
    Moment("trial written, not started", "trial"),
    Moment("trial started", "state", where={"state": "RUNNING"}),
    Moment("in the middle of a checkpoint", file="runs/*/trials/*/checkpoints/*.part"),
    Moment("checkpoint made, its report not written", "report", "before"),
    Moment("report half written", "report", "within"),
    Moment("report written, no decision yet", "report", nth=2),
    Moment("adapter kept, not written", "adapter", "before"),
    Moment("trial to be evaluated, not started", "state", where={"state": "EVALUATING"}),
    Moment("evaluation written, trial not ended", "evaluation", nth=2),
    Moment("rule frozen, challenge set not read", "challenge"),
    Moment("outcome written, nothing exported", "champion"),
    Moment("bundle made and registered, not written", "export", "before"),
    Moment("everything done but the end", "end", "before"),
)


def podium_dying(home: Path, moment: Moment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that kills itself at the moment."""
    return subprocess.run(
        [sys.executable, "-c", DYING_DRIVER, moment.to_json(), *arguments],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def wait_until(condition: Any, limit_s: float, what: str) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come within {limit_s:g} s")


def state_of(folder: Path) -> SweepState | None:
    """The sweep's state; None while there is nothing to read."""
    try:
        return read(folder)
    except PodiumError:
        return None


def processes_of(home: Path) -> dict[int, str]:
    """Every process that works for this home, by its id: they all inherit it in their environment."""
    mark = f"PODIUM_HOME={home}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if words:
                    found[int(entry.name)] = words
        except OSError:
            continue
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def events(folder: Path) -> list[dict[str, Any]]:
    """The ledger, line by line, as far as it is written."""
    path = folder / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def steps_trained(folder: Path) -> Counter[tuple[str, int]]:
    """How often each step of each trial was trained, by the engine's own log."""
    counted: Counter[tuple[str, int]] = Counter()
    for path in folder.glob("trials/*/engine.log"):
        text = path.read_text(errors="replace")
        for step in re.findall(r"\bstep (\d+) \| (?:epoch|loss)", text):
            counted[path.parent.name, int(step)] += 1
    return counted


@dataclass(frozen=True)
class Losses:
    """What a sweep that was killed and taken up again has lost, against one that never was."""

    trials_lost: int
    trials_doubled: int
    results_changed: int
    evaluations_doubled: int
    runs_doubled: int
    runs_open: int
    steps_repeated: int

    @property
    def none(self) -> bool:
        """Nothing but steps since the last checkpoint."""
        return not any(value for name, value in vars(self).items() if name != "steps_repeated")


def _same(one: float | None, other: float | None) -> bool:
    """To six digits: in another company a packed trial may round otherwise."""
    return one == other or (one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6))


def losses(home: Path, name: str, reference: SweepState, tracking_uri: str | None = None) -> Losses:
    """Compare a sweep with the same one that ran undisturbed."""
    folder = home / "runs" / name
    state, told = read(folder), events(folder)
    drawn = Counter(event["trial"] for event in told if event["event"] == "trial")
    numbers = Counter(trial.number for trial in state.every_trial.values())
    evaluated = Counter((event["arm"], event["id"]) for event in told if event["event"] == "evaluation")
    same = ("val/loss", "train/loss", "quality/score")
    changed = [
        key
        for key, trial in reference.trials.items()
        if key in state.trials and not all(_same(state.trials[key].metrics.get(m), trial.metrics.get(m)) for m in same)
    ]
    runs = mlflow_runs(tracking_uri or f"sqlite:///{home / 'mlflow.db'}", name)
    tags = Counter((run["podium.trial"], run["podium.arm"]) for run in runs)
    return Losses(
        trials_lost=len({key for key, trial in reference.trials.items()} - _ended(state)),
        trials_doubled=sum(n - 1 for n in drawn.values()) + sum(n - 1 for n in numbers.values()),
        results_changed=len(changed) + (_champion(state) != _champion(reference)),
        evaluations_doubled=sum(n - 1 for n in evaluated.values()),
        runs_doubled=sum(n - 1 for n in tags.values()),
        runs_open=sum(run["status"] in ("RUNNING", "SCHEDULED") for run in runs),
        steps_repeated=sum(n - 1 for n in steps_trained(folder).values()),
    )


def _ended(state: SweepState) -> set[str]:
    return {key for key, trial in state.trials.items() if trial.state in ("DONE", "STOPPED")}


def _champion(state: SweepState) -> str | None:
    return (state.champion or {}).get("champion")


def mlflow_runs(uri: str, name: str) -> list[dict[str, str]]:
    """Every run of a sweep, its parent included: its status, and which trial or arm it is."""
    from tracking.mlflow_view import connect

    client = connect(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`podium.sweep` = '{name}'", max_results=1000)
    keys = ("podium.trial", "podium.arm")
    return [{"status": run.info.status, **{key: run.data.tags.get(key, "") for key in keys}} for run in runs]
