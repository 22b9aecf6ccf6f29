"""MLflow as a view of the ledger, against a real MLflow on SQLite."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import ServiceUnreachable
from tracking.mlflow_client import check, connect, default_uri, without_password
from tracking.mlflow_registry import register_champion
from tracking.mlflow_view import MlflowView

Driver = Any  # tests/tracking/conftest.py


def runs_of(uri: str) -> dict[str, Any]:
    client = connect(uri)
    experiment = client.get_experiment_by_name("podium")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in runs}) == len(runs), "a run was made twice"
    return {str(run.info.run_name): run for run in runs}


def history(uri: str, run: Any, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in connect(uri).get_metric_history(run.info.run_id, key)]


def artifacts(uri: str, run: Any, path: str | None = None) -> list[str]:
    return [file.path for file in connect(uri).list_artifacts(run.info.run_id, path)]


def test_a_trial_that_was_stopped_early_and_scored_is_finished(driver: Driver, mlflow_home: Path) -> None:
    driver.begin()
    trial = driver.trial(0)
    driver.report(trial, 10, 2.0)
    driver.evaluation(trial, quality__score=0.5)
    driver.finish(trial, "STOPPED", reason="asha")
    driver.end()
    uri = default_uri(mlflow_home)
    MlflowView(uri).sync(driver.state())
    run = runs_of(uri)[f"#0 {trial}"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["podium.state"] == "STOPPED"


def test_a_whole_sweep(whole_sweep: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    result = MlflowView(uri).sync(whole_sweep.state())
    assert (result["ok"], result["error"], result["runs"]) == (True, None, 5)
    runs = runs_of(uri)
    parent, best = runs["shoes"], runs["#0 t-aaaa"]
    assert result["parent_run_id"] == parent.info.run_id
    assert set(runs) == {"shoes", "#0 t-aaaa", "#1 t-bbbb", "#2 t-cccc", "base"}
    for name, run in runs.items():
        assert run.data.tags["podium.sweep"] == "shoes"
        assert run.data.tags.get("mlflow.parentRunId") == (None if name == "shoes" else parent.info.run_id)
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {
        "shoes": "FINISHED",
        "#0 t-aaaa": "FINISHED",
        "#1 t-bbbb": "KILLED",
        "#2 t-cccc": "FAILED",
        "base": "FINISHED",
    }
    assert runs["#1 t-bbbb"].data.tags["podium.reason"] == "asha"
    assert runs["#2 t-cccc"].data.tags["podium.error"] == "loss is NaN"

    assert best.data.params == {
        "optimizer.lr": "1.0",
        "optimizer.name": "adam",
        "lora.targets": '["*.q_proj"]',
        "pool": "cpu",
        "trial": "0",
    }
    assert [step for step, _ in history(uri, best, "val/loss")] == [10, 20, 30, 40]
    assert [value for _, value in history(uri, best, "val/loss")] == pytest.approx([2.0, 1.9, 1.8, 1.7])
    assert best.data.metrics["quality/score"] == 4.5
    assert best.data.metrics["challenge/quality/score"] == 4.25
    assert "latency/formulation_p99_s" not in best.data.metrics, "null is not a number"
    assert best.data.metrics["cost/gpu_s"] == 10.0
    assert runs["base"].data.metrics == {"quality/score": 0.5}
    assert runs["base"].data.tags["podium.arm"] == "base"
    assert sorted(artifacts(uri, best)) == ["adapter", "answers", "trial.yaml"]
    assert artifacts(uri, best, "adapter") == ["adapter/adapter_config.json"]
    assert artifacts(uri, best, "answers/challenge-t-aaaa-challenge") == [
        "answers/challenge-t-aaaa-challenge/challenge.jsonl"
    ]

    assert parent.data.params == {"recipe": "tiny", "algorithm": "tpe", "trials": "3", "seed": "0"}
    assert parent.data.tags["podium.champion"] == "t-aaaa"
    assert parent.data.metrics["quality/score"] == 4.5
    assert parent.data.metrics["challenge/quality/score"] == 4.25
    assert parent.data.metrics["cost/gpu_s"] == 34.0, "of the sweep, not of the champion"
    assert parent.data.metrics["cost/idle_usd"] == 0.25
    assert sorted(artifacts(uri, parent)) == ["report.html", "spec.yaml"]
    assert parent.info.artifact_uri.startswith((mlflow_home / "artifacts").as_uri())


def test_of_several_evaluations_that_are_written_at_once_the_last_one_is_shown(
    driver: Driver, mlflow_home: Path
) -> None:
    """A contender is judged on more and more items; what it got on few must not stay because it was higher."""
    uri = default_uri(mlflow_home)
    driver.begin()
    trial = driver.trial(0)
    scores = [3.5, 4.5, 4.25, 4.0]
    for score in scores:
        driver.evaluation(trial, quality__score=score)
    driver.finish(trial)
    MlflowView(uri).sync(driver.state())
    run = runs_of(uri)["#0 t-aaaa"]
    assert run.data.metrics["quality/score"] == 4.0
    assert [value for _, value in history(uri, run, "quality/score")] == scores
    driver.evaluation(trial, quality__score=3.75)
    MlflowView(uri).sync(driver.state())
    run = runs_of(uri)["#0 t-aaaa"]
    assert run.data.metrics["quality/score"] == 3.75
    assert [value for _, value in history(uri, run, "quality/score")] == [*scores, 3.75]


def test_a_champion_that_is_none_any_more_is_not_shown(whole_sweep: Driver, mlflow_home: Path) -> None:
    view = MlflowView(default_uri(mlflow_home))
    state = whole_sweep.state()
    view.sync(state)
    assert runs_of(view.tracking_uri)["shoes"].data.tags["podium.champion"] == "t-aaaa"
    state.champion = None
    view.sync(state)
    assert "podium.champion" not in runs_of(view.tracking_uri)["shoes"].data.tags


def test_nothing_is_written_twice(whole_sweep: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    state = whole_sweep.state()
    view = MlflowView(uri)
    view.sync(state)
    before = {name: (run.data, run.info.end_time) for name, run in runs_of(uri).items()}
    for again in (view, MlflowView(uri)):  # the same process, and one that has to ask
        result = again.sync(state)
        assert (result["ok"], result["runs"], result["params"], result["metrics"], result["artifacts"]) == (
            True,
            0,
            0,
            0,
            0,
        )
    runs = runs_of(uri)
    assert {name: run.info.end_time for name, run in runs.items()} == {name: end for name, (_, end) in before.items()}
    assert len(history(uri, runs["#0 t-aaaa"], "train/loss")) == 4
    assert history(uri, runs["#0 t-aaaa"], "quality/score") == [(40, 4.5)]
    assert len(history(uri, runs["shoes"], "cost/usd")) == 1


def test_it_grows_with_the_ledger_across_processes(driver: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    driver.begin()
    trial = driver.trial(0)
    first = MlflowView(uri)
    for step in (10, 20):
        driver.report(trial, step, 1.0)  # equal values at several steps are all kept
        assert first.sync(driver.state())["metrics"] >= 2
    driver.evaluation(trial, quality__score=3.0)
    first.sync(driver.state())
    assert runs_of(uri)["#0 t-aaaa"].info.status == "RUNNING"

    second = MlflowView(uri)
    driver.report(trial, 30, 1.0)
    driver.evaluation(trial, quality__score=3.0)  # evaluated again, with the same result
    driver.finish(trial)
    second.sync(driver.state())
    run = runs_of(uri)["#0 t-aaaa"]
    assert history(uri, run, "train/loss") == [(10, 1.0), (20, 1.0), (30, 1.0)]
    assert [value for _, value in history(uri, run, "quality/score")] == [3.0, 3.0]
    assert run.info.status == "FINISHED"
    assert second.run_ids() == {trial: run.info.run_id}


def test_two_sweeps_of_one_name_are_two_parents(driver: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    driver.begin()
    driver.trial(0)
    state = driver.state()
    first = MlflowView(uri).sync(state)
    state.started += 100  # submitted again, after the run folder was removed
    second = MlflowView(uri).sync(state)
    assert first["parent_run_id"] != second["parent_run_id"]
    assert second["runs"] == 2


def test_an_interrupted_sweep_leaves_no_running_trial(driver: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    driver.begin()
    driver.trial(0)
    driver.end("INTERRUPTED")
    MlflowView(uri).sync(driver.state())
    assert {run.info.status for run in runs_of(uri).values()} == {"KILLED"}


def test_more_than_one_batch(driver: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    driver.begin()
    trial = driver.trial(0)
    state = driver.state()
    state.trials[trial].reports = [{"step": step, "t": 1e9 + step, "train/loss": 1.0} for step in range(1500)]
    state.trials[trial].values = {f"key.{number}": number for number in range(150)}
    view = MlflowView(uri)
    assert view.sync(state)["ok"]
    run = runs_of(uri)["#0 t-aaaa"]
    assert len(history(uri, run, "train/loss")) == 1500
    assert len(run.data.params) == 152
    assert MlflowView(uri).sync(state)["metrics"] == 0


def test_odd_names_and_long_values_get_through(driver: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    driver.begin()
    trial = driver.trial(0)
    driver.evaluation("base+schema", quality__score=1.0)
    state = driver.state()
    state.trials[trial].values = {"list[0].key": "x" * 7000}
    state.trials[trial].error = "e" * 9000
    assert MlflowView(uri).sync(state)["error"] is None
    runs = runs_of(uri)
    assert "list_0_.key" in runs["#0 t-aaaa"].data.params
    assert runs["base+schema"].data.metrics == {"quality/score": 1.0}


def test_a_run_that_someone_deleted_comes_back(whole_sweep: Driver, mlflow_home: Path) -> None:
    uri = default_uri(mlflow_home)
    view = MlflowView(uri, retry_every_s=0)
    state = whole_sweep.state()
    view.sync(state)
    connect(uri).delete_run(view.run_ids()["t-bbbb"])
    state.trials["t-bbbb"].reports.append({"step": 50, "t": state.started, "train/loss": 1.0})
    assert not view.sync(state)["ok"]
    assert view.sync(state)["ok"]
    assert len(history(uri, runs_of(uri)["#1 t-bbbb"], "train/loss")) == 5


def test_run_id_in_the_environment_changes_nothing(
    driver: Driver, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    driver.begin()
    driver.trial(0)
    assert MlflowView(default_uri(mlflow_home)).sync(driver.state())["ok"]


def test_the_champion_is_registered(
    whole_sweep: Driver, mlflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    uri = default_uri(mlflow_home)
    view = MlflowView(uri)
    view.sync(whole_sweep.state())
    run_id = view.run_ids()["t-aaaa"]
    bundle = tmp_path / "bundle"
    (bundle / "adapter").mkdir(parents=True)
    (bundle / "adapter" / "adapter_config.json").write_text("{}")
    (bundle / "champion.json").write_text('{"trial": "t-aaaa"}')
    assert register_champion(uri, bundle, run_id, "shoes", tags={"sweep": "shoes"}) == "1"
    assert register_champion(uri, bundle, run_id, "shoes") == "1", "the same bundle is registered once"
    (bundle / "champion.json").write_text('{"trial": "t-aaaa", "again": true}')
    assert register_champion(uri, bundle, run_id, "shoes") == "2"
    version = connect(uri).get_model_version_by_alias("shoes", "champion")
    assert (str(version.version), version.run_id) == ("2", run_id)
    assert connect(uri).get_model_version("shoes", "1").tags["sweep"] == "shoes"
    dotted = "qwen2.5-shoes"  # a name of ours that MLflow takes for a registered model, and not for a logged one
    assert register_champion(uri, bundle, run_id, dotted) == "1"
    assert connect(uri).get_model_version_by_alias(dotted, "champion").run_id == run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # as a user fetches it
    got = mlflow.artifacts.download_artifacts("models:/shoes@champion", dst_path=str(tmp_path / "got"))
    assert Path(got, "champion.json").read_text() == '{"trial": "t-aaaa", "again": true}'
    assert Path(got, "adapter", "adapter_config.json").is_file()


def test_check_names_the_address_and_is_quick(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(
        ServiceUnreachable, match=r"MLflow at http://127\.0\.0\.1:9 cannot be reached: Connection refused"
    ):
        check("http://127.0.0.1:9")
    with pytest.raises(ServiceUnreachable, match="htp://x"):
        check("htp://x")
    (tmp_path / "mlflow.db").write_text("this is no database")
    with pytest.raises(ServiceUnreachable, match="not a database"):
        check(default_uri(tmp_path))
    assert time.monotonic() - start < 20


def test_a_password_is_not_shown() -> None:
    assert without_password("postgresql://me:secret@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert without_password("http://host:5000") == "http://host:5000"


def test_a_failure_is_told_once_and_never_raised(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    driver.begin()
    view = MlflowView("http://127.0.0.1:9", retry_every_s=60)
    with caplog.at_level(logging.WARNING, "tracking.mlflow_view"):
        first = view.sync(driver.state())
        start = time.monotonic()
        second = view.sync(driver.state())
    assert not first["ok"]
    assert first["error"] == "Connection refused"
    assert not second["ok"]
    assert second["error"] == first["error"]
    assert time.monotonic() - start < 1, "it waits before it tries again"
    assert len(caplog.records) == 1


def test_an_answer_that_was_lost_makes_no_duplicates(driver: Driver, mlflow_home: Path) -> None:
    """The server did what it was asked, but the connection broke before it said so."""
    uri = default_uri(mlflow_home)
    driver.begin()
    trial = driver.trial(0)
    driver.report(trial, 10, 1.0)
    driver.evaluation(trial, quality__score=4.0)
    view = MlflowView(uri, retry_every_s=0)
    client = view._client = connect(uri)

    for name in ("create_run", "log_batch", "log_artifact"):
        real = getattr(client, name)

        def then_break(*args: Any, real: Any = real, **kwargs: Any) -> None:
            real(*args, **kwargs)
            raise ConnectionResetError("the connection broke")

        setattr(client, name, then_break)
        assert view.sync(driver.state())["error"] == "the connection broke"
        setattr(client, name, real)
    assert view.sync(driver.state())["ok"]
    run = runs_of(uri)["#0 t-aaaa"]
    assert history(uri, run, "train/loss") == [(10, 1.0)]
    assert history(uri, run, "quality/score") == [(10, 4.0)]
