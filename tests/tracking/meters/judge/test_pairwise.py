"""Comparisons in both orders: what wins, what flips, what is missing, and what nobody is asked about."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.meters.judge.serving import Endpoint, answer_in, completion, verdict
from tests.tracking.meters.judge.test_rubric import ITEM, PRICE, RUBRIC, judge
from tracking.meters.judge import summary_of_pairs

EndpointOf = Callable[..., Endpoint]


def shown(body: dict[str, Any]) -> Any:
    """The two answers of a comparison; of a score, its one."""
    return json.loads(answer_in(body))


def longer(body: dict[str, Any]) -> tuple[int, str]:
    """Prefers the longer answer, wherever it stands."""
    first, second = shown(body)["first"], shown(body)["second"]
    if len(first) == len(second):
        return verdict("tie")
    return verdict("first" if len(first) > len(second) else "second", f"{max(first, second, key=len)} is longer")


def test_the_better_one_wins_wherever_it_stands(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(longer)
    found = judge(endpoint, price=PRICE).compare_many([ITEM] * 3, ["aaa", "a", "ab"], ["b", "bbb", "cd"])
    assert [one.winner for one in found] == ["a", "b", "tie"]
    assert not any(one.flipped for one in found)
    assert found[0].reasons == ("aaa is longer", "aaa is longer")
    assert found[0].tokens_in == 200
    assert found[0].usd == pytest.approx(2 * 3e-4)
    assert summary_of_pairs(found)["judge/flip_rate"] == 0.0
    schema = endpoint.requests[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["rationale", "result"]
    assert schema["properties"]["result"]["enum"] == ["first", "second", "tie"]
    assert RUBRIC in endpoint.requests[0]["messages"][0]["content"]


def test_each_pair_is_asked_in_both_orders(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(longer)
    judge(endpoint).compare_many([ITEM], ["one"], ["three"])
    assert sorted(tuple(shown(request).values()) for request in endpoint.requests) == [
        ("one", "three"),
        ("three", "one"),
    ]


def test_a_judge_that_goes_by_the_place_sees_ties_alone(endpoint_of: EndpointOf) -> None:
    found = judge(endpoint_of(lambda body: verdict("first"))).compare_many([ITEM] * 4, list("abcd"), list("efgh"))
    assert [one.winner for one in found] == ["tie"] * 4
    assert all(one.flipped for one in found)
    assert summary_of_pairs(found)["judge/flip_rate"] == 1.0


def test_a_tie_in_one_order_and_a_winner_in_the_other_is_a_flip(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: verdict("first" if shown(body)["first"] == "a" else "tie"))
    [found] = judge(endpoint).compare_many([ITEM], ["a"], ["b"])
    assert (found.winner, found.flipped) == ("tie", True)


def test_identical_answers_are_a_tie_that_costs_nothing(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(longer)
    found = judge(endpoint).compare_many([ITEM] * 2, ["same", "aa"], ["same", "b"])
    assert [(one.winner, one.identical) for one in found] == [("tie", True), ("a", False)]
    assert len(endpoint.requests) == 2
    assert summary_of_pairs(found[:1]) == {}, "no order was tried"


def test_an_order_without_a_verdict_leaves_the_pair_without_one(endpoint_of: EndpointOf) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, str]:
        return completion("The second, I think.") if shown(body)["first"] == "bad" else longer(body)

    found = judge(endpoint_of(reply)).compare_many([ITEM] * 2, ["bad", "aa"], ["x", "b"])
    assert [one.winner for one in found] == [None, "a"]
    assert "a winner was asked for" in str(found[0].error)
    assert summary_of_pairs(found)["judge/missing"] == 0.5
    assert summary_of_pairs(found)["judge/flip_rate"] == 0.0


def test_comparisons_are_kept(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    endpoint = endpoint_of(lambda body: longer(body) if isinstance(shown(body), dict) else verdict(3))
    first = judge(endpoint, tmp_path).compare_many([ITEM] * 2, ["aaa", "a"], ["b", "bbb"])
    second = judge(endpoint, tmp_path).compare_many([ITEM] * 2, ["aaa", "a"], ["b", "bbb"])
    assert [one.winner for one in second] == [one.winner for one in first]
    assert all(one.cached for one in second)
    assert len(endpoint.requests) == 4
    judge(endpoint, tmp_path).score_many([ITEM], ["aaa"])  # a score is no comparison
    assert len(endpoint.requests) == 5
