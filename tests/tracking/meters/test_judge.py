"""The judge against a local server that plays an OpenAI-compatible endpoint."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sweeps.errors import InvalidInput, ServiceUnreachable
from tracking.meters.judge import JudgeError
from tracking.meters.metrics import Item

ITEM = Item("row-1", [{"role": "user", "content": "Sandals, please."}], "Here are sandals.")
RUBRIC = "5: the answer names sandals. 0: it does not."

Reply = Callable[[dict[str, Any]], tuple[int, str]]


class Endpoint:
    """Answers each request with what ``reply`` says, byte by byte where ``drop_s`` is given; keeps what was asked."""

    def __init__(self, reply: Reply, drop_s: float = 0.0) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.released = threading.Event()
        self.at_once = 0
        lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with lock:
                    endpoint.at_once += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint.at_once)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append({"path": self.path, **body})
                endpoint.headers.append(dict(self.headers))
                status, text = reply(body)
                with lock:
                    endpoint.at_once -= 1
                payload = text.encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    size = 1 if drop_s else max(1, len(payload))
                    for start in range(0, len(payload), size):
                        self.wfile.write(payload[start : start + size])
                        endpoint.released.wait(drop_s)
                except OSError:
                    pass  # the client has given up

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint_of() -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(reply: Reply, drop_s: float = 0.0) -> Endpoint:
        made.append(Endpoint(reply, drop_s))
        return made[-1]

    yield make
    for endpoint in made:
        endpoint.close()


EndpointOf = Callable[..., Endpoint]


def completion(content: str) -> tuple[int, str]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return 200, json.dumps(reply)


def verdict(result: Any, rationale: str = "It names them.") -> tuple[int, str]:
    return completion(json.dumps({"result": result, "rationale": rationale}))


def test_a_valid_verdict(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: verdict(4))
    judge = RubricJudge("tiny-judge", endpoint.url, RUBRIC)
    judge.probe()
    assert judge.score(ITEM, "Sandals.") == Verdict(4, "It names them.")
    asked = endpoint.requests[-1]
    assert asked["path"] == "/v1/chat/completions"
    assert asked["model"] == "tiny-judge"
    text = json.dumps(asked["messages"])
    assert RUBRIC in text
    assert "Sandals, please." in text
    assert "Here are sandals." in text
    assert "Sandals." in text
    assert "{{" not in asked["messages"][-1]["content"]
    schema = asked["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"]["enum"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("result", ["4", 4.0])
def test_an_integer_in_another_dress(endpoint_of: EndpointOf, result: Any) -> None:
    judge = RubricJudge("m", endpoint_of(lambda body: verdict(result)).url, RUBRIC)
    assert judge.score(ITEM, "x").score == 4


@pytest.mark.parametrize(
    ("content", "came"),
    [
        ('{"result": 9, "rationale": ""}', "came 9"),
        ('{"result": 3.5, "rationale": ""}', "came 3.5"),
        ('{"result": true, "rationale": ""}', "came True"),
        ('{"result": null, "rationale": ""}', "came None"),
        ('{"rationale": "no score"}', "has no 'result'"),
        ("I would say four.", "I would say four."),
        ("[4]", "the reply is no object"),
    ],
)
def test_what_is_no_verdict_is_asked_for_once_more_and_then_told(
    endpoint_of: EndpointOf, content: str, came: str
) -> None:
    endpoint = endpoint_of(lambda body: completion(content))
    with pytest.raises(JudgeError) as error:
        RubricJudge("m", endpoint.url, RUBRIC).score(ITEM, "x")
    assert came in str(error.value)
    assert "'row-1'" in str(error.value)
    assert "an integer from 0 to 5" in str(error.value)
    assert len(endpoint.requests) == 2


def test_the_second_attempt_counts(endpoint_of: EndpointOf) -> None:
    replies = iter([verdict(9), verdict(2)])
    judge = RubricJudge("m", endpoint_of(lambda body: next(replies)).url, RUBRIC)
    assert judge.score(ITEM, "x").score == 2


def test_a_server_that_fails_all_the_time(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: (500, '{"error": {"message": "out of memory"}}'))
    judge = RubricJudge("m", endpoint.url, RUBRIC, timeout_s=2, limit_s=1.5)
    start = time.monotonic()
    with pytest.raises(JudgeError, match=r"no answer within 1\.5 s on item 'row-1'.*answers 500.*out of memory"):
        judge.score(ITEM, "x")
    assert time.monotonic() - start < 6
    with pytest.raises(ServiceUnreachable, match="answers 500"):
        judge.probe()


def test_a_server_that_hangs(endpoint_of: EndpointOf) -> None:
    def hang(body: dict[str, Any]) -> tuple[int, str]:
        endpoint.released.wait(30)
        return verdict(1)

    endpoint = endpoint_of(hang)
    judge = RubricJudge("m", endpoint.url, RUBRIC, timeout_s=1, limit_s=1)
    start = time.monotonic()
    with pytest.raises(ServiceUnreachable, match="does not answer: no answer within 1 s"):
        judge.probe()
    with pytest.raises(JudgeError, match="no answer within 1 s"):
        judge.score(ITEM, "x")
    assert time.monotonic() - start < 8


REFUSED = (400, '{"error": {"message": "response_format is not supported by this model"}}')


def unless_held_to_a_form(body: dict[str, Any]) -> tuple[int, str]:
    return REFUSED if "response_format" in body else verdict(4)


def test_a_server_that_refuses_the_form_is_told_of_at_the_start(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(unless_held_to_a_form)
    with pytest.raises(ServiceUnreachable, match=r"refuses response_format.*not supported by this model"):
        RubricJudge("m", endpoint.url, RUBRIC).probe()


def test_a_verdict_that_was_held_to_no_form_does_not_count(endpoint_of: EndpointOf) -> None:
    """MLflow asks again without the form, gets a valid verdict, and says nothing of it."""
    endpoint = endpoint_of(unless_held_to_a_form)
    judge = RubricJudge("m", endpoint.url, RUBRIC)
    for _ in range(2):  # the second time MLflow does not even try with the form
        with pytest.raises(JudgeError, match=r"refuses response_format.*\(on item 'row-1'\)"):
            judge.score(ITEM, "x")
    assert any("response_format" not in request for request in endpoint.requests), "MLflow asked again"
    other = RubricJudge("m", endpoint_of(lambda body: verdict(4)).url, RUBRIC)
    assert other.score(ITEM, "x").score == 4, "what one endpoint refuses says nothing of the next"


def test_a_server_that_answers_drop_by_drop_has_no_longer_than_others(endpoint_of: EndpointOf) -> None:
    """Each byte starts the time-out of the connection anew; the limit is on the whole request."""
    endpoint = endpoint_of(lambda body: verdict(1), drop_s=0.2)
    with pytest.raises(ServiceUnreachable, match=r"no answer within 1 s \(evaluate\.judge\.timeout\)"):
        RubricJudge("m", endpoint.url, RUBRIC, timeout_s=1).probe()


def test_a_judge_of_a_sweeps_own_block(endpoint_of: EndpointOf) -> None:
    block = {"model": "m", "endpoint": "http://127.0.0.1:9/v1", "rubric": RUBRIC, "concurrency": 3, "timeout": 7.0}
    judge = RubricJudge.of({**block, "api_key_env": None})
    assert (judge.model, judge.endpoint) == ("m", "http://127.0.0.1:9/v1/chat/completions")
    assert (judge.concurrency, judge.timeout_s, judge.limit_s) == (3, 7.0, 28.0)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((401, '{"error": "bad key"}'), "401"),
        ((404, '{"error": "no such model"}'), "no such model"),
        ((200, "<html>hello</html>"), "not with a chat completion"),
        ((200, "[]"), "not with a chat completion"),
    ],
)
def test_probe_says_what_is_wrong(endpoint_of: EndpointOf, reply: tuple[int, str], said: str) -> None:
    with pytest.raises(ServiceUnreachable, match=said):
        RubricJudge("m", endpoint_of(lambda body: reply).url, RUBRIC).probe()


def test_probe_of_nothing() -> None:
    with pytest.raises(ServiceUnreachable, match=r"http://127\.0\.0\.1:9/v1/chat/completions does not answer"):
        RubricJudge("m", "http://127.0.0.1:9/v1/", RUBRIC).probe()


def test_many_at_once_and_in_order(endpoint_of: EndpointOf) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, str]:
        time.sleep(0.05)
        answer = body["messages"][-1]["content"]
        return verdict(next(number for number in range(6) if f"answer-{number}" in answer))

    endpoint = endpoint_of(reply)
    judge = RubricJudge("m", endpoint.url, RUBRIC, concurrency=3)
    verdicts = judge.score_many([ITEM] * 6, [f"answer-{number}" for number in range(6)])
    assert [one.score for one in verdicts] == [0, 1, 2, 3, 4, 5]
    assert 1 < endpoint.most_at_once <= 3


def test_one_failure_fails_them_all(endpoint_of: EndpointOf) -> None:
    endpoint = endpoint_of(lambda body: verdict(7 if "bad" in body["messages"][-1]["content"] else 3))
    with pytest.raises(JudgeError, match="came 7"):
        RubricJudge("m", endpoint.url, RUBRIC, concurrency=1).score_many([ITEM] * 9, ["bad", *["good"] * 8])
    assert len(endpoint.requests) < 9


def test_only_the_key_that_the_user_named_is_sent(endpoint_of: EndpointOf, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = endpoint_of(lambda body: verdict(1))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-service")
    monkeypatch.setenv("MY_JUDGE_KEY", "mine")
    RubricJudge("m", endpoint.url, RUBRIC).score(ITEM, "x")
    RubricJudge("m", endpoint.url, RUBRIC, api_key_env="MY_JUDGE_KEY").score(ITEM, "x")
    assert [headers["Authorization"] for headers in endpoint.headers] == ["Bearer none", "Bearer mine"]


def test_what_the_user_wrote_is_checked_together() -> None:
    with pytest.raises(InvalidInput) as error:
        RubricJudge("m", "localhost:8000", "Look at {{ trace }}.", api_key_env="NOT_SET_ANYWHERE")
    assert [problem.where for problem in error.value.problems] == [
        "evaluate.judge.rubric",
        "evaluate.judge.endpoint",
        "evaluate.judge.api_key_env",
    ]
