"""Who goes on with a sweep in stages, and from which: ledgers as processes leave them, without training anything."""

import fcntl
import json
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from launchers.run_folder import prepare
from launchers.staging import Stages, build_stages
from launchers.walk import _lock, keep, next_stage, outcome, walk
from sweeps.errors import InvalidInput
from tests.launchers.bad_incumbent import adapter
from tests.launchers.stage import Stage
from tracking.ledger import LOCK_WAIT_S, Ledger

SET = "set: {train.max_steps: 6, data.rows: 80}\n    space: {optimizer.lr: loguniform(1e-4, 2e-3)}"
STAGED = f"""\
name: shop
stages:
  - name: one
    recipe: tiny_commerce_sft
    {SET}
    search: {{trials: 2}}
  - name: two
    recipe: tiny_commerce_sft
    {SET}
    search: {{trials: 2}}
  - name: three
    recipe: tiny_commerce_sft
    start: {{from: one}}
    {SET}
    search: {{trials: 2}}
champion: {{minimize: val/loss}}
"""
TRIALS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Three stages of which nothing has run; the third starts from the first."""
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    return built(tmp_path)


def built(folder: Path, *changes: str) -> Stages:
    (folder / "shop.yaml").write_text(STAGED)
    stages = build_stages(folder / "shop.yaml", changes)
    assert stages is not None
    keep(stages)
    return stages


def run(
    stages: Stages,
    number: int,
    status: str | None = "DONE",
    code: int = 0,
    champion: bool = True,
    failed: bool = False,
) -> None:
    """A session of a stage that leaves this; without a status its process was killed."""
    with Ledger(stages.folder_of(number)) as ledger:
        prepare(stages.started(number), ledger)
        ledger.append("begin", host="here", pid=1)
        key = TRIALS[number]
        ledger.append("trial", trial=key, number=0, values={"optimizer.lr": 1e-3}, pool="cpu", max_steps=6)
        ledger.append("report", trial=key, step=6, metrics={"val/loss": 1.0})
        with ExitStack() as stack:
            adapter()(Stage(ledger.folder / "trials" / key, stack))
        ledger.append("adapter", trial=key, folder=f"trials/{key}/mine")
        ledger.append("state", trial=key, state="FAILED" if failed else "DONE")
        told = {"champion": key if champion else None, "rule": {"metric": "val/loss"}}
        ledger.append("champion", champion=told)
        if status is not None:
            ledger.append("end", status=status, code=code)


def test_an_end_of_an_earlier_version_is_no_end(stages: Stages, tmp_path: Path) -> None:
    for number in range(3):
        run(stages, number)
    ended = outcome(stages)
    assert ended is not None
    assert (ended[0].name, ended[1]) == ("shop", 0)

    changed = built(tmp_path, "stages.one.search.seed=5")
    assert outcome(changed) is None, "whoever was to run the first stage was killed before it"
    run(changed, 0, status=None)
    assert outcome(changed) is None, "… or in it"
    run(changed, 0)
    assert outcome(changed) is not None, "the later ones are what they were"


def test_what_was_killed_between_two_stages_goes_on(stages: Stages) -> None:
    run(stages, 0)
    assert outcome(stages) is None


@pytest.mark.parametrize(("status", "code"), [("PAUSED", 0), ("INTERRUPTED", 130), ("FAILED", 1)])
def test_what_was_set_down_in_a_stage_has_ended_there(stages: Stages, status: str, code: int) -> None:
    run(stages, 0)
    run(stages, 1, status, code)
    ended = outcome(stages)
    assert ended is not None
    assert (ended[0].name, ended[0].status, ended[1]) == ("shop/two", status, code)


def test_failed_trials_are_something_left_for_a_retry_alone(stages: Stages) -> None:
    run(stages, 0, code=3, failed=True)
    run(stages, 1)
    run(stages, 2)
    ended = outcome(stages)
    assert ended is not None
    assert ended[1] == 3
    assert outcome(stages, retry=True) is None
    assert next_stage(stages).sweep.spec.name == "shop"
    assert next_stage(stages, retry=True).sweep.spec.name == "shop/one"


def test_the_next_stage_is_the_one_that_runs_and_has_its_start(stages: Stages) -> None:
    run(stages, 0, code=3, failed=True)
    assert next_stage(stages).place == stages.started(1).place
    run(stages, 1, status=None)
    with Ledger(stages.folder_of(1)):
        running = next_stage(stages, retry=True)
    assert running.place is not None
    assert [start.trial for start in running.place.starts] == [TRIALS[0]]


def test_a_stage_runs_where_it_has_something_to_start_from(stages: Stages) -> None:
    run(stages, 0)
    run(stages, 1, code=6, champion=False)
    assert stages.can_start(2)
    assert outcome(stages) is None, "the third starts from the first, whatever became of the second"
    run(stages, 2)
    ended = outcome(stages)
    assert ended is not None
    assert (ended[0].name, ended[1]) == ("shop", 6)


def test_nothing_to_start_from_is_told(stages: Stages) -> None:
    told = "shop/two: the stage one has no champion, so two has nothing to start from"
    with pytest.raises(InvalidInput, match=told):
        stages.started(1)
    run(stages, 0, code=6, champion=False)
    with pytest.raises(InvalidInput, match=told):
        stages.started(1)
    ended = outcome(stages)
    assert ended is not None
    assert (ended[0].name, ended[1]) == ("shop/one", 6)
    assert next_stage(stages) is stages.every[1]


def test_a_walk_goes_past_a_stage_from_which_none_starts(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        run(stages, number, code=6 if number == 1 else 0, champion=number != 1)
    state, code = walk(stages)
    assert (state.name, code) == ("shop", 6)
    said = capsys.readouterr().err
    assert "stage 3 of 3: three, from trial 0 of one" in said
    assert "nothing to start from" not in said


def test_who_follows_ends_as_the_walk_did(stages: Stages, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        run(stages, number, "STOPPED")
    walker = (stages.folder / "stages" / "lock").open("a")
    fcntl.flock(walker, fcntl.LOCK_EX)
    threading.Timer(LOCK_WAIT_S + 1, walker.close).start()
    state, code = walk(stages)
    assert (state.name, state.status, code) == ("shop", "STOPPED", 0)
    assert len(state.sessions) == 1, "who follows runs nothing"
    assert "another process is running shop: following it" in capsys.readouterr().err


def test_who_walks_waits_for_a_reader_and_not_for_another_walker(stages: Stages) -> None:
    path = stages.folder / "stages" / "lock"
    path.touch()
    reader = path.open()
    fcntl.flock(reader, fcntl.LOCK_SH)
    threading.Timer(0.2, reader.close).start()
    with _lock(stages.folder) as mine:
        assert mine
        began = time.monotonic()
        with _lock(stages.folder) as another:
            assert not another
        assert time.monotonic() - began < 5


def test_what_is_kept_is_what_was_built(stages: Stages) -> None:
    stages.path.unlink()  # after hours of following somebody
    keep(stages)
    kept = stages.folder / "stages"
    assert (kept / "sweep.yaml").read_text() == STAGED
    assert json.loads((kept / "stages.json").read_text())["stages"] == ["one", "two", "three"]
    run(stages, 0)
    assert stages.started(1).text == STAGED


def test_what_is_wrong_with_any_stage_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    wrong = STAGED.replace("optimizer.lr", "optimizer.lrr")
    (tmp_path / "shop.yaml").write_text(wrong)
    with pytest.raises(InvalidInput) as caught:
        build_stages(tmp_path / "shop.yaml")
    told = [(one.where, one.line) for one in caught.value.problems]
    assert told == [(f"stages[{number}].space.optimizer.lrr", line) for number, line in enumerate((6, 11, 17))]
