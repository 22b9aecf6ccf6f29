"""A sweep from its YAML to a verified champion: what is left in the ledger, in MLflow, in the bundle, on the screen."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from analysis.instrument import readings
from recipes import generation
from recipes.bases import BUILTIN
from recipes.schema import Base
from tests.launchers.running import Finished, podium
from tracking.ledger import State


def test_it_ends_well_and_says_where_to_look_next(finished: Finished) -> None:
    assert finished.code == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    assert "champion: trial" in finished.stdout
    assert "bundle:" in finished.stdout
    assert "podium dashboard" in finished.stdout


def test_the_driver_loads_no_torch(finished: Finished) -> None:
    assert set(finished.loaded) == {"ray", "mlflow"}


def test_the_ledger_tells_the_whole_story(finished: Finished) -> None:
    state = finished.state
    assert state.status == "DONE"
    assert sorted(trial.number for trial in state.trials.values()) == [0, 1, 2]
    for trial in state.trials.values():
        assert trial.state is State.DONE
        assert trial.step == trial.max_steps == 6
        assert [report["step"] for report in trial.reports] == [2, 4, 6]
        assert trial.reports[-1]["val/loss"] < trial.reports[0]["val/loss"]
        assert trial.metrics["quality/score"] is not None
    assert set(state.arms) == {"base", "base+schema", "defects"}
    kinds = {entry.kind for entry in state.costs}
    assert {"training", "evaluation", "idle"} <= kinds
    assert state.champion is not None
    best = min(state.trials.values(), key=lambda trial: trial.metrics["val/loss"] or 9e9)
    assert state.champion["champion"] == best.id


def test_the_instrument_was_read_once(finished: Finished) -> None:
    state = finished.state
    (evaluation,) = state.arms["defects"]
    assert not state.superseded.get("defects")
    table = readings(state).set_index("defect")
    assert table.loc["clean", "n"] == min(100, state.facts["data"]["dev"]["rows"]) > 8
    assert evaluation.n == table["n"].sum()  # planted answers
    assert table.loc["clean", "found"] == 0
    assert table["met"].dropna().all()
    assert state.folder.joinpath("evaluations", "defects-dev.jsonl").is_file()


def test_trial_zero_is_the_recipes_defaults(finished: Finished) -> None:
    first = next(trial for trial in finished.state.trials.values() if trial.number == 0)
    assert first.values == {"optimizer.name": "adamw", "optimizer.lr": 0.002, "lora.rank": 8}


def test_the_champion_in_plain_peft_has_the_loss_that_its_trial_reported(finished: Finished) -> None:
    state = finished.state
    assert state.champion is not None
    trial = state.trials[state.champion["champion"]]
    settings = yaml.safe_load((state.folder / "trials" / trial.id / "trial.yaml").read_text())
    validation = Path(state.facts["data"]["validation"]["path"]).read_text().splitlines()
    rows = [json.loads(line)["messages"] for line in validation[: settings["train"]["validation_rows"]]]
    base = Base(path="builtin:tiny_commerce", dtype="float32")
    bundle = Path(state.exports[0]["to"])
    folder = str(BUILTIN[base.path])
    model = generation.load(folder, base, bundle, max_new_tokens=8, batch_size=8)
    assert generation.validation_loss(model, rows) == pytest.approx(trial.metrics["val/loss"], rel=1e-4)


def test_mlflow_has_parent_children_parameters_metrics_artifacts_and_the_alias(finished: Finished) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{finished.home / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(experiments)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    trials = [run for run in runs if "podium.trial" in run.data.tags]
    assert len(parents) == 1
    assert len(trials) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    champion = finished.state.champion
    assert champion is not None
    for run in trials:
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert {"optimizer.name", "optimizer.lr", "lora.rank"} <= set(run.data.params)
        assert {"train/loss", "val/loss", "quality/score", "cost/usd", "train/lr"} <= set(run.data.metrics)
        names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert {"trial.yaml", "engine.log", "adapter", "samples.jsonl"} <= names
        assert len(client.get_metric_history(run.info.run_id, "val/loss")) == 3
        if run.data.tags["podium.trial"] == champion["champion"]:
            assert "latency/formulation_p50_s" in run.data.metrics
    assert "report.html" in {entry.path for entry in client.list_artifacts(parents[0].info.run_id)}
    version = client.get_model_version_by_alias("small", "champion")
    assert version.tags["podium.trial"] == champion["champion"]


def test_json_and_csv_stand_alone_on_stdout(finished: Finished) -> None:
    state = finished.state
    status = json.loads(podium(finished.home, "status", "-o", "json").stdout)
    assert status["states"] == {"DONE": 3}
    board = json.loads(podium(finished.home, "leaderboard", "small", "-o", "json").stdout)
    assert [row["rank"] for row in board["rows"]] == [1, 2, 3]
    rows = list(csv.DictReader(io.StringIO(podium(finished.home, "leaderboard", "-o", "csv").stdout)))
    assert {row["id"] for row in rows} == set(state.trials)
    cost = json.loads(podium(finished.home, "cost", "-o", "json").stdout)
    assert cost["cost/usd"] == pytest.approx(sum(entry.usd for entry in state.costs))
    compared = json.loads(podium(finished.home, "compare", "-o", "json").stdout)
    arms = {row["role"]: row["n"] for row in compared["arms"]}
    assert arms == {"base": 8, "base+schema": 8, "default": 8, "median": 8, "champion": 8}


def test_the_bundle_verifies_and_a_tampered_one_does_not(finished: Finished, tmp_path: Path) -> None:
    import shutil

    bundle = Path(finished.state.exports[0]["to"])
    good = podium(finished.home, "verify", str(bundle), "-o", "json")
    assert good.returncode == 0, good.stderr
    checks = {check["check"]: check["ok"] for check in json.loads(good.stdout)["checks"]}
    assert checks == {"files": True, "base": True, "adapter": True, "score": True}
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    weights = copy / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    bad = podium(finished.home, "verify", str(copy))
    assert bad.returncode == 7
    assert "adapter_model.safetensors" in bad.stderr


@pytest.mark.slow
def test_export_of_another_trial_with_merged_weights(finished: Finished, tmp_path: Path) -> None:
    run = podium(finished.home, "export", "--trial", "0", "--merge", "--to", str(tmp_path / "zero"))
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "zero" / "merged" / "model.safetensors").exists()
    assert run.stdout.strip() == str(tmp_path / "zero")


def test_base_and_champion_answer_side_by_side(finished: Finished) -> None:
    run = podium(finished.home, "try", "waterproof trail shoes for my wife")
    assert run.returncode == 0, run.stderr
    assert "base" in run.stdout
    assert "champion, trial" in run.stdout


def test_logs_name_the_trial_and_show_what_the_trainer_said(finished: Finished) -> None:
    run = podium(finished.home, "logs", "--trial", "0", "-n", "200")
    assert run.returncode == 0
    assert "trial 0 (" in run.stderr
    assert "step 5" in run.stdout


def test_the_same_submit_again_runs_nothing_and_changes_nothing(finished: Finished, tmp_path: Path) -> None:
    from tests.launchers.running import write_sweep

    before = (finished.home / "runs" / "small" / "ledger.jsonl").read_bytes()
    run = podium(finished.home, "submit", str(write_sweep(tmp_path)))
    assert run.returncode == 0
    assert "sweep small is finished and unchanged: nothing is left to run" in run.stderr
    assert (finished.home / "runs" / "small" / "ledger.jsonl").read_bytes() == before
