"""The view against a real ``mlflow server`` on loopback, which is stopped and started again in mid-sweep."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracking.mlflow_client import check, connect
from tracking.mlflow_view import MlflowView, register_champion

Driver = Any  # tests/tracking/conftest.py


class Server:
    """One server process at a time, on one port and one database."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.home}/mlflow.db"]
        command += ["--artifacts-destination", str(self.home / "served")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        log = (self.home / "server.log").open("ab")
        # A session of its own: its workers end with it.
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"the server did not start: {(self.home / 'server.log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait(10)
            self.process = None


@pytest.fixture
def server(mlflow_home: Path) -> Iterator[Server]:
    server = Server(mlflow_home)
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(180)
def test_an_outage_in_mid_sweep_makes_neither_gaps_nor_duplicates(driver: Driver, server: Server) -> None:
    check(server.uri)
    driver.begin()
    view = MlflowView(server.uri, retry_every_s=0)
    trial = driver.trial(0)
    driver.report(trial, 10, 2.0)
    assert view.sync(driver.state())["ok"]

    server.stop()
    driver.report(trial, 20, 1.9)
    start = time.monotonic()
    result = view.sync(driver.state())
    assert not result["ok"]
    assert result["error"]
    assert time.monotonic() - start < 10
    other = driver.trial(1)
    driver.report(other, 10, 2.1)
    driver.evaluation(trial, quality__score=4.0)
    driver.finish(trial)
    assert not view.sync(driver.state())["ok"]

    server.start()
    driver.report(other, 20, 2.0)
    assert view.sync(driver.state())["ok"]
    again = MlflowView(server.uri).sync(driver.state())  # a driver that was restored
    assert again["ok"]
    assert (again["runs"], again["metrics"], again["artifacts"]) == (0, 0, 0)

    client = connect(server.uri)
    experiment = client.get_experiment_by_name("podium")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == 3

    def steps(name: str, key: str) -> list[int]:
        return [metric.step for metric in client.get_metric_history(runs[name].info.run_id, key)]

    assert steps("#0 t-aaaa", "train/loss") == [10, 20]
    assert steps("#0 t-aaaa", "quality/score") == [20]
    assert steps("#1 t-bbbb", "val/loss") == [10, 20]
    assert runs["#0 t-aaaa"].info.status == "FINISHED"
    names = [file.path for file in client.list_artifacts(runs["#0 t-aaaa"].info.run_id)]
    assert sorted(names) == ["adapter", "answers", "trial.yaml"]

    run_id = view.run_ids()[trial]
    bundle = driver.folder / "trials" / trial
    assert register_champion(server.uri, bundle, run_id, "shoes") == "1"
    version = client.get_model_version_by_alias("shoes", "champion")
    assert version.run_id == run_id
