"""The life of a sweep as a user leads it: twice at once, extended, edited, retried, paused, in the background."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.kills import events, kill, mlflow_runs, processes_of, state_of, wait_until
from tests.chaos.scenarios import client
from tests.launchers.running import ROOT, Finished, command, environment, podium, write_sweep
from tracking.ledger import State, SweepState, is_open, read

BROKEN_METRIC = """
def score(row, answer):
    if answer != row["reference"]:  # as no answer of a hardly trained model is the right one
        raise OSError("the price list is gone")
    return {"quality/score": 1.0}
"""
LONG = ("set.train.max_steps=400", "set.train.validate_every=2")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home of its own; whatever still works for it at the end is ended."""
    yield tmp_path / "home"
    for pid in processes_of(tmp_path / "home"):
        kill(pid)


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    """The home of a finished sweep, to go on with, and its YAML beside it."""
    home = tmp_path / "home"
    shutil.copytree(finished.home, home)
    return home


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def drawn(folder: Path) -> Counter[str]:
    """How often each trial was drawn."""
    return Counter(event["trial"] for event in events(folder) if event["event"] == "trial")


def evaluated(folder: Path) -> Counter[tuple[str, str]]:
    return Counter((event["arm"], event["id"]) for event in events(folder) if event["event"] == "evaluation")


def nothing_twice(folder: Path) -> None:
    assert set(drawn(folder).values()) == {1}
    assert set(evaluated(folder).values()) == {1}
    numbers = [trial.number for trial in read(folder).every_trial.values()]
    assert numbers == list(range(len(numbers)))


