"""The audit of pairs finds what gives a preference away, says how sure that is, and finds nothing where nothing is."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.commerce import pairs
from recipes.data import pair_audit
from recipes.data.pair_audit import Limits, Measured, check_pairs, num_items, wilson


def proposal(count: int, words: int = 5) -> dict[str, Any]:
    return {"proposal": [{"category": "c" * words, "n": number} for number in range(count)]}


def rows(sizes: Iterator[tuple[Any, Any]], per_prompt: int = 1) -> list[tuple[int, dict[str, Any]]]:
    return [
        (number + 1, {"prompt": f"prompt {number // per_prompt}", "chosen": chosen, "rejected": rejected})
        for number, (chosen, rejected) in enumerate(sizes)
    ]


def measured(name: str, found: Any) -> Measured:
    one: Measured = next(one for one in found.measured if one.name == name)
    return one


def test_of_many_pairs_a_part_is_drawn_from_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are joined and sorted: what the first pairs do not show, the others may."""
    monkeypatch.setattr(pair_audit, "MAX_AUDITED", 300)
    rng = random.Random(1)
    fair = [("x" * rng.randint(5, 20), "y" * rng.randint(5, 20)) for _ in range(500)]
    found = check_pairs(rows(iter([*fair, *[("z" * 5, "w" * 20)] * 2500])))
    characters = measured("characters", found)
    assert (found.num_pairs, characters.n) == (3000, 300)
    assert characters.share == pytest.approx((500 * 0.5) / 3000, abs=0.05)
    assert [one.name for one in found.found] == ["characters"]


def test_the_papers_example_one_category_against_three_is_an_error() -> None:
    found = check_pairs(rows((proposal(1), proposal(3)) for _ in range(60)))
    items = measured("items", found)
    assert (items.chosen, items.rejected, items.share, items.told_apart) == (1, 3, 0, 1)
    assert items.effect is None, "every pair differs by the same"
    assert items.share_interval == pytest.approx((0, 0.06), abs=0.005)
    assert [(one.level, one.name) for one in found.found] == [("error", "characters"), ("error", "items")]
    assert found.found[1].rule == (
        "the chosen answer has fewer items in 100% of pairs (95 %: 94% to 100%), 1 against 3 on average; items alone "
        "tell 100% of answers right (95 %: 100% to 100%)"
    )
    assert not found.is_usable


def test_what_no_pair_shows_by_itself_is_found_between_answers() -> None:
    """Chosen always two, rejected one or three."""
    found = check_pairs(rows((proposal(2), proposal(1 + 2 * (n % 2))) for n in range(60)))
    items = measured("items", found)
    assert (items.share, items.told_apart) == (0.5, 1)
    assert ("error", "items") in [(one.level, one.name) for one in found.found]


def test_limits_decide_what_is_told() -> None:
    rng = random.Random(0)
    lengths = [rng.randrange(5, 60) for _ in range(200)]
    written = rows((proposal(2, n + (4 if rng.random() < 0.8 else -4)), proposal(2, n)) for n in lengths)
    levels = [
        [one.level for one in check_pairs(written, limits).found if one.name == "characters"]
        for limits in (Limits(), Limits(error=0.75), Limits(warn=0.95), Limits(error=None, warn=0.6))
    ]
    assert levels == [["warning"], ["error"], [], ["warning"]]
    assert check_pairs(rows((proposal(1), proposal(3)) for _ in range(19))).found == (), "too few to tell"


def test_the_demos_pairs_pass() -> None:
    found = check_pairs(enumerate(pairs.rows(400, 2), start=1), count_tokens=lambda text: len(text.split()))
    assert found.is_usable
    assert found.found == ()
    assert {one.name for one in found.measured} == {"characters", "tokens", "items"}
    for one in found.measured:
        assert one.share_interval[0] < 0.5 < one.share_interval[1], one
        assert one.told_apart < 0.65, one


def test_pairs_of_one_prompt_count_as_one_for_the_interval() -> None:
    drawn = [("x" * (1 + n % 3) + "a", "x" * 2 + "b" * (1 + n % 2)) for n in range(120)]
    one = measured("characters", check_pairs(rows(iter(drawn), per_prompt=1)))
    six = measured("characters", check_pairs(rows(iter(drawn), per_prompt=6)))
    assert (one.n, one.num_prompts, six.n, six.num_prompts) == (120, 120, 120, 20)
    assert one.share == six.share
    width = [high - low for low, high in (one.share_interval, six.share_interval)]
    assert width[1] > 2 * width[0]


def test_chance_alone_is_not_told() -> None:
    """Of few answers a rule made for them always tells many apart."""
    num_told = 0
    for seed in range(60):
        rng = random.Random(seed)
        drawn = [("a" * rng.randrange(1, 400), "b" * rng.randrange(1, 400)) for _ in range(20)]
        num_told += bool(check_pairs(rows(iter(drawn)), Limits(warn=0.6)).found)
    assert num_told <= 12, "each of two numbers in one case of twenty"


def test_broken_rows_are_counted_and_the_others_audited() -> None:
    good = rows((proposal(2), proposal(2, words)) for words in range(6, 12))
    found = check_pairs([*good, (7, {"prompt": "x", "chosen": "a", "rejected": "a"})], max_problems=0)
    assert (found.num_pairs, found.num_broken, found.problems) == (6, 1, ())
    assert not found.is_usable


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=40))
def test_turning_every_pair_round_turns_the_share_round_and_nothing_else(sizes: list[tuple[int, int]]) -> None:
    written = [("x" * first + "a", "x" * second + "b") for first, second in sizes]
    there = measured("characters", check_pairs(rows(iter(written))))
    back = measured("characters", check_pairs(rows((second, first) for first, second in written)))
    assert there.share == pytest.approx(1 - back.share)
    assert there.difference == pytest.approx(-back.difference)
    assert there.told_apart == pytest.approx(back.told_apart)
    assert 0.5 <= there.told_apart <= 1
    low, high = there.share_interval
    assert 0 <= low <= there.share + 1e-9
    assert there.share - 1e-9 <= high <= 1


def test_items_are_those_of_the_top_list() -> None:
    assert num_items('{"a": 1, "b": [1, 2], "c": [1]}') == 2
    assert num_items(" [1, 2, 3]") == 3
    assert [num_items(text) for text in ("hello", '{"a": 1}', '{"a":', "3")] == [None] * 4
    assert json.loads("[]") == []


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 20)[0] == pytest.approx(0.8389, abs=1e-4)
