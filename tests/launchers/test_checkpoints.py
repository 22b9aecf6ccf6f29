"""Checkpoints are whole or not there, whenever their writer dies."""

from collections.abc import Callable
from pathlib import Path

import pytest

from launchers import checkpoints


def write(text: str) -> Callable[[Path], None]:
    def into(folder: Path) -> None:
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter" / "weights").write_text(text)

    return into


def report(step: int) -> dict[str, object]:
    return {"step": step, "metrics": {"val/loss": 1.0}, "done": False}


def test_the_newest_checkpoint_stays_alone(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    for step in (5, 10, 100):
        checkpoints.commit(tmp_path, report(step), write(str(step)))
    newest = checkpoints.latest(tmp_path)
    assert newest is not None
    assert checkpoints.progress_of(newest) == report(100)
    assert [path.name for path in newest.parent.iterdir()] == [newest.name]


def test_a_writer_that_dies_leaves_the_one_before(tmp_path: Path) -> None:
    checkpoints.commit(tmp_path, report(5), write("five"))

    def dies(folder: Path) -> None:
        write("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.commit(tmp_path, report(10), dies)
    newest = checkpoints.latest(tmp_path)
    assert newest is not None
    assert (newest / "adapter" / "weights").read_text() == "five"
    checkpoints.commit(tmp_path, report(10), write("ten"))
    assert checkpoints.progress_of(checkpoints.latest(tmp_path) or tmp_path)["step"] == 10


def test_the_adapter_is_copied_so_that_the_trial_can_still_go_on(tmp_path: Path) -> None:
    assert not checkpoints.keep_adapter(tmp_path)
    checkpoints.commit(tmp_path, report(5), write("five"))
    assert checkpoints.keep_adapter(tmp_path)
    assert checkpoints.keep_adapter(tmp_path), "once more after a crash"
    assert (tmp_path / "adapter" / "weights").read_text() == "five"
    assert checkpoints.latest(tmp_path) is not None
    checkpoints.drop(tmp_path)
    assert checkpoints.latest(tmp_path) is None
    assert checkpoints.keep_adapter(tmp_path), "it is there already"


def test_what_is_being_removed_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints.commit(tmp_path, report(5), write("five"))
    going = tmp_path / "checkpoints.part"
    (tmp_path / "checkpoints").rename(going)  # as a process leaves it that dies within ``drop``
    (going / "00000005" / "progress.json").unlink()
    assert checkpoints.latest(tmp_path) is None
    assert not checkpoints.keep_adapter(tmp_path)
    checkpoints.commit(tmp_path, report(7), write("seven"))
    checkpoints.drop(tmp_path)
    assert list(tmp_path.iterdir()) == []
