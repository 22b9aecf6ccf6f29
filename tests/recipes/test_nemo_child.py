"""The ``nemo`` engine's process and its folder, beyond the contract that every engine passes."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.engines.nemo.engine import NemoEngine, NemoSession
from recipes.engines.protocol import LOG_NAME, Diverged, Job, TrainingFailed
from tests.recipes.tiny import chat_rows, make_base, tiny_settings, write_rows

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NemoSession]:
    """A trial at its first report, in the folder of an attempt that was killed while it saved step 2."""
    folder = tmp_path_factory.mktemp("trial")
    base = make_base(folder / "base")
    stale = folder / "scratch" / "epoch_0_step_2"
    (stale / "model").mkdir(parents=True)
    (stale / "model" / "adapter_model.safetensors").write_bytes(b"half of")
    job = Job(
        settings=tiny_settings(base, train__max_steps=40, train__validate_every=2),
        base=str(base),
        train=write_rows(folder / "train.jsonl", chat_rows(4)),
        validation=write_rows(folder / "validation.jsonl", chat_rows(2)),
        folder=folder,
        device="cpu",
        threads=1,
    )
    opened = NemoEngine().open(job, None)
    assert isinstance(opened, NemoSession)
    yield opened
    opened.close()


def test_a_fresh_trial_does_not_go_on_from_what_a_killed_attempt_left(session: NemoSession) -> None:
    assert session.advance().step == 2


def test_what_the_trainer_prints_is_in_the_log_alone(session: NemoSession) -> None:
    log = (session._job.folder / LOG_NAME).read_text()
    assert "| loss " in log
    assert '"event"' not in log


def test_a_checkpoint_leaves_nothing_in_the_scratch_folder(session: NemoSession, tmp_path: Path) -> None:
    session.save(tmp_path / "checkpoint")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == {"adapter", "state"}
    assert not list(session._scratch.glob("epoch_*/model"))
    shutil.rmtree(tmp_path / "checkpoint")
    session.save(tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "adapter" / "adapter_config.json").is_file()


def test_a_process_that_is_killed_fails_its_trial(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    rows = write_rows(tmp_path / "rows.jsonl", chat_rows(4))
    job = Job(tiny_settings(base), str(base), rows, rows, tmp_path, "cpu", 1)
    opened = NemoEngine().open(job, None)
    assert isinstance(opened, NemoSession)
    opened._process.kill()
    with pytest.raises(TrainingFailed) as caught:
        opened.advance()
    assert not isinstance(caught.value, Diverged), "trying again may help"
    assert "ended with code -9; its last lines:\n" in str(caught.value)
    assert len(str(caught.value).splitlines()) > 2, "the tail of the log"
    opened.close()


def test_the_process_ends_by_itself_when_its_input_closes(session: NemoSession) -> None:
    """As when whoever started it was killed."""
    process = session._process
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert process.returncode != -signal.SIGKILL
