"""``podium gc``: what it counts, what it frees, and above all what it leaves."""

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers.disk import FREED, Usage, free, human, keepers, size_of, survey
from tests.analysis.synthetic import synthetic, trial_id
from tests.launchers.running import podium
from tracking.ledger import Ledger, read

HOUR_S = 3600


def put(path: Path, size: int, age_s: float = 0) -> Path:
    """A file of so many bytes, as old as that; its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    at = time.time() - age_s
    for place in (path, path.parent):
        os.utime(place, (at, at))
    return path


def of(usages: list[Usage], kind: str, sweep: str | None = "shop") -> Usage:
    return next(usage for usage in usages if usage.kind == kind and usage.sweep == sweep)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a synthetic sweep that has come to its end, one more trial that failed, and files of every kind."""
    state = synthetic(tmp_path)
    with Ledger(state.folder) as ledger:
        ledger.append("trial", trial="failed", number=20, values={}, pool="cpu", max_steps=80)
        ledger.append("state", trial="failed", state="FAILED", error="out of memory")
    for trial in ("failed", *state.trials):
        put(state.folder / "trials" / trial / "checkpoints" / "00000006" / "state" / "optimizer.bin", 1000)
        put(state.folder / "trials" / trial / "engine.log", 10)
    for trial in state.trials:
        put(state.folder / "trials" / trial / "adapter" / "adapter_model.safetensors", 100)
    put(state.folder / "ray" / "tune" / "tuner.pkl", 500)
    put(tmp_path / "cache" / "data" / "0123456789abcdef" / "train.jsonl", 300, age_s=2 * HOUR_S)
    return tmp_path


def test_only_checkpoints_that_nothing_goes_on_from_are_freed(home: Path) -> None:
    folder = home / "runs" / "shop"
    with Ledger(folder) as ledger:
        ledger.append("state", trial=trial_id(3), state="STOPPED", reason="stopped by `podium stop`", halted=True)
        ledger.append("state", trial=trial_id(4), state="PAUSED")
    shutil.rmtree(folder / "trials" / trial_id(5) / "adapter")
    stay = {"failed", trial_id(3), trial_id(4), trial_id(5)}
    checkpoints = of(survey(home), "checkpoints")
    assert checkpoints.size == 1000 * 21
    assert checkpoints.free_size == 1000 * 17
    free(home, [checkpoints])
    assert {path.parents[3].name for path in folder.rglob("optimizer.bin")} == stay
    assert of(survey(home), "checkpoints").note.startswith("stay")
    assert not of(survey(home, adapters=True), "adapters").free, "a sweep that can be resumed keeps its adapters"


def test_the_survey_counts_every_byte_once(home: Path) -> None:
    total = sum(usage.size for usage in survey(home))
    assert total == size_of(home)


