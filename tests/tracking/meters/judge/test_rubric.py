"""A rubric's verdicts, asked of a local server: what is asked, what counts, what is missing, and when it all fails."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import InvalidInput, ServiceUnreachable
from tests.tracking.meters.judge.serving import Endpoint, answer_in, completion, verdict
from tracking.meters.judge import JudgeError, Panel, RubricJudge, judge_of, summary
from tracking.meters.metrics import Item

ITEM = Item("row-1", [{"role": "user", "content": "Sandals, please."}], "Here are sandals.")
RUBRIC = "5: the answer names sandals. 0: it does not."
PRICE = {"input_usd_per_1m": 2.0, "output_usd_per_1m": 10.0, "source": "list", "date": "2026-11-01"}
EndpointOf = Callable[..., Endpoint]


def judge(endpoint: Endpoint, cache_dir: Path | None = None, **settings: Any) -> RubricJudge:
    found = judge_of({"model": "m", "endpoint": endpoint.url, "rubric": RUBRIC, **settings}, cache_dir)
    assert isinstance(found, RubricJudge)
    return found


def bad(answer: str, reply: tuple[int, str]) -> Callable[[dict[str, Any]], tuple[int, str]]:
    """A judge that says this of one answer, and 3 of the others."""
    return lambda body: reply if answer_in(body) == json.dumps(answer) else verdict(3)


def test_what_is_asked_and_what_comes_back(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: verdict(4))
    [found] = judge(endpoint, model="tiny-judge", price=PRICE, parameters={"temperature": 0.0, "seed": 7}).score_many(
        [ITEM], ["Sandals."]
    )
    assert (found.score, found.reason, found.error) == (4.0, "It names them.", None)
    assert (found.tokens_in, found.tokens_out) == (100, 10)
    assert found.usd == pytest.approx(100 * 2e-6 + 10 * 10e-6)
    assert (found.judge, found.served, found.cached) == ("tiny-judge", "m-1", False)
    [asked] = endpoint.requests
    assert (asked["path"], asked["model"]) == ("/v1/chat/completions", "tiny-judge")
    assert (asked["temperature"], asked["seed"]) == (0.0, 7)
    text = json.dumps(asked["messages"])
    for part in (RUBRIC, "Sandals, please.", "Here are sandals.", "Sandals."):
        assert part in text
    assert "{{" not in asked["messages"][-1]["content"]
    schema = asked["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["rationale", "result"], "the reason is written before the score"
    assert schema["properties"]["result"]["enum"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("result", ["4", 4.0])
def test_an_integer_in_another_dress(endpoint_of: EndpointOf, result: Any) -> None:
    assert judge(endpoint_of(lambda body: verdict(result))).score_many([ITEM], ["x"])[0].score == 4.0


@pytest.mark.parametrize(
    ("reply", "came"),
    [
        (verdict(9), "came 9"),
        (verdict(-1), "came -1"),
        (verdict(3.5), "came 3.5"),
        (verdict(True), "came True"),
        (verdict(None), "came None"),
        (completion('{"rationale": "no score"}'), "has no 'result'"),
        (completion("I would say four."), "I would say four."),
        (completion('{"rationale": "It is", "res'), "Failed to parse"),
        (completion(""), "Failed to parse"),
        (completion("[4]"), "the reply is no object"),
        ((200, '{"choices": [{"mess'), "Failed to invoke"),
        ((200, "[]"), "came"),
        ((200, "<html>"), "came"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_verdict_is_asked_for_once_more_and_then_missing(
    endpoint_of: EndpointOf, reply: tuple[int, str], came: str
) -> None:
    endpoint = endpoint_of(bad("bad", reply))
    good, missing, other = judge(endpoint, concurrency=1).score_many([ITEM] * 3, ["a", "bad", "b"])
    assert (good.score, other.score) == (3.0, 3.0), "the others are not lost"
    assert missing.score is None
    assert missing.error is not None
    assert came in missing.error
    assert "an integer from 0 to 5 was asked for" in missing.error
    assert "'row-1'" in missing.error
    assert [answer_in(request) for request in endpoint.requests].count('"bad"') == 2


def test_the_second_attempt_counts_and_both_are_paid_for(endpoint_of: EndpointOf) -> None:
    replies = iter([verdict(9), verdict(2)])
    [found] = judge(endpoint_of(lambda body: next(replies)), price=PRICE).score_many([ITEM], ["x"])
    assert (found.score, found.tokens_in, found.tokens_out) == (2.0, 200, 20)


def test_a_missing_verdict_was_paid_for_too(endpoint_of: EndpointOf) -> None:
    [found] = judge(endpoint_of(lambda body: verdict(9)), price=PRICE).score_many([ITEM], ["x"])
    assert (found.score, found.tokens_in) == (None, 200)
    assert found.usd == pytest.approx(2 * 3e-4)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}, {"prompt_tokens": "3", "completion_tokens": 1}])
def test_tokens_that_the_server_does_not_tell_are_null_and_not_zero(endpoint_of: EndpointOf, usage: Any) -> None:
    [found] = judge(endpoint_of(lambda body: verdict(4, usage=usage)), price=PRICE).score_many([ITEM], ["x"])
    assert found.score == 4.0
    assert found.usd is None
    assert summary([found])["judge/usd"] is None
    assert summary([found])["judge/tokens"] is None


def test_without_a_price_there_is_no_cost(endpoint_of: EndpointOf) -> None:
    [found] = judge(endpoint_of(lambda body: verdict(4))).score_many([ITEM], ["x"])
    assert (found.tokens_in, found.usd) == (100, None)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(endpoint_of: EndpointOf, status: int) -> None:
    replies = iter([(status, "{}"), verdict(5)])
    endpoint = endpoint_of(lambda body: next(replies))
    assert judge(endpoint).score_many([ITEM], ["x"])[0].score == 5.0
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    ("status", "said"), [(429, "answers 429 Too Many Requests: slow down"), (500, "answers 500 Internal Server Error")]
)
def test_one_item_that_never_gets_through_is_missing(endpoint_of: EndpointOf, status: int, said: str) -> None:
    endpoint = endpoint_of(bad("bad", (status, "slow down")))
    found = judge(endpoint, timeout=0.3).score_many([ITEM] * 2, ["a", "bad"])
    assert found[0].score == 3.0
    assert found[1].score is None
    assert "gave no answer within 1.2 s" in str(found[1].error)
    assert said in str(found[1].error)


def test_one_request_that_is_refused_is_missing_and_not_asked_again(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(bad("bad", (400, '{"error": {"message": "maximum context length is 10"}}')))
    found = judge(endpoint, concurrency=1).score_many([ITEM] * 3, ["bad", "a", "b"])
    assert [one.score for one in found] == [None, 3.0, 3.0]
    assert "answers 400 Bad Request" in str(found[0].error)
    assert len(endpoint.requests) == 3


def test_a_server_that_fails_all_the_time_is_told_of_after_a_few(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: (500, '{"error": {"message": "out of memory"}}'))
    start = time.monotonic()
    with pytest.raises(ServiceUnreachable, match=r"gave no answer within 0\.4 s: it answers 500 .*out of memory"):
        judge(endpoint, timeout=0.1, concurrency=1).score_many([ITEM] * 50, [str(number) for number in range(50)])
    assert time.monotonic() - start < 10
    assert {answer_in(request) for request in endpoint.requests} == {'"0"', '"1"', '"2"'}


def test_a_server_that_hangs(endpoint_of: EndpointOf) -> None:
    def hang(body: dict[str, Any]) -> tuple[int, str]:
        endpoint.released.wait(30)
        return verdict(1)

    endpoint = endpoint_of(hang)
    start = time.monotonic()
    with pytest.raises(ServiceUnreachable, match=r"gave no answer within 0\.8 s: it does not answer"):
        judge(endpoint, timeout=0.2, concurrency=3).score_many([ITEM] * 9, [str(number) for number in range(9)])
    assert time.monotonic() - start < 10


def test_a_server_that_answers_drop_by_drop_has_no_longer_than_others(endpoint_of: EndpointOf) -> None:
    """Each byte starts the time-out of the connection anew; the limit is on the whole request."""
    endpoint = endpoint_of(lambda body: verdict(1), drop_s=0.05)
    [found] = judge(endpoint, timeout=0.2).score_many([ITEM], ["x"])
    assert found.score is None
    assert "gave no answer within 0.8 s" in str(found.error)


def test_nobody_there() -> None:
    judge = judge_of({"model": "m", "endpoint": "http://127.0.0.1:9/v1", "rubric": RUBRIC, "timeout": 0.1}, None)
    with pytest.raises(ServiceUnreachable, match="Connection refused"):
        judge.score_many([ITEM] * 5, list("abcde"))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((401, "bad key"), "answers 401 Unauthorized: bad key"),
        ((404, "no such model"), "answers 404 Not Found: no such model"),
        ((400, '{"error": "response_format is not supported"}'), "refuses response_format"),
    ],
)
def test_what_every_request_would_meet_is_told_at_once(
    endpoint_of: EndpointOf, reply: tuple[int, str], said: str
) -> None:
    endpoint = endpoint_of(lambda body: reply)
    with pytest.raises(ServiceUnreachable, match=said):
        judge(endpoint, concurrency=1).score_many([ITEM] * 5, list("abcde"))
    assert len(endpoint.requests) == 1, "MLflow would ask again without response_format"


def test_a_model_that_never_gives_a_verdict(endpoint_of: EndpointOf) -> None:
    with pytest.raises(JudgeError, match=r"no verdict on any of 4 items: .*I would say four"):
        judge(endpoint_of(lambda body: completion("I would say four."))).score_many([ITEM] * 4, list("abcd"))


def test_a_model_that_never_gives_a_verdict_is_not_paid_for_all_of_them(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: verdict(9))
    with pytest.raises(JudgeError, match=r"no verdict on any of the first 10 items: .*came 9"):
        judge(endpoint, concurrency=1).score_many([ITEM] * 99, [str(number) for number in range(99)])
    assert len(endpoint.requests) == 20, "each was asked once more"


def test_nothing_to_score(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: verdict(1))
    assert judge(endpoint).score_many([], []) == []
    assert summary([]) == {}
    assert endpoint.requests == []


def test_many_at_once_and_in_order(endpoint_of: EndpointOf) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, str]:
        time.sleep(0.05)
        return verdict(int(json.loads(answer_in(body))))

    endpoint = endpoint_of(reply)
    verdicts = judge(endpoint, concurrency=3).score_many([ITEM] * 6, [str(number) for number in range(6)])
    assert [one.score for one in verdicts] == [0, 1, 2, 3, 4, 5]
    assert 1 < endpoint.most_at_once <= 3


def test_several_threads_share_a_judge(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    endpoint = endpoint_of(lambda body: verdict(int(json.loads(answer_in(body))) % 6))
    shared = judge(endpoint, tmp_path)
    found: dict[int, list[float | None]] = {}

    def run(start: int) -> None:
        answers = [str(start + number) for number in range(5)]
        found[start] = [one.score for one in shared.score_many([ITEM] * 5, answers)]

    threads = [threading.Thread(target=run, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {start: [float((start + number) % 6) for number in range(5)] for start in (0, 100, 200)}


def test_only_the_key_that_the_user_named_is_sent(endpoint_of: EndpointOf, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = endpoint_of(lambda body: verdict(1))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    monkeypatch.setenv("MY_JUDGE_KEY", "mine")
    judge(endpoint).score_many([ITEM], ["x"])
    judge(endpoint, api_key_env="MY_JUDGE_KEY").score_many([ITEM], ["x"])
    assert [headers["Authorization"] for headers in endpoint.headers] == ["Bearer none", "Bearer mine"]


def test_a_key_that_is_not_set() -> None:
    with pytest.raises(InvalidInput, match=r"evaluate\.judge\.api_key_env: the environment has no NOT_SET_ANYWHERE"):
        judge_of({"model": "m", "endpoint": "http://x", "rubric": RUBRIC, "api_key_env": "NOT_SET_ANYWHERE"}, None)


def test_mlflow_judges_of_others_are_left_alone(endpoint_of: EndpointOf, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = endpoint_of(lambda body: verdict(1))
    judge(endpoint).score_many([ITEM], ["x"])
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    from mlflow.genai import make_judge

    other = make_judge(
        name="o",
        instructions="Is {{ outputs }} good?",
        model="openai:/other",
        base_url=f"{endpoint.url}/chat/completions",
        feedback_value_type=int,
    )
    assert other(outputs="x").value == 1
    assert {key.lower(): value for key, value in endpoint.headers[-1].items()}["authorization"] == "Bearer theirs"


def test_what_a_block_describes() -> None:
    block = {"model": "m", "endpoint": "http://127.0.0.1:9/v1/", "rubric": RUBRIC, "timeout": 7.0, "panel": []}
    found = judge_of(block, None)
    assert isinstance(found, RubricJudge)
    assert found.endpoint.url == "http://127.0.0.1:9/v1/chat/completions"
    assert (found.endpoint.timeout_s, found.endpoint.limit_s) == (7.0, 28.0)
    panel = judge_of({**block, "model": None, "panel": [{"model": "a"}, {"model": "b", "timeout": 1.0}]}, None)
    assert isinstance(panel, Panel)
    assert [(one.model, one.endpoint.timeout_s) for one in panel.judges] == [("a", 7.0), ("b", 1.0)]
