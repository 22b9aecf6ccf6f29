"""The rounds of a sweep's judging."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analysis.decision.halving import Round
from analysis.rounds import rounds_of
from sweeps.spec import Champion


def champion(start: int, items: int, top: int = 3) -> Champion:
    return Champion.model_validate({"contenders": {"start": start, "items": items}, "confirm": {"top": top}})


def test_half_as_many_on_more_items_until_the_last() -> None:
    assert rounds_of(champion(8, 256), 20, 32) == (Round(20, 32), Round(8, 64), Round(4, 128), Round(3, 256))


def test_without_contenders_all_is_judged_at_once() -> None:
    assert rounds_of(Champion(), 20, 32) == ()
    assert rounds_of(champion(8, 32), 20, 32) == ()
    assert rounds_of(champion(8, 64), 20, None) == ()


@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 100), st.integers(1, 400), st.integers(0, 5))
def test_fewer_and_fewer_on_more_and_more(start: int, trials: int, first: int, items: int, top: int) -> None:
    rounds = rounds_of(champion(start, items, top), trials, first)
    assert all(one.num_arms >= other.num_arms and one.stop <= other.stop for one, other in pairwise(rounds))
    if rounds:
        assert rounds[0] == Round(trials, first)
        assert rounds[-1].stop == items
        assert rounds[-1].num_arms <= max(1, top, min(start, trials) if start < top else 0)
