"""The question at the start: only a server that keeps to a JSON schema can answer it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import ServiceUnreachable
from tests.tracking.meters.judge.serving import Endpoint, completion, only_word, verdict
from tests.tracking.meters.judge.test_rubric import ITEM, judge
from tracking.meters.judge import RubricJudge

EndpointOf = Callable[..., Endpoint]


def test_a_server_that_keeps_to_schemas(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    endpoint = endpoint_of(lambda body: verdict(4))
    judge(endpoint, tmp_path).probe()
    judge(endpoint, tmp_path).probe()
    first, second = endpoint.probes
    assert only_word(first) != only_word(second), "a word of its own each time"
    assert str(only_word(first)) not in json.dumps(first["messages"])


@pytest.mark.parametrize(
    "content", ['{"result": 3}', "3", "", "I would say three.", '{"result": "w000000000000"}', "[", None]
)
def test_a_server_that_ignores_the_schema(endpoint_of: EndpointOf, content: Any) -> None:
    endpoint = endpoint_of(lambda body: completion(content), holds=False)
    with pytest.raises(ServiceUnreachable, match=r"ignores response_format \(it replied .* structured output"):
        judge(endpoint).probe()


def test_a_server_that_repeats_what_it_is_asked(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: completion(json.dumps(body["messages"])), holds=False)
    with pytest.raises(ServiceUnreachable, match="ignores response_format"):
        judge(endpoint).probe()


def test_a_server_that_refuses_the_schema(endpoint_of: EndpointOf) -> None:
    refused = (400, '{"error": {"message": "response_format is not supported by this model"}}')
    with pytest.raises(ServiceUnreachable, match=r"refuses response_format.*not supported by this model"):
        judge(endpoint_of(lambda body: refused)).probe()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((401, '{"error": "bad key"}'), "answers 401"),
        ((404, '{"error": "no such model"}'), "no such model"),
        ((500, '{"error": "out of memory"}'), "answers 500 .*out of memory"),
        ((200, "<html>hello</html>"), "not with a chat completion"),
        ((200, "[]"), "not with a chat completion"),
        ((200, '{"choices": []}'), "not with a chat completion"),
    ],
)
def test_what_is_wrong_is_told(endpoint_of: EndpointOf, reply: tuple[int, str], said: str) -> None:
    with pytest.raises(ServiceUnreachable, match=said):
        judge(endpoint_of(lambda body: reply, holds=False)).probe()


@pytest.mark.parametrize("drop_s", [0.0, 0.2])
def test_a_server_that_hangs_or_answers_drop_by_drop(endpoint_of: EndpointOf, drop_s: float) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, str]:
        if not drop_s:
            endpoint.released.wait(30)
        return verdict(1)

    endpoint = endpoint_of(reply, drop_s=drop_s)
    start = time.monotonic()
    with pytest.raises(ServiceUnreachable, match=r"no answer within 0\.5 s \(evaluate\.judge\.timeout\)"):
        judge(endpoint, timeout=0.5).probe()
    assert time.monotonic() - start < 5


def test_nobody_there() -> None:
    found = RubricJudge({"model": "m", "endpoint": "http://127.0.0.1:9/v1/", "rubric": "r"}, None)
    with pytest.raises(ServiceUnreachable, match=r"http://127\.0\.0\.1:9/v1/chat/completions does not answer"):
        found.probe()


def test_another_model_behind_the_same_name_gives_other_verdicts(endpoint_of: EndpointOf, tmp_path: Path) -> None:
    """What the server calls its model is part of what a verdict is kept under."""
    served = "m-1"

    def reply(body: dict[str, Any]) -> tuple[int, str]:
        word = only_word(body)
        return completion(json.dumps({"result": word}), model=served) if word else verdict(4, model=served)

    endpoint = endpoint_of(reply, holds=False)
    for served, paid in (("m-1", 1), ("m-1", 1), ("m-2", 2)):
        judge(endpoint, tmp_path).probe()
        judge(endpoint, tmp_path).score_many([ITEM], ["x"])
        assert len(endpoint.requests) == paid, served
