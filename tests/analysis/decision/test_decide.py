"""Champion, tie set or none."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.decision.decide import decide
from analysis.decision.outcome import Outcome
from analysis.decision.power import Need
from analysis.decision.rule import DecisionRule
from analysis.plain import plain
from sweeps.errors import InvalidInput

RULE = DecisionRule(("a", "b", "c"), ("incumbent", "base"), num_draws=999)
Scores = dict[str, dict[str, float | None]]


def drawn(n: int = 100, /, **means: float) -> Scores:
    rng = np.random.default_rng(0)
    items = rng.normal(0, 1, n)
    return {
        arm: {f"item {place}": float(value) for place, value in enumerate(mean + items + rng.normal(0, 0.5, n))}
        for arm, mean in means.items()
    }


def test_a_champion() -> None:
    outcome = decide(RULE, drawn(a=4, b=3, c=3, incumbent=2.5, base=1), names={"a": "Trial 7"})
    assert (outcome.kind, outcome.pick, outcome.unbeaten, outcome.need) == ("champion", "a", ("a",), Need(0))
    assert outcome.why[0].startswith("Trial 7 is the champion: quality/score 4.")
    assert [one.verdict for one in outcome.promotion] == ["better", "better"]
    assert {(one.first, one.second): one.verdict for one in outcome.contest} == {
        ("a", "b"): "better",
        ("a", "c"): "better",
        ("b", "c"): "undecided",
    }


def test_a_tie_set_and_what_would_decide_it() -> None:
    outcome = decide(RULE, drawn(a=3.05, b=3, c=2, incumbent=1.5, base=1))
    assert (outcome.kind, outcome.pick, outcome.unbeaten) == ("tie", "a", ("a", "b"))
    assert outcome.need.items is not None
    assert outcome.need.items > 0
    assert "a is promoted, but not told apart from b" in outcome.why[0]
    assert outcome.why[-1].startswith("If the differences are as observed, a sealed set with")


def test_nobody_is_promoted_without_beating_every_reference() -> None:
    for means in ({"incumbent": 4.0, "base": 1.0}, {"incumbent": 1.0, "base": 4.0}):
        outcome = decide(RULE, drawn(a=4, b=3, c=3, **means))
        assert (outcome.kind, outcome.pick) == ("none", None)
        assert outcome.why[0].startswith("Nobody is promoted.")
        assert outcome.need.items is not None
        assert outcome.need.items > 0


def test_worse_than_the_incumbent_is_decided_too() -> None:
    outcome = decide(RULE, drawn(a=3, b=3, c=3, incumbent=4, base=1))
    assert outcome.kind == "none"
    assert outcome.promotion[0].verdict == "worse"
    assert outcome.need == Need(0)
    assert outcome.why[-1] == "It is decided: more items are not expected to change it."


def test_who_beats_the_candidate_takes_its_place() -> None:
    outcome = decide(RULE, drawn(a=3, b=4, c=3, incumbent=2, base=1))
    assert (outcome.kind, outcome.pick, outcome.unbeaten) == ("champion", "b", ("b",))
    assert "better than the candidate that dev named, a" in outcome.why[1]


def test_a_set_of_five_items_decides_nothing() -> None:
    outcome = decide(RULE, drawn(5, a=5, b=1, c=1, incumbent=1, base=1))
    assert (outcome.kind, outcome.pick, outcome.unbeaten) == ("none", None, ("a", "b", "c"))
    assert {one.verdict for one in (*outcome.promotion, *outcome.contest)} == {"too few"}
    assert all(one.interval is None and one.p is None for one in outcome.promotion)
    assert "5 items in 5 groups decide nothing" in " ".join(outcome.why)
    assert outcome.why[-1] == "A verdict needs at least 10 groups of items."
    assert outcome.need.items is not None
    assert outcome.need.items >= 5


def test_many_items_of_few_conversations_decide_nothing() -> None:
    scores = drawn(a=5, b=1, c=1, incumbent=1, base=1)
    outcome = decide(RULE, scores, {item: int(item.split()[1]) % 4 for item in scores["a"]})
    assert outcome.kind == "none"
    assert outcome.promotion[0].num_clusters == 4


def test_missing_scores_are_dropped_by_pairs_and_told() -> None:
    scores = drawn(a=4, b=3, c=3, incumbent=2.5, base=1)
    scores["a"]["item 3"] = None
    scores["incumbent"]["item 4"] = math.nan
    del scores["base"]["item 5"]
    outcome = decide(RULE, scores)
    assert [(one.n, one.num_missing) for one in outcome.promotion] == [(98, 2), (98, 2)]
    assert [one.n for one in outcome.means] == [99, 100, 100, 99, 99]
    assert "Up to 2 items were left out" in " ".join(outcome.why)


def test_an_incumbent_that_was_never_scored_is_not_beaten() -> None:
    scores = drawn(a=5, b=3, c=3, incumbent=1, base=1)
    scores["incumbent"] = dict.fromkeys(scores["incumbent"])
    outcome = decide(RULE, scores)
    assert outcome.kind == "none"
    assert "a and incumbent have no item in common: no verdict." in outcome.why
    assert outcome.need == Need(None)


def test_one_contender_and_one_reference() -> None:
    outcome = decide(DecisionRule(("a",), ("base",)), drawn(a=4, base=1))
    assert (outcome.kind, outcome.pick, outcome.contest) == ("champion", "a", ())
    assert "There is no other contender." in outcome.why


def test_arms_that_are_one_are_a_tie() -> None:
    scores = drawn(a=4, base=1)
    scores["b"] = scores["c"] = scores["a"]
    scores["incumbent"] = scores["base"]
    outcome = decide(RULE, scores)
    assert (outcome.kind, outcome.pick, outcome.unbeaten) == ("tie", "a", ("a", "b", "c"))
    assert outcome.need == Need(10_000, beyond=True)
    assert "more than 10,000 more items" in outcome.why[-1]


@settings(max_examples=40)
@given(st.lists(st.sampled_from([1.0, 1.1, 1.3, 2.0]), min_size=5, max_size=5), st.sampled_from([12, 60]))
def test_for_all_outcomes(means: list[float], n: int) -> None:
    outcome = decide(RULE, drawn(n, **dict(zip(RULE.arms, means, strict=True))))
    compared = (*outcome.promotion, *outcome.contest)
    for one in compared:
        assert (one.need.items == 0) == (one.verdict in ("better", "worse")), "more is asked for where it is open alone"
        assert one.p is not None
        assert one.adjusted_p is not None
        assert one.adjusted_p >= one.p
        assert one.interval is not None
        assert one.joint_interval is not None
        assert one.joint_interval[0] <= one.interval[0] <= one.interval[1] <= one.joint_interval[1]
    promoted = all(one.verdict == "better" for one in outcome.promotion)
    assert promoted == (outcome.kind != "none") == (outcome.pick is not None)
    if outcome.kind == "champion":
        assert outcome.unbeaten == (outcome.pick,)
        assert outcome.need == Need(0)
    if outcome.kind == "tie":
        assert outcome.pick in outcome.unbeaten
        assert len(outcome.unbeaten) > 1 or outcome.need == Need(0)
    _survives_json(outcome)


def _survives_json(outcome: Outcome) -> None:
    stored: dict[str, Any] = json.loads(json.dumps(plain(outcome.to_dict()), allow_nan=False))
    assert DecisionRule.from_dict(stored["rule"]) == outcome.rule
    assert stored["kind"] == outcome.kind


def test_the_order_of_items_and_arms_outside_the_rule_changes_nothing() -> None:
    scores = drawn(a=4, b=3.9, c=3, incumbent=2.5, base=1)
    groups = {item: int(item.split()[1]) // 2 for item in scores["a"]}
    turned = {arm: dict(reversed(row.items())) for arm, row in reversed(scores.items())}
    assert decide(RULE, turned | {"other": {"else": 1.0}}, groups).to_dict() == decide(RULE, scores, groups).to_dict()


def test_scores_that_are_not_there_are_told() -> None:
    scores = drawn(a=4, b=3, base=1)
    with pytest.raises(InvalidInput) as caught:
        decide(RULE, scores)
    assert [problem.where for problem in caught.value.problems] == ["c", "incumbent"]
    assert "must have scores on the challenge set (there are a, b, base)" in str(caught.value)


def test_a_rule_that_cannot_be_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        DecisionRule(("a", "b", "a"), ("b",), alpha=1.5, power=0, num_draws=10, min_clusters=1, max_items=0)
    told = str(caught.value)
    assert "'a', 'b' stands there twice" in told
    for name in ("alpha", "power", "num_draws", "min_clusters", "max_items"):
        assert name in told
    with pytest.raises(InvalidInput, match="evaluate the untouched base, or name an incumbent"):
        DecisionRule(("a",), ())
    with pytest.raises(InvalidInput, match="must name at least one arm"):
        DecisionRule((), ("base",))


def test_more_items_are_told_from_the_observed_difference() -> None:
    """For one comparison, z = 1.960 + 0.842: as many items as the textbook says."""
    scores: Scores = {"base": {f"{place}": 0.0 for place in range(100)}}
    scores["a"] = {f"{place}": 0.1 + (1.0 if place % 2 else -1.0) for place in range(100)}
    outcome = decide(DecisionRule(("a",), ("base",)), scores)
    needed = ((1.95996 + 0.84162) / 0.1) ** 2 * 100 / 99
    assert outcome.need.items == math.ceil(needed - 100)