def test_surveying_and_gc_without_yes_change_nothing(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    assert podium(home, "gc").returncode == 0
    assert podium(home, "gc", "shop", "--adapters", "-o", "json").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_gc_frees_what_it_says_and_the_views_stay_the_same(home: Path) -> None:
    board = podium(home, "leaderboard", "-o", "json").stdout
    told = json.loads(podium(home, "gc", "-o", "json").stdout)
    run = podium(home, "gc", "--yes", "-o", "json")
    assert run.returncode == 0, run.stderr
    freed = json.loads(run.stdout)
    assert freed["freed_bytes"] == told["free_bytes"] > 0
    assert size_of(home) == pytest.approx(told["bytes"] - told["free_bytes"], abs=200), "but for the lock's content"
    again = json.loads(podium(home, "gc", "-o", "json").stdout)
    assert again["free_bytes"] == 0
    assert podium(home, "leaderboard", "-o", "json").stdout == board


def test_a_running_sweep_is_left_alone(home: Path) -> None:
    folder = home / "runs" / "shop"
    found = survey(home)
    with Ledger(folder):
        assert not any(usage.free for usage in survey(home) if usage.sweep)
        freed, problems = free(home, [of(found, "checkpoints")])  # surveyed before the driver came
    assert freed == 0
    assert "shop has just been started" in problems[0]
    assert list(folder.rglob("optimizer.bin"))


def test_adapters_of_the_top_stay(home: Path) -> None:
    state = read(home / "runs" / "shop")
    adapters = of(survey(home, adapters=True), "adapters")
    keep = keepers(state)
    given_up = {path.parent.name for path in adapters.free}
    assert state.champion is None or state.champion["champion"] in keep
    assert given_up.isdisjoint(keep)
    assert given_up, adapters.note
    assert "cannot be exported" in adapters.note
    free(home, [adapters])
    for trial in given_up:
        assert not (state.folder / "trials" / trial / "adapter").exists()
        assert "podium gc" in (state.folder / "trials" / trial / FREED).read_text()
    for trial in keep:
        if state.trials[trial].adapter:
            assert (state.folder / str(state.trials[trial].adapter)).is_dir()
    assert not of(survey(home), "adapters").free, "not without being asked"


def test_data_stays_while_a_sweep_uses_it_or_may_be_about_to(home: Path) -> None:
    ledger = home / "runs" / "shop" / "ledger.jsonl"
    data = of(survey(home), "data", None)
    assert [path.name for path in data.free] == ["0123456789abcdef"]
    put(home / "cache" / "data" / "fedcba9876543210" / "train.jsonl", 300)
    assert [path.name for path in of(survey(home), "data", None).free] == ["0123456789abcdef"], "too young"
    first, rest = ledger.read_text().split("\n", 1)
    event = json.loads(first)
    event["facts"]["data"] = {"train": {"path": str(home / "cache/data/0123456789abcdef/train.jsonl"), "rows": 1}}
    ledger.write_text(json.dumps(event) + "\n" + rest)
    assert not of(survey(home), "data", None).free, "used"
    ledger.write_text("not a ledger\n" + ledger.read_text())
    data = of(survey(home), "data", None)
    assert not data.free, "it is not known what an unreadable sweep uses"
    assert data.note.startswith("stays")
    assert not any(usage.free for usage in survey(home) if usage.sweep)


def test_half_written_files_and_drafts_go(home: Path) -> None:
    folder = home / "runs" / "shop"
    trial = next(iter(read(folder).trials))
    part = put(folder / "trials" / trial / "adapter.part" / "deep" / "x.bin", 70).parent.parent
    old = put(home / "champions" / ".shop.a1b2c3d4" / "adapter_model.safetensors", 50, age_s=2 * HOUR_S).parent
    young = put(home / "champions" / ".shop.e5f6a7b8" / "adapter_model.safetensors", 50).parent
    bundle = put(home / "champions" / "shop" / "manifest.json", 50, age_s=2 * HOUR_S).parent
    free(home, survey(home))
    assert not part.exists()
    assert not old.exists()
    assert young.exists()
    assert bundle.exists()


def test_artifacts_of_deleted_runs_go_and_nothing_outside_of_the_home(home: Path, tmp_path: Path) -> None:
    gone = put(home / "artifacts" / "run1" / "artifacts" / "x", 40).parent
    stays = put(home / "artifacts" / "run2" / "artifacts" / "x", 40).parent
    outside = put(tmp_path.parent / f"{tmp_path.name}-elsewhere" / "run3" / "artifacts" / "x", 40).parent
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE runs (artifact_uri TEXT, lifecycle_stage TEXT)")
        rows = [(gone.as_uri(), "deleted"), (str(stays), "active"), (str(outside), "deleted"), ("s3://b/x", "deleted")]
        database.executemany("INSERT INTO runs VALUES (?, ?)", rows)
    usage = of(survey(home), "MLflow artifacts", None)
    assert list(usage.free) == [gone]
    free(home, [usage])
    assert not gone.exists()
    assert stays.exists()
    assert outside.exists()
    shutil.rmtree(outside.parent.parent)


def test_a_link_is_removed_and_not_what_it_leads_to(home: Path, tmp_path: Path) -> None:
    folder = home / "runs" / "shop"
    trial = next(iter(read(folder).trials))
    elsewhere = put(tmp_path.parent / f"{tmp_path.name}-mine" / "thesis.txt", 9)
    (folder / "trials" / trial / "left.part").symlink_to(elsewhere.parent)
    free(home, survey(home))
    assert elsewhere.exists()
    assert not (folder / "trials" / trial / "left.part").is_symlink()
    shutil.rmtree(elsewhere.parent)


def test_nonsense_is_refused_and_an_empty_home_is_empty(tmp_path: Path) -> None:
    empty = podium(tmp_path / "none", "gc", "-o", "json")
    assert empty.returncode == 0
    assert json.loads(empty.stdout)["entries"] == []
    assert not (tmp_path / "none").exists()
    synthetic(tmp_path)
    run = podium(tmp_path, "gc", "shops")
    assert run.returncode == 2
    assert 'did you mean "shop"?' in run.stderr


@given(st.integers(0, 2**50))
def test_sizes_for_people_are_close_and_short(size: int) -> None:
    number, unit = human(size).split()
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    assert float(number) * factor == pytest.approx(size, abs=0.051 * factor)
    assert float(number) < 1024.1
