"""How people name trials."""

import pytest

from tracking.state import State, TrialState, meant


def trial(id: str, number: int, stage: str | None = None) -> TrialState:
    return TrialState(id, number, {}, "cpu", State.DONE, stage=stage)


TRIALS = (trial("8ab0", 0), trial("1cd1", 8), trial("8ef2", 2), trial("0aa3", 31), trial("10b4", -1, "sft"))


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("8", ["1cd1"]),  # the number, whatever ids begin so
        ("0", ["8ab0"]),
        ("31", ["0aa3"]),
        ("8e", ["8ef2"]),
        ("1", ["1cd1", "10b4"]),  # no number here, so a beginning, and of two
        ("10b4", ["10b4"]),
        ("-1", []),  # a start has no number here
        ("", []),
        ("x", []),
    ],
)
def test_a_number_comes_before_the_beginning_of_an_id(word: str, ids: list[str]) -> None:
    assert [one.id for one in meant(TRIALS, word)] == ids
