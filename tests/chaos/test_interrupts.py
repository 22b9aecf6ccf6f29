"""Ending a sweep early: Ctrl-C and ``podium stop`` leave nothing open and nothing behind."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from launchers import checkpoints
from sweeps.errors import PodiumError
from tests.chaos.kills import processes_of
from tests.launchers.running import ROOT, command, environment, podium, write_sweep
from tracking.ledger import State, SweepState, read

SLOW = ["search.trials=4", "set.train.max_steps=400", "set.train.validate_every=2"]


def wait_for_reports(folder: Path, number: int, limit_s: float = 120) -> SweepState:
    """The sweep's state once its trials have reported this often."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            state = read(folder)
        except PodiumError:
            time.sleep(0.5)
            continue
        if sum(len(trial.reports) for trial in state.trials.values()) >= number:
            return state
        time.sleep(0.5)
    raise AssertionError("the trials never reported")


def children_of(home: Path) -> list[str]:
    """Processes that train for this home."""
    return [line for line in processes_of(home).values() if "ray::PackWorker" in line]


def start(home: Path, sweep: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("submit", str(sweep), *SLOW),
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_ctrl_c_ends_in_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(home, write_sweep(tmp_path, trials=4))
    try:
        wait_for_reports(home / "runs" / "small", 2)
        assert children_of(home)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    state = read(home / "runs" / "small")
    assert state.status == "INTERRUPTED"
    assert {trial.state for trial in state.trials.values()} <= {State.PAUSED, State.PENDING}
    started = [trial for trial in state.trials.values() if trial.reports]
    assert started
    for trial in started:
        checkpoint = checkpoints.latest(state.folder / "trials" / trial.id)
        assert checkpoint is not None, "what was trained is kept"
        assert checkpoints.progress_of(checkpoint)["step"] >= trial.step
    assert children_of(home) == []
    from mlflow import MlflowClient

    uri = f"sqlite:///{home / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert "RUNNING" not in {run.info.status for run in runs}


@pytest.mark.slow
def test_podium_stop_goes_on_to_a_champion(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(home, write_sweep(tmp_path, trials=4))
    try:
        wait_for_reports(home / "runs" / "small", 2)
        assert podium(home, "stop").returncode == 0
        _, err = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    state = read(home / "runs" / "small")
    assert state.status == "STOPPED"
    assert state.champion is not None
    assert state.champion["champion"] in state.trials
    assert children_of(home) == []


@pytest.mark.slow
def test_a_trial_that_cannot_be_trained_fails_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sweep = write_sweep(tmp_path, trials=3)
    text = sweep.read_text().replace("  lora.rank: choice(4, 8)", '  lora.targets: [["*_proj"], ["q_proj"]]')
    sweep.write_text(text.replace("trials: 3", "trials: 4, algorithm: random"))
    run = podium(home, "submit", str(sweep))
    assert run.returncode == 3, run.stderr
    state = read(home / "runs" / "small")
    failed = [trial for trial in state.trials.values() if trial.state is State.FAILED]
    assert failed
    for trial in failed:
        assert trial.values["lora.targets"] == ["q_proj"]
        assert "'q_proj' matches no linear layer" in (trial.error or "")
    assert state.champion is not None
    assert state.champion["champion"] not in {trial.id for trial in failed}
