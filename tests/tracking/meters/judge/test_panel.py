"""Several judges: their mean, how far they are apart, and what is left where one of them fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import ServiceUnreachable
from tests.tracking.meters.judge.serving import Endpoint, answer_in, verdict
from tests.tracking.meters.judge.test_rubric import ITEM, PRICE, RUBRIC
from tracking.meters.judge import Panel, Verdict, judge_of, summary, verdict_of

EndpointOf = Callable[..., Endpoint]
Scores = dict[str, Any]


def panel_of(endpoint: Endpoint, *models: str, **settings: Any) -> Panel:
    members = [{"model": model} for model in models]
    block = {"endpoint": endpoint.url, "rubric": RUBRIC, "price": PRICE, "timeout": 0.2, "panel": members, **settings}
    found = judge_of(block, None)
    assert isinstance(found, Panel)
    return found


def by_model(scores: Scores) -> Callable[[dict[str, Any]], tuple[int, str]]:
    """Each model gives its own score, or its own reply, of each answer (a letter)."""

    def reply(body: dict[str, Any]) -> tuple[int, str]:
        found = scores[body["model"]]
        found = found[ord(json.loads(answer_in(body))) - ord("a")] if isinstance(found, list) else found
        return found if isinstance(found, tuple) else verdict(found, f"I am {body['model']}.")

    return reply


def test_the_mean_and_how_far_they_are_apart(endpoint_of: EndpointOf) -> None:
    panel = panel_of(endpoint_of(by_model({"x": [5, 3, 0], "y": [4, 3, 2]})), "x", "y")
    found = panel.score_many([ITEM] * 3, list("abc"))
    assert [one.score for one in found] == [4.5, 3.0, 1.0]
    assert found[0].reason == "x: I am x.; y: I am y."
    assert [part.score for part in found[0].panel] == [5.0, 4.0]
    assert found[0].tokens_in == 200
    assert found[0].usd == pytest.approx(2 * 3e-4)
    told = summary(found)
    assert told["judge/disagreement"] == pytest.approx((1 + 0 + 2) / 3)
    # Σ(x−y)² / 3 = 5/3; the variances are 38/9 and 2/3, the means 8/3 and 3
    assert told["judge/panel_kappa"] == pytest.approx(1 - (5 / 3) / (38 / 9 + 2 / 3 + 1 / 9))
    assert told["judge/tokens"] == 660
    assert told["judge/panel_missing"] == 0.0


def test_one_judges_missing_verdict_leaves_the_others(endpoint_of: EndpointOf) -> None:
    panel = panel_of(endpoint_of(by_model({"x": [5, 9, 9], "y": [3, 3, 9], "z": [1, 1, 1]})), "x", "y", "z")
    found = panel.score_many([ITEM] * 2, list("ab"))
    assert [one.score for one in found] == [3.0, 2.0]
    assert "came 9" in str(found[1].error)
    told = summary(found)
    assert told["judge/missing"] == 0.0
    assert told["judge/panel_missing"] == pytest.approx(1 / 6)


def test_an_item_that_no_judge_scores_is_missing(endpoint_of: EndpointOf) -> None:
    panel = panel_of(endpoint_of(by_model({"x": [5, 9], "y": [3, 9]})), "x", "y")
    found = panel.score_many([ITEM] * 2, list("ab"))
    assert [one.score for one in found] == [4.0, None]
    assert summary(found)["judge/missing"] == 0.5
    assert summary(found)["judge/disagreement"] == 2.0, "of the items that two have scored"


def test_a_judge_that_is_gone_is_told_of_on_every_item(endpoint_of: EndpointOf) -> None:
    panel = panel_of(endpoint_of(by_model({"x": (401, "no money"), "y": 3})), "x", "y")
    found = panel.score_many([ITEM] * 4, list("abcd"))
    assert [one.score for one in found] == [3.0] * 4
    assert all("no money" in str(one.error) for one in found)
    assert summary(found)["judge/panel_missing"] == 0.5


def test_a_panel_of_which_all_are_gone(endpoint_of: EndpointOf) -> None:
    panel = panel_of(endpoint_of(by_model({"x": (401, "no money"), "y": (404, "no such model")})), "x", "y")
    with pytest.raises(ServiceUnreachable, match="no money"):
        panel.score_many([ITEM] * 4, list("abcd"))


def test_the_majority_of_comparisons(endpoint_of: EndpointOf) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, str]:
        first = json.loads(answer_in(body))["first"]
        return verdict({"x": "first" if first == "a" else "second", "y": "tie", "z": "first"}[body["model"]])

    endpoint = endpoint_of(reply)
    [found] = panel_of(endpoint, "x", "y", "z").compare_many([ITEM], ["a"], ["b"])
    assert (found.winner, found.flipped) == ("a", True)
    [found] = panel_of(endpoint, "y", "z").compare_many([ITEM], ["a"], ["b"])
    assert found.winner == "tie"


def test_a_panel_keeps_each_judges_verdicts(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    endpoint = endpoint_of(by_model({"x": 5, "y": 4}))
    settings = {"endpoint": endpoint.url, "rubric": RUBRIC, "panel": [{"model": "x"}, {"model": "y"}]}
    judge_of(settings, tmp_path).score_many([ITEM] * 2, list("ab"))
    alone = judge_of({**settings, "panel": [], "model": "y"}, tmp_path).score_many([ITEM] * 2, list("ab"))
    assert [one.score for one in alone] == [4.0, 4.0]
    assert all(one.cached for one in alone)
    assert len(endpoint.requests) == 4


def test_every_judge_of_a_panel_is_probed(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: (404, "gone") if body["model"] == "y" else verdict(1))
    with pytest.raises(ServiceUnreachable, match="404"):
        panel_of(endpoint, "x", "y").probe()


def test_a_verdict_is_written_and_read_back() -> None:
    part = Verdict(4.0, "so", tokens_in=1, tokens_out=2, usd=0.1, judge="x", served="x-1")
    whole = Verdict(None, error="none", panel=(part, Verdict(None, error="gone")))
    assert verdict_of(json.loads(json.dumps(whole.to_dict()))) == whole
    assert verdict_of({"score": 3, "reason": "so"}) == Verdict(3, "so")
    assert part.to_dict() == {
        "score": 4.0,
        "reason": "so",
        "tokens_in": 1,
        "tokens_out": 2,
        "usd": 0.1,
        "judge": "x",
        "served": "x-1",
    }
