"""The view against a real ``mlflow server`` on loopback, which is stopped and started again in mid-sweep."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.serving import Server
from tracking.mlflow_client import check, connect
from tracking.mlflow_registry import register_champion
from tracking.mlflow_view import MlflowView

Driver = Any  # tests/tracking/conftest.py


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
