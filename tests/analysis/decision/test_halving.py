"""Who is judged next."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.decision.halving import (
    Round,
    best_first,
    next_round,
    ranked,
    schedule,
    standing,
)
from sweeps.errors import InvalidInput

ITEMS = tuple(f"i{number:03}" for number in range(120))


def cost(rounds: tuple[Round, ...]) -> int:
    spent, before = 0, 0
    for one in rounds:
        spent, before = spent + one.num_arms * (one.stop - before), one.stop
    return spent


@given(
    st.integers(1, 40), st.integers(1, 600), st.integers(0, 20_000), st.integers(1, 5), st.sampled_from([1.3, 2.0, 3.0])
)
def test_a_schedule_keeps_to_its_budget_and_to_the_items(
    arms: int, items: int, more: int, keep: int, reduction: float
) -> None:
    budget = arms + more
    rounds = schedule(arms, items, budget, keep, reduction)
    assert cost(rounds) <= budget
    assert rounds[0].num_arms == arms
    assert rounds[0].stop >= 1
    assert all(one.num_arms > other.num_arms and one.stop < other.stop for one, other in pairwise(rounds))
    assert rounds[-1].stop <= items
    if budget >= arms * items:
        assert rounds == (Round(arms, items),)
    else:
        assert cost(rounds) > budget - 8 * arms * np.log2(arms + 2), "hardly anything is left unspent"


def test_twenty_arms_are_halved() -> None:
    rounds = schedule(20, 500, 1_950)
    assert [one.num_arms for one in rounds] == [20, 10, 5, 3]
    spent = [one.num_arms * (one.stop - before) for one, before in zip(rounds, [0, *(one.stop for one in rounds)])]
    assert max(spent) - min(spent) <= 20


def test_numbers_that_cannot_be_are_told_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        schedule(0, 0, 10, keep=0, reduction=1.0)
    assert [problem.where for problem in caught.value.problems] == ["arms", "items", "keep", "reduction"]
    with pytest.raises(InvalidInput, match="must suffice to judge every arm once, but got 3 for 20 arms"):
        schedule(20, 100, 3)


def test_rounds_are_played_to_the_end() -> None:
    rng = np.random.default_rng(0)
    truth = {f"arm{number}": float(rng.normal(3 + 0.3 * number, 0.01)) for number in range(8)}
    rounds = schedule(8, len(ITEMS), 240)
    scores: dict[str, dict[str, float | None]] = {arm: {} for arm in truth}
    seen, asked = [], 0
    while (todo := next_round(rounds, scores, ITEMS)) is not None:
        seen.append((todo.number, len(todo.arms)))
        for arm in todo.arms:
            for item in todo.items:
                assert item not in scores[arm], "nothing is judged twice"
                scores[arm][item] = truth[arm] + float(rng.normal(0, 0.1))
                asked += 1
    assert seen == [(number, one.num_arms) for number, one in enumerate(rounds)]
    assert asked == cost(rounds) <= 240
    values = np.array([[np.nan if row.get(item) is None else row[item] for item in ITEMS] for row in scores.values()])
    order = [list(scores)[row] for row in ranked(rounds, values.astype(float))]
    assert order[:3] == ["arm7", "arm6", "arm5"]
    assert sorted(order) == sorted(truth)


def test_an_interrupted_round_asks_for_the_rest_of_it() -> None:
    rounds = (Round(4, 2), Round(2, 4))
    scores: dict[str, dict[str, float | None]] = {"a": {}, "b": {}, "c": {}, "d": {}}
    first = next_round(rounds, scores, ITEMS)
    assert first is not None
    assert (first.number, first.arms, first.items) == (0, ("a", "b", "c", "d"), ITEMS[:2])
    for arm, value in zip("abcd", (1.0, 4.0, 2.0, 3.0), strict=True):
        scores[arm] = dict.fromkeys(ITEMS[:2], value)
    del scores["c"][ITEMS[1]]
    again = next_round(rounds, scores, ITEMS)
    assert again is not None
    assert (again.number, again.items) == (0, ITEMS[1:2])
    scores["c"][ITEMS[1]] = None  # judged in vain
    second = next_round(rounds, scores, ITEMS)
    assert second is not None
    assert (second.number, second.arms, second.items) == (1, ("b", "d"), ITEMS[2:4])


def test_scores_beyond_a_round_are_not_seen_by_it() -> None:
    values = np.array([[1.0, 1.0, 5.0, 5.0], [2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 5.0, 5.0]])
    rounds = (Round(3, 2), Round(2, 4))
    assert standing(rounds[:1], values) == [0, 1, 2]
    assert standing(rounds, values) == [1, 0]
    assert ranked(rounds, values) == [0, 1, 2]


def test_a_missing_score_does_neither_good_nor_harm() -> None:
    nan = np.nan
    hard_then_easy = np.array([[1.0, 5.0], [nan, 5.0], [0.9, 4.9]])
    assert best_first(hard_then_easy, [0, 1, 2], 2)[-1] == 2
    assert best_first(np.array([[nan, nan], [0.0, 0.0]]), [0, 1], 2) == [1, 0]


def test_equal_arms_stay_in_their_order() -> None:
    assert best_first(np.full((4, 3), 2.0), [2, 0, 3, 1], 3) == [2, 0, 3, 1]
