"""Bradley-Terry strengths from pairwise verdicts."""

import random

import pytest

from analysis.decision.preference import Preference, Winner, strengths
from sweeps.errors import InvalidInput

pytest.importorskip("evalica")


def duel(left: str, right: str, wins: int, losses: int, ties: int = 0) -> list[Preference]:
    outcomes: list[Winner] = [*["left"] * wins, *["right"] * losses, *["tie"] * ties]  # type: ignore[list-item]
    return [Preference(left, right, winner, f"item {number}") for number, winner in enumerate(outcomes)]


def test_the_ratio_of_two_strengths_is_that_of_their_wins() -> None:
    best, other = strengths(duel("a", "b", 139, 59, 1))
    assert (best.arm, best.num_verdicts, best.wins) == ("a", 199, 139.5)
    odds = best.strength / (1 - best.strength)
    assert odds**2 == pytest.approx(140 / 60, rel=1e-4)  # with the tie that is added; against an average arm: the root
    assert other.strength == pytest.approx(1 - best.strength, abs=1e-4)
    assert best.interval is not None
    assert 0.5 < best.interval[0] < best.strength < best.interval[1] < 1


def test_who_always_wins_is_first_and_finite() -> None:
    verdicts = [*duel("a", "b", 30, 0), *duel("a", "c", 30, 0), *duel("b", "c", 30, 0)]
    found = strengths(verdicts)
    assert [one.arm for one in found] == ["a", "b", "c"]
    assert all(0 < one.strength < 1 for one in found)
    assert found[0].strength > 0.9


def test_sides_do_not_matter() -> None:
    swapped = [
        Preference(one.right, one.left, {"left": "right", "right": "left", "tie": "tie"}[one.winner], one.item)  # type: ignore[arg-type]
        for one in duel("a", "b", 20, 9, 3)
    ]
    for one, other in zip(strengths(duel("a", "b", 20, 9, 3)), strengths(swapped), strict=True):
        assert (one.arm, one.wins) == (other.arm, other.wins)
        assert one.strength == pytest.approx(other.strength, abs=1e-4)


def test_verdicts_on_one_item_are_one_piece_of_evidence() -> None:
    random.seed(0)
    apart = [Preference("a", "b", random.choice(["left", "left", "right"]), f"{number}") for number in range(30)]  # type: ignore[arg-type]
    repeated = [one for one in apart for _ in range(10)]
    as_if_new = [one._replace(item=f"{number}") for number, one in enumerate(repeated)]
    width = {}
    for name, verdicts in (("repeated", repeated), ("as if new", as_if_new)):
        interval = strengths(verdicts)[0].interval
        assert interval is not None
        width[name] = interval[1] - interval[0]
    assert width["repeated"] > 2 * width["as if new"]


def test_few_items_have_no_interval() -> None:
    assert all(one.interval is None for one in strengths(duel("a", "b", 3, 2)))


def test_bad_verdicts_are_told_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        strengths([("a", "b", "A", "i"), ("a", "a", "tie", "i")])  # type: ignore[list-item]
    told = [str(problem) for problem in caught.value.problems]
    assert told == [
        "verdict 1: the winner must be left, right or tie, but got 'A'",
        "verdict 2: two arms must be compared, but both are 'a'",
    ]
    with pytest.raises(InvalidInput, match="must hold at least one comparison"):
        strengths([])