def reported(folder: Path) -> int:
    state = state_of(folder)
    return sum(len(trial.reports) for trial in state.trials.values()) if state else 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_submit_twice_at_once_is_one_sweep(tmp_path: Path, home: Path) -> None:
    sweep = write_sweep(tmp_path, trials=2)
    first, second = start(home, "submit", str(sweep)), start(home, "submit", str(sweep))
    told = [process.communicate(timeout=300) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), told
    folder = home / "runs" / "small"
    state = read(folder)
    assert len(state.sessions) == 1
    assert len(state.trials) == 2
    nothing_twice(folder)
    followed = [err for _, err in told if "following it" in err]
    assert len(followed) == 1
    assert re.search(r"process \d+ on .* is writing this sweep", followed[0])
    assert all("champion: trial" in out for out, _ in told), "both end with the result"
    again = podium(home, "submit", str(sweep))
    assert again.returncode == 0, again.stderr
    assert "finished and unchanged: nothing is left to run" in again.stderr
    assert len(read(folder).sessions) == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_extend_counts_all_that_was_run(copied: Path) -> None:
    folder = copied / "runs" / "small"
    before = read(folder)
    done = podium(copied, "extend", "small", "--trials", "1")
    assert done.returncode == 0, done.stderr
    state = read(folder)
    assert len(state.trials) == len(before.trials) + 1
    assert {key: trial.reports for key, trial in state.trials.items() if key in before.trials} == {
        key: trial.reports for key, trial in before.trials.items()
    }
    nothing_twice(folder)
    assert state.versions[-1].changes == ("search.trials: 3 → 4",)
    status = json.loads(podium(copied, "status", "-o", "json").stdout)
    assert [version["changes"] for version in status["versions"]] == [[], ["search.trials: 3 → 4"]]
    assert [session["status"] for session in status["sessions"]] == ["DONE", "DONE"]
    table = podium(copied, "status").stdout
    assert "version 2" in table
    assert "search.trials: 3 → 4" in table
    runs = mlflow_runs(f"sqlite:///{copied / 'mlflow.db'}", "small")
    assert max(Counter((run["podium.trial"], run["podium.arm"]) for run in runs).values()) == 1
    assert not [run for run in runs if run["status"] not in ("FINISHED", "KILLED")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_edited_space_is_a_new_version(copied: Path, tmp_path: Path) -> None:
    folder = copied / "runs" / "small"
    before = read(folder)
    sweep = write_sweep(tmp_path)
    sweep.write_text(sweep.read_text().replace("choice(4, 8)", "choice(8)"))
    done = podium(copied, "submit", str(sweep))
    assert done.returncode == 0, done.stderr
    state = read(folder)
    kept = {key for key, trial in before.trials.items() if trial.values["lora.rank"] == 8}
    assert kept <= set(state.trials)
    assert set(state.history) == set(before.trials) - kept
    assert len(state.trials) == 3
    assert all(trial.values["lora.rank"] == 8 for trial in state.trials.values() if trial.number > 0)
    nothing_twice(folder)
    status = podium(copied, "status").stdout
    assert "space.lora.rank: choice(4, 8) → choice(8)" in status
    assert "earlier version" in status


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_retry_takes_up_what_failed(tmp_path: Path, home: Path) -> None:
    folder = home / "runs" / "small"
    sweep = write_sweep(tmp_path, trials=3, more="retries: 0\n")
    steps = ("set.train.max_steps=60", "set.train.validate_every=3")
    process = start(home, "submit", str(sweep), *steps)
    wait_until(lambda: reported(folder) >= 2, 120, "reports")
    pid = wait_until(lambda: client(home), 30, "a client")
    kill(pid)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    assert "champion: trial" in out, "the others are judged all the same"
    failed = [trial for trial in read(folder).trials.values() if trial.state is State.FAILED]
    assert len(failed) == 1
    assert (failed[0].error or "").startswith("the trial's worker died")
    again = podium(home, "submit", str(sweep), *steps)
    assert again.returncode == 3
    assert "podium retry small" in again.stderr
    retried = podium(home, "retry", "small")
    assert retried.returncode == 0, retried.stderr
    state = read(folder)
    assert {trial.state for trial in state.trials.values()} == {State.DONE}
    nothing_twice(folder)
    steps_reported = [report["step"] for report in state.trials[failed[0].id].reports]
    assert steps_reported == list(range(3, 61, 3)), "it went on from its last checkpoint"
    assert "no trial of small has failed" in podium(home, "retry", "small").stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_the_background_paused_and_resumed(tmp_path: Path, home: Path) -> None:
    folder = home / "runs" / "small"
    sweep = write_sweep(tmp_path, trials=2)
    begun = podium(home, "submit", str(sweep), *LONG, "--detach", timeout_s=120)
    assert begun.returncode == 0, begun.stderr
    pid = int(re.findall(r"in the background as process (\d+)", begun.stderr)[0])
    assert str(folder / "driver.log") in begun.stderr
    again = podium(home, "submit", str(sweep), *LONG, "--detach")
    assert again.returncode == 0
    assert f"process {pid}" in again.stderr, "it runs already"
    wait_until(lambda: reported(folder) >= 3, 120, "reports")
    following = start(home, "logs", "-f", "--trial", "0")
    watching = start(home, "status", "--watch")
    assert podium(home, "pause", "small").returncode == 0
    out, _ = watching.communicate(timeout=120)
    assert "PAUSED" in out
    log, _ = following.communicate(timeout=60)
    assert "step" in log
    wait_until(lambda: not is_open(folder), 60, "the driver's end")
    wait_until(lambda: not processes_of(home), 30, "the end of every process")
    paused = read(folder)
    assert paused.status == "PAUSED"
    assert paused.champion is None
    steps = {trial.id: trial.step for trial in paused.trials.values()}
    assert all(steps.values())
    runs = mlflow_runs(f"sqlite:///{home / 'mlflow.db'}", "small")
    assert "RUNNING" not in {run["status"] for run in runs}

    resumed = start(home, "resume", "small")
    wait_until(lambda: (state_of(folder) or paused).status == "RUNNING", 60, "the next session")
    wait_until(lambda: _all_beyond(folder, steps), 120, "trials beyond where they were")
    assert podium(home, "stop", "small").returncode == 0
    _, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, err
    state = read(folder)
    assert state.status == "STOPPED"
    assert state.champion is not None
    nothing_twice(folder)
    for trial in state.trials.values():
        reports = [report["step"] for report in trial.reports]
        assert reports == sorted(set(reports)), "no report twice"
    assert "podium resume small" in podium(home, "stop", "small").stderr


def _all_beyond(folder: Path, steps: dict[str, int]) -> bool:
    state = state_of(folder)
    return state is not None and all(state.trials[key].step > step for key, step in steps.items())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_signal_to_the_whole_group_is_an_interruption(tmp_path: Path, home: Path) -> None:
    """As `timeout`, a service manager or a batch system ends a job: Ray's processes are hit at the same moment."""
    folder = home / "runs" / "small"
    process = subprocess.Popen(
        command("submit", str(write_sweep(tmp_path)), *LONG),
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: reported(folder) >= 2, 120, "reports")
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    state = read(folder)
    assert state.status == "INTERRUPTED"
    assert not {trial.state for trial in state.trials.values()} & {State.RUNNING, State.FAILED}
    wait_until(lambda: not processes_of(home), 30, "the end of every process")


@pytest.mark.timeout(120)
def test_mlflow_that_does_not_answer_at_the_start_stops_it_there(tmp_path: Path, home: Path) -> None:
    began = time.monotonic()
    run = subprocess.run(
        command("submit", str(write_sweep(tmp_path))),
        cwd=ROOT,
        env={**environment(home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 5
    assert "MLflow at http://127.0.0.1:9 cannot be reached: Connection refused" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (home / "runs" / "small" / "ledger.jsonl").exists(), f"after {time.monotonic() - began:.0f} s"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_that_fails_the_same_way_stops_itself(tmp_path: Path, home: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_METRIC)
    sweep = write_sweep(tmp_path, trials=16)
    text = sweep.read_text().replace("metrics: [shopping, field_f1]", "metrics: ['broken.py:score']")
    sweep.write_text(
        text.replace("set: {", "set: {generate.max_new_tokens: 4, ").replace(", generate.max_new_tokens: 16", "")
    )
    run = podium(home, "submit", str(sweep))
    state: SweepState = read(home / "runs" / "small")
    assert run.returncode in (3, 6), run.stderr
    assert state.status == "FAILED"
    assert "3 trials in a row failed the same way" in (state.reason or "")
    assert "the price list is gone" in (state.reason or "")
    assert len(state.trials) < 16, "it did not go on to the end"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_spent_budget_keeps_its_champion_when_the_sweep_is_resumed(tmp_path: Path, home: Path) -> None:
    folder = home / "runs" / "small"
    sweep = write_sweep(tmp_path, trials=3)
    # Long enough for a busy machine to have started Ray and to have validated a trial once.
    first = podium(home, "submit", str(sweep), *LONG, "set.train.max_steps=4000", "budget.wall_clock=60s")
    assert first.returncode == 4, first.stderr
    state = read(folder)
    assert state.status == "BUDGET"
    assert state.champion is not None
    chosen = state.champion["champion"]
    assert chosen
    again = podium(home, "resume", "small")
    assert again.returncode == 4, again.stderr
    state = read(folder)
    assert state.champion is not None
    assert state.champion["champion"] == chosen, "nothing was spent, so nothing has changed"
    nothing_twice(folder)
