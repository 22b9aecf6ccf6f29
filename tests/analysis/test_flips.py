"""How the choice flips: against trying every limit and every worth."""

from hypothesis import given
from hypothesis import strategies as st

from analysis.flips import Candidate, Segment, by_limit, by_worth, candidates, leaders

numbers = st.integers(0, 50).map(float)
lists = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8).map(
    lambda pairs: [Candidate(str(place), quality, cost) for place, (quality, cost) in enumerate(pairs)]
)


def at(segments: tuple[Segment, ...], value: float) -> str | None:
    return next((one.trial for one in segments if one.start <= value and (one.end is None or value < one.end)), None)


@given(lists, numbers)
def test_under_a_limit_the_best_within_it_wins(these: list[Candidate], limit: float) -> None:
    within = [one for one in these if one.cost <= limit]
    winner = at(by_limit(these), limit)
    if not within:
        assert winner is None
        return
    by_name = {one.trial: one for one in these}
    assert winner is not None
    assert by_name[winner].cost <= limit
    assert by_name[winner].quality == max(one.quality for one in within)


@given(lists, st.floats(0, 60))
def test_at_a_worth_nobody_is_better(these: list[Candidate], worth: float) -> None:
    winner = at(by_worth(these), worth)
    assert winner is not None
    value = {one.trial: one.quality - worth * one.cost for one in these}
    assert value[winner] >= max(value.values()) - 1e-6


def test_flips_are_where_the_lines_cross() -> None:
    these = [Candidate("best", 5.0, 3.0), Candidate("cheap", 3.0, 1.0), Candidate("dominated", 2.0, 2.0)]
    assert by_limit(these) == (Segment(1.0, 3.0, "cheap"), Segment(3.0, None, "best"))
    assert by_worth(these) == (Segment(0.0, 1.0, "best"), Segment(1.0, None, "cheap"))


def test_trials_without_one_of_the_two_are_left_out() -> None:
    metrics = {"a": {"q": 1.0, "c": 2.0}, "b": {"q": 1.0}, "c": {"c": 1.0}}
    assert candidates(metrics, "q", "c") == (Candidate("a", 1.0, 2.0),)
    assert candidates(metrics, "q", "c", mode="min") == (Candidate("a", -1.0, 2.0),)
    assert by_limit([]) == by_worth([]) == ()


def test_the_pareto_front_holds_what_no_other_beats() -> None:
    points = [(1.0, 1.0), (2.0, 3.0), (2.0, 2.0), (3.0, 2.5), (4.0, 4.0)]
    metrics = {str(place): {"c": x, "q": y} for place, (x, y) in enumerate(points)}
    assert [one.trial for one in leaders(candidates(metrics, "q", "c", "max"))] == ["0", "1", "4"]
    assert [one.trial for one in leaders(candidates(metrics, "q", "c", "min"))] == ["0"]
