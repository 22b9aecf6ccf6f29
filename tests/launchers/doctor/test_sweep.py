"""``podium doctor SWEEP``: each thing that can be wrong is named, mended where that is claimed, and then clean."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from launchers.doctor.check import Checked, Outcome, exit_code
from launchers.doctor.sweep import examine, mend_all
from tests.launchers.running import podium
from tracking.ledger import Ledger, SweepState, read

Break = Callable[[Path, SweepState], None]


def folder_of(home: Path) -> Path:
    return home / "runs" / "small"


def wrong(checked: list[Checked]) -> dict[str, str]:
    """What is failed or a warning, by check."""
    bad = (Outcome.FAILED, Outcome.WARNING)
    found: dict[str, str] = {}
    for one in checked:
        if one.finding.outcome in bad:
            found[one.check] = f"{found.get(one.check, '')} {one.finding.says}".strip()
    return found


def sql(home: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        assert database.execute(statement, values).rowcount > 0


def trial_of(state: SweepState, number: int = 1) -> Any:
    return next(trial for trial in state.trials.values() if trial.number == number)


def adapter_gone(home: Path, state: SweepState) -> None:
    shutil.rmtree(state.folder / trial_of(state).adapter)


def adapter_cut(home: Path, state: SweepState) -> None:
    weights = state.folder / trial_of(state).adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def settings_changed(home: Path, state: SweepState) -> None:
    path = state.folder / "trials" / trial_of(state).id / "trial.yaml"
    content = yaml.safe_load(path.read_text())
    content["optimizer"]["lr"] *= 2
    path.write_text(yaml.safe_dump(content))


def settings_gone(home: Path, state: SweepState) -> None:
    (state.folder / "trials" / trial_of(state).id / "trial.yaml").unlink()


def settings_garbled(home: Path, state: SweepState) -> None:
    (state.folder / "trials" / trial_of(state).id / "trial.yaml").write_text("{: [")


def orphan(home: Path, state: SweepState) -> None:
    (state.folder / "trials" / "0123456789ab").mkdir()


def half_written(home: Path, state: SweepState) -> None:
    part = state.folder / "trials" / trial_of(state).id / "adapter.part"
    part.mkdir()
    (part / "adapter_config.json").write_text("{")


def answers_gone(home: Path, state: SweepState) -> None:
    (state.folder / "evaluations" / f"{trial_of(state).id}-dev.jsonl").unlink()


def answers_cut(home: Path, state: SweepState) -> None:
    path = state.folder / "evaluations" / "base-dev.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def samples_gone(home: Path, state: SweepState) -> None:
    (state.folder / "trials" / trial_of(state).id / "samples.jsonl").unlink()


def split_gone(home: Path, state: SweepState) -> None:
    Path(state.facts["data"]["dev"]["path"]).unlink()


def split_changed(home: Path, state: SweepState) -> None:
    path = Path(state.facts["data"]["train"]["path"])
    path.write_text(path.read_text().replace("a", "b", 1))


def metric_changed(home: Path, state: SweepState) -> None:
    for table in ("latest_metrics", "metrics"):
        sql(
            home,
            f"UPDATE {table} SET value = 0.001 WHERE key = 'val/loss' AND run_uuid = "
            "(SELECT run_uuid FROM tags WHERE key = 'podium.trial' AND value = ?)",
            trial_of(state).id,
        )


def param_changed(home: Path, state: SweepState) -> None:
    sql(
        home,
        "UPDATE params SET value = '77' WHERE key = 'lora.rank' AND run_uuid = "
        "(SELECT run_uuid FROM tags WHERE key = 'podium.trial' AND value = ?)",
        trial_of(state).id,
    )


def param_of_sweep_changed(home: Path, state: SweepState) -> None:
    sql(home, "UPDATE params SET value = '77' WHERE key = 'algorithm'")


def run_deleted(home: Path, state: SweepState) -> None:
    sql(
        home,
        "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = "
        "(SELECT run_uuid FROM tags WHERE key = 'podium.trial' AND value = ?)",
        trial_of(state).id,
    )


def database_gone(home: Path, state: SweepState) -> None:
    (home / "mlflow.db").unlink()


def left_running(home: Path, state: SweepState) -> None:
    sql(
        home,
        "UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid = "
        "(SELECT run_uuid FROM tags WHERE key = 'podium.trial' AND value = ?)",
        trial_of(state).id,
    )


def duplicated(home: Path, state: SweepState) -> None:
    from tracking.mlflow_client import connect

    client = connect(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("podium").experiment_id
    [run] = client.search_runs([experiment], f"tags.`podium.trial` = '{trial_of(state).id}'")
    tags = {key: value for key, value in run.data.tags.items() if key.startswith("podium.") or "parent" in key}
    client.create_run(experiment, tags=tags, run_name="the same again")


def sweep_duplicated(home: Path, state: SweepState) -> None:
    from tracking.mlflow_client import connect

    client = connect(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("podium").experiment_id
    started = str(round(state.started * 1000))
    client.create_run(experiment, tags={"podium.sweep": "small", "podium.started": started})


def line_cut(home: Path, state: SweepState) -> None:
    path = state.folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + b'{"t": 1, "event": "no')


def driver_gone(home: Path, state: SweepState) -> None:
    """As after the power failed in the middle: no end, a trial that runs, and MLflow as it was then."""
    path = state.folder / "ledger.jsonl"
    last = trial_of(state, max(trial.number for trial in state.trials.values())).id
    lines = path.read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    stop = next(
        place
        for place, event in enumerate(events)
        if event["event"] == "state" and event["trial"] == last and event["state"] == "EVALUATING"
    )
    path.write_text("".join(lines[:stop]))
    sql(home, "UPDATE runs SET status = 'RUNNING', end_time = NULL")
    shutil.rmtree(home / "champions")


MENDED: list[tuple[Break, str, str]] = [
    (adapter_gone, "adapters", "is missing"),
    (adapter_cut, "adapters", "not the length"),
    (settings_changed, "trials' settings", "was changed"),
    (settings_gone, "trials' settings", "is missing"),
    (settings_garbled, "trials' settings", "cannot be read"),
    (orphan, "folders", "0123456789ab is of no trial"),
    (half_written, "folders", "adapter.part"),
    (answers_gone, "answers", "-dev.jsonl is missing"),
    (answers_cut, "answers", "has 7 answers, and the ledger speaks of 8"),
    (samples_gone, "answers", "samples.jsonl is missing"),
    (split_gone, "data", "dev is missing"),
    (split_changed, "data", "train was changed"),
    (metric_changed, "MLflow runs", "val/loss is 0.001, not"),
    (param_changed, "MLflow runs", "parameter lora.rank is '77'"),
    (param_of_sweep_changed, "MLflow runs", "parameter algorithm is '77'"),
    (run_deleted, "MLflow runs", "behind the ledger: #1"),
    (database_gone, "MLflow runs", "has no run of this sweep"),
    (left_running, "MLflow runs", "is RUNNING, not FINISHED"),
    (duplicated, "MLflow runs", "the same again"),
    (sweep_duplicated, "MLflow runs", "1 runs of this sweep are in MLflow besides"),
    (line_cut, "ledger", "the last line of ledger.jsonl is cut off"),
    (driver_gone, "ledger", "the sweep has no end"),
]


# Each takes seconds: some of every kind run always, the others with the slow tests.
SOME = [case if place % 4 == 0 else pytest.param(*case, marks=pytest.mark.slow) for place, case in enumerate(MENDED)]


@pytest.mark.parametrize(("break_it", "check", "words"), SOME, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_broken_is_named_and_mended_and_then_clean(home: Path, break_it: Break, check: str, words: str) -> None:
    folder = folder_of(home)
    break_it(home, read(folder))
    before = (folder / "ledger.jsonl").read_bytes()
    seen = examine(folder)
    assert words in wrong(seen)[check], wrong(seen)
    assert (folder / "ledger.jsonl").read_bytes() == before, "looking changes nothing"
    done, after = mend_all(folder, seen)
    assert [one for one in done if one.check == check]
    assert all(one.finding.outcome is Outcome.MENDED for one in done), [one.finding.says for one in done]
    assert wrong(after) == {}
    assert exit_code(after) == 0
    assert wrong(examine(folder)) == {}


def test_a_whole_sweep_is_well(home: Path) -> None:
    checked = examine(folder_of(home))
    assert wrong(checked) == {}
    assert {one.check for one in checked} == {
        "ledger",
        "trials' settings",
        "adapters",
        "folders",
        "answers",
        "bundles",
        "data",
        "MLflow runs",
    }


def test_a_sweep_whose_driver_is_gone_is_closed_and_its_runs_with_it(home: Path) -> None:
    folder = folder_of(home)
    driver_gone(home, read(folder))
    _, after = mend_all(folder, examine(folder))
    state = read(folder)
    assert state.status == "INTERRUPTED"
    assert wrong(after) == {}
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        statuses = database.execute("SELECT status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
    assert ("RUNNING",) not in statuses


def test_a_sweep_that_is_open_is_not_mended(home: Path) -> None:
    folder = folder_of(home)
    driver_gone(home, read(folder))
    samples_gone(home, read(folder))
    with Ledger(folder):
        seen = examine(folder)
        assert "alone writes it" in next(one.finding.says for one in seen if one.check == "ledger")
        assert all(one.finding.mend is None for one in seen)


def test_a_line_in_the_middle_that_is_no_event_is_told_and_nothing_else_is_tried(home: Path) -> None:
    folder = folder_of(home)
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    lines.insert(3, b"{half\n")
    (folder / "ledger.jsonl").write_bytes(b"".join(lines))
    seen = examine(folder)
    assert wrong(seen) == {"ledger": "line 4 is no event"}
    done, _ = mend_all(folder, seen)
    assert done == []


def test_lines_out_of_order_are_told(home: Path) -> None:
    folder = folder_of(home)
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    trial = next(place for place, event in enumerate(events) if event["event"] == "trial")
    told = {
        "no trial of that id": [*lines[:trial], *lines[trial + 1 :]],
        "before the one above it": [*lines, json.dumps({**events[-1], "t": events[-1]["t"] - 100})],
        "begins with its sweep": lines[1:],
    }
    for words, content in told.items():
        (folder / "ledger.jsonl").write_text("\n".join(content) + "\n")
        assert words in wrong(examine(folder))["ledger"]


def test_a_bundle_that_was_changed_or_is_gone_is_told(home: Path) -> None:
    folder = folder_of(home)
    bundle = Path(read(folder).exports[-1]["to"])
    with (bundle / "items.jsonl").open("a") as file:
        file.write("{}\n")
    assert "items.jsonl was changed" in wrong(examine(folder))["bundles"]
    elsewhere = shutil.copytree(bundle, home / "elsewhere")
    shutil.rmtree(bundle)
    assert "is not there any more" in wrong(examine(folder))["bundles"]
    with Ledger(folder) as ledger:
        made = {"to": str(elsewhere), "folder": str(elsewhere), "trial": read(folder).exports[-1]["trial"]}
        ledger.append("export", export=made)
    told = wrong(examine(folder))["bundles"]
    assert "is not there any more" not in told, "another of the same trial is"
    assert "items.jsonl was changed" in told


def test_what_mlflow_has_no_copy_of_stays_failed_and_says_so(home: Path) -> None:
    folder = folder_of(home)
    adapter_gone(home, read(folder))
    shutil.rmtree(home / "artifacts")
    done, after = mend_all(folder, examine(folder))
    assert "MLflow keeps no copy of adapter" in done[0].finding.says
    assert "is missing" in wrong(after)["adapters"]
    assert exit_code(after) == 1


def test_another_source_of_rows_is_not_taken_for_the_old_one(home: Path) -> None:
    """Rows are only prepared again when they are the same rows."""
    folder = folder_of(home)
    state = read(folder)
    ledger = folder / "ledger.jsonl"
    first, rest = ledger.read_text().split("\n", 1)
    event = json.loads(first)
    event["recipe"]["data"]["seed"] = 99
    ledger.write_text(json.dumps(event, ensure_ascii=False) + "\n" + rest)
    split_gone(home, state)
    done, _ = mend_all(folder, [one for one in examine(folder) if one.check == "data"])
    assert "the source has other rows now" in done[0].finding.says


def test_on_the_command_line(home: Path) -> None:
    folder = folder_of(home)
    samples_gone(home, read(folder))
    left_running(home, read(folder))
    broken = podium(home, "doctor", "small", "-o", "json")
    assert broken.returncode == 1, broken.stderr
    entries = json.loads(broken.stdout)["checks"]
    bad = {entry["check"]: entry for entry in entries if entry["outcome"] not in ("ok", "not checked")}
    assert set(bad) == {"answers", "MLflow runs"}
    assert all(entry["mendable"] and "--fix" in entry["way_out"] for entry in bad.values())
    fixed = podium(home, "doctor", "small", "--fix")
    assert fixed.returncode == 0, fixed.stderr
    assert "mended" in fixed.stdout
    assert "MLflow caught up" in fixed.stderr
    clean = podium(home, "doctor", "small", "-o", "csv")
    assert clean.returncode == 0
    assert [line.split(",")[1] for line in clean.stdout.splitlines()[1:]] == ["ok"] * 8
