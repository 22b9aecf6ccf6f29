"""A sweep whose trials all fail the same way stops itself; one with bad luck goes on."""

from pathlib import Path

import pytest

from launchers.failures import EVALUATION, TRAINING, Failures, signature
from launchers.halt import Halt


@pytest.fixture
def halt(tmp_path: Path) -> Halt:
    return Halt(tmp_path)


def test_three_alike_in_a_row_stop_the_sweep(halt: Halt) -> None:
    failures = Failures(3, halt)
    for step in (3, 40, 512):
        assert halt.reason is None
        why = f"OSError: [Errno 28] No space left at step {step}: '/x/{step}'"
        failures.failed(TRAINING, f"the training process ended:\n{why}")
    assert halt.status == "FAILED"
    assert "3 trials in a row failed the same way: OSError: [Errno 28] No space left" in str(halt.reason)
    assert "podium retry" in str(halt.reason)
    assert not halt.pauses, "what was trained is still judged"


def test_a_success_or_another_failure_begins_anew(halt: Halt) -> None:
    failures = Failures(2, halt)
    failures.failed(TRAINING, "out of memory")
    failures.succeeded(EVALUATION)
    failures.succeeded(TRAINING)
    failures.failed(TRAINING, "out of memory")
    failures.failed(TRAINING, "the file is gone")
    failures.failed(TRAINING, "out of memory")
    assert halt.reason is None


def test_numbers_ids_and_paths_do_not_tell_failures_apart() -> None:
    assert signature("CUDA error at step 12 in /a/b.py") == signature("CUDA error at step 7 in /c/d/e.py")
    assert signature("trial 06ec334411e9 died") == signature("trial fac22eb5176d died")
    assert signature("no memory") != signature("no disk")
    assert signature("") == ""


def test_an_evaluation_that_fails_after_each_training_that_does_not_counts(halt: Halt) -> None:
    failures = Failures(2, halt)
    for _ in range(2):
        failures.succeeded(TRAINING)
        failures.failed(EVALUATION, "no price list")
    assert halt.status == "FAILED"
