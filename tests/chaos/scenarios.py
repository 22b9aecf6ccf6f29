"""Sweeps in which something is killed, run to their end all the same, and what that cost.

``python -m tests.chaos.scenarios`` runs all of them and writes the table of docs/robustness.md.
"""

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.kills import (
    MOMENTS,
    Losses,
    events,
    kill,
    losses,
    podium_dying,
    processes_of,
    state_of,
    wait_until,
)
from tests.launchers.running import ROOT, command, environment, podium
from tests.tracking.serving import Server
from tracking.ledger import State, SweepState, read

SWEEP = """\
name: killed
recipe: tiny_commerce_sft
set:
  {engine: ENGINE, train.max_steps: 12, train.validate_every: 3, train.validation_rows: 8, generate.max_new_tokens: 8}
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: loguniform(1e-3, 2e-2)
  lora.rank: choice(4, 8)
search: {algorithm: random, trials: TRIALS, seed: 0}  # not from results: they come in another order
stop_early: {algorithm: none}  # what is stopped depends on who reports first
evaluate: {metrics: [shopping], dev: 4, challenge: 4, latency: {top: 0}}
champion: {minimize: val/loss}
"""
NAME = "killed"
MANY = 20


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes:
        killed: What was killed, and when.
        losses: Against the same sweep undisturbed.
        recovered_s: From the kill (or from the next command's start, where the driver died) to the next new event.
        left_behind: Processes of the sweep that were still there twenty seconds after the kill.
    """

    killed: str
    losses: Losses
    recovered_s: list[float]
    left_behind: list[str]


def undisturbed(folder: Path, engine: str = "packed", trials: int = 4) -> SweepState:
    """The same sweep with nothing killed."""
    home = folder / "home"
    done = podium(home, "submit", str(_write(folder, engine, trials)))
    assert done.returncode == 0, done.stderr
    return read(home / "runs" / NAME)


def driver_killed(folder: Path, reference: SweepState, moments: Any = MOMENTS) -> Outcome:
    """One sweep whose driver is killed at each moment in turn, and taken up again with the same command each time."""
    home, sweep = folder / "home", _write(folder)
    left: list[str] = []
    starts = []
    for moment in moments:
        starts.append(time.time())
        died = podium_dying(home, moment, "submit", str(sweep))
        assert died.returncode == -9, f"{moment.name}: {died.returncode}\n{died.stderr}"
        left += [f"{moment.name}: {process}" for process in _left_behind(home)]
    starts.append(time.time())
    done = podium(home, "submit", str(sweep))
    assert done.returncode == 0, done.stderr
    recovered = [_first_news(home / "runs" / NAME, start) - start for start in starts[1:]]
    return Outcome(f"the driver, at {len(moments)} moments", losses(home, NAME, reference), recovered, left)


def process_killed(
    folder: Path,
    reference: SweepState,
    told: str,
    find: Callable[[Path], int | None],
    times: int = 1,
    engine: str = "packed",
) -> Outcome:
    """A process of a running sweep is killed, ``times`` times; the driver goes on by itself."""
    home = folder / "home"
    run = home / "runs" / NAME
    with _submitting(home, _write(folder, engine)) as driver:
        recovered = [_kill_after(3 + 4 * number, run, find) for number in range(times)]
        _, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err
    return Outcome(told, losses(home, NAME, reference), recovered, _left_behind(home))


def many_trials_killed(folder: Path, reference: SweepState) -> Outcome:
    """A pack worker, a client, another pack worker and the driver of one sweep are killed, one after the other."""
    home, sweep = folder / "home", _write(folder, trials=MANY)
    run = home / "runs" / NAME
    with _submitting(home, sweep) as driver:
        recovered = [
            _kill_after(reports, run, find) for reports, find in ((5, pack_worker), (20, client), (35, pack_worker))
        ]
        wait_until(lambda: _reports(run) >= 50, 120, "the trials' reports")
        kill(driver.pid)
        driver.wait()
    left = _left_behind(home)
    start = time.time()
    done = podium(home, "submit", str(sweep))
    assert done.returncode == 0, done.stderr
    recovered.append(_first_news(run, start) - start)
    told = f"of {MANY} trials: a pack worker, a client, a pack worker, the driver"
    return Outcome(told, losses(home, NAME, reference), recovered, left + _left_behind(home))


def mlflow_killed(folder: Path, reference: SweepState) -> Outcome:
    """The MLflow server dies in mid-sweep, in the middle of whatever it is doing, and comes back ten seconds later."""
    home = folder / "home"
    run = home / "runs" / NAME
    server = Server(folder)
    server.start()
    try:
        with _submitting(home, _write(folder), MLFLOW_TRACKING_URI=server.uri) as driver:
            wait_until(lambda: _reports(run) >= 2, 120, "the trials' reports")
            server.stop()
            wait_until(lambda: _reports(run) >= 5, 120, "more reports with MLflow away")
            time.sleep(10)
            server.start()
            back = time.time()
            _, err = driver.communicate(timeout=240)
        assert driver.returncode == 0, err
        # Where the sweep ended before MLflow was back, the same submit brings it up to date.
        with _submitting(home, _write(folder), MLFLOW_TRACKING_URI=server.uri) as driver:
            _, err = driver.communicate(timeout=240)
        recovered = time.time() - back
        assert driver.returncode == 0, err
        lost = losses(home, NAME, reference, server.uri)
        return Outcome("the MLflow server, for 10 s and more", lost, [recovered], _left_behind(home))
    finally:
        server.stop()


def pack_worker(home: Path) -> int | None:
    """A process that trains the trials of a pack."""
    return _named(home, "ray::PackWorker")


def client(home: Path) -> int | None:
    """A trial's Ray worker that waits for its pack: Ray's title for it names the method, and the class while idle."""
    return _named(home, "ray::ResourceTrainable.train")


def worker(home: Path) -> int | None:
    """A trial's Ray worker: the parent of its trainer, with the ``nemo`` engine."""
    trainer_pid = trainer(home)
    if trainer_pid is None:
        return None
    return int(Path(f"/proc/{trainer_pid}/stat").read_text().rpartition(")")[2].split()[1])


def trainer(home: Path) -> int | None:
    """A trial's training process, with the ``nemo`` engine."""
    return _named(home, "recipes.engines.nemo.child")


def raylet(home: Path) -> int | None:
    """Ray's process for this node."""
    return _named(home, "/raylet/raylet ")


def gcs(home: Path) -> int | None:
    """Ray's process for the cluster."""
    return _named(home, "/gcs_server ")


def all_outcomes(folder: Path) -> list[Outcome]:
    """Every scenario, one after the other."""

    def fresh(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    reference = undisturbed(fresh("undisturbed"))
    nemo = undisturbed(fresh("undisturbed-nemo"), "nemo")
    return [
        driver_killed(fresh("driver"), reference),
        process_killed(fresh("pack"), reference, "a pack worker, twice", pack_worker, times=2),
        process_killed(fresh("client"), reference, "a trial's client", client),
        many_trials_killed(fresh("many"), undisturbed(fresh("undisturbed-many"), trials=MANY)),
        process_killed(fresh("worker"), nemo, "nemo: a trial's Ray worker", worker, engine="nemo"),
        process_killed(fresh("trainer"), nemo, "nemo: a trial's training process", trainer, engine="nemo"),
        process_killed(fresh("raylet"), reference, "Ray's node process, twice", raylet, times=2),
        process_killed(fresh("gcs"), reference, "Ray's cluster process", gcs),
        mlflow_killed(fresh("mlflow"), reference),
    ]


def table(outcomes: list[Outcome]) -> str:
    """The rows in Markdown."""
    heads = ["killed with -9", "trials lost", "trials doubled", "results changed", "evaluations doubled"]
    heads += ["MLflow runs doubled", "left open", "processes left", "seconds to recover", "steps repeated"]
    lines = [f"| {' | '.join(heads)} |", f"|-{'|-:' * (len(heads) - 1)}|"]
    for one in outcomes:
        lost = one.losses
        seconds = sorted(one.recovered_s)
        shown = f"{seconds[len(seconds) // 2]:.0f}" if len(seconds) < 3 else f"{seconds[0]:.0f}–{seconds[-1]:.0f}"
        cells = [lost.trials_lost, lost.trials_doubled, lost.results_changed, lost.evaluations_doubled]
        cells += [lost.runs_doubled, lost.runs_open, len(one.left_behind)]
        lines.append(f"| {one.killed} | {' | '.join(map(str, cells))} | {shown} | {lost.steps_repeated} |")
    return "\n".join(lines)


def _write(folder: Path, engine: str = "packed", trials: int = 4) -> Path:
    path = folder / "killed.yaml"
    path.write_text(SWEEP.replace("ENGINE", engine).replace("TRIALS", str(trials)))
    return path


@contextmanager
def _submitting(home: Path, sweep: Path, **variables: str) -> Any:
    driver = subprocess.Popen(
        command("submit", str(sweep)),
        cwd=ROOT,
        env=environment(home) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield driver
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()


def _left_behind(home: Path) -> list[str]:
    """Processes of this home that do not end by themselves within twenty seconds. They are ended then."""
    deadline = time.monotonic() + 20
    while (there := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in there:
        kill(pid)
    return list(there.values())


def _first_news(folder: Path, after: float) -> float:
    """When the first thing happened after a command's start that is more than its having begun."""
    starting = ("sweep", "begin", "mlflow", "units", "cost")
    told = (event for event in events(folder) if event["t"] > after and event["event"] not in starting)
    return float(next(told)["t"])


def _kill_after(reports: int, run: Path, find: Callable[[Path], int | None]) -> float:
    """Kill a process of a sweep that has made so many reports; seconds until all that was running goes on."""
    home = run.parents[1]
    wait_until(lambda: _reports(run) >= reports, 120, "the trials' reports")
    pid = wait_until(lambda: find(home), 30, find.__name__)
    running = _running(run)
    kill(pid)
    return _all_go_on(run, running, time.time())


def _reports(folder: Path) -> int:
    state = state_of(folder)
    return sum(len(trial.reports) for trial in state.trials.values()) if state else 0


def _running(folder: Path) -> set[str]:
    state = state_of(folder)
    assert state is not None
    return {key for key, trial in state.trials.items() if trial.state is State.RUNNING}


def _all_go_on(folder: Path, trials: set[str], after: float) -> float:
    """Seconds until each of these trials has reported again, or has come to its end."""

    def news() -> float | None:
        first: dict[str, float] = {}
        for event in events(folder):
            if event["t"] > after and event["event"] in ("report", "adapter") and event["trial"] in trials:
                first.setdefault(event["trial"], event["t"])
        return max(first.values()) - after if first.keys() == trials else None

    seconds: float = wait_until(news, 120, "a report of every trial that was running") if trials else 0.0
    return seconds


def _named(home: Path, words: str) -> int | None:
    return next((pid for pid, line in processes_of(home).items() if words in line), None)


def main() -> None:
    from launchers.run_folder import commit

    page = ROOT / "docs" / "robustness.md"
    with tempfile.TemporaryDirectory() as folder:
        rows = table(all_outcomes(Path(folder)))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, commit {commit()}"
    print(rows)
    begin, end = "<!-- the table: written by `python -m tests.chaos.scenarios` -->", "<!-- its end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    text = f"{before}{begin}\n{rows}\n\nMeasured on {machine}.\n{end}{rest.partition(end)[2]}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
