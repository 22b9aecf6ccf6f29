"""The API as OpenAI's own client and a plain socket see it."""

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from recipes import generation
from recipes.schema import Base
from tests.launchers.serving.bundles import LIMIT, SCHEMA, served
from tests.launchers.serving.conftest import Running
from tests.recipes.serving.conftest import QUESTIONS, conversation


def ask(client: Any, text: str = QUESTIONS[0], **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "champion", "messages": conversation(text), **more})


def last_line(log: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return found


def test_a_stock_client_streams_the_answer_that_the_bundle_gives_in_process(running: Running) -> None:
    alone = generation.load(
        str(running.base), Base(path="", dtype="float32"), running.bundle, max_new_tokens=LIMIT, batch_size=1
    )
    for text, expected in zip(QUESTIONS, alone.answer([conversation(text) for text in QUESTIONS]), strict=True):
        chunks = list(ask(running.client, text, stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]).strip() == expected
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]][-1] in ("stop", "length")
        assert chunks[-1].choices == []
        usage = chunks[-1].usage
        whole = ask(running.client, text)
        assert whole.choices[0].message.content.strip() == expected
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
            usage.prompt_tokens,
            usage.completion_tokens,
        )
        assert whole.usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_tokens_are_sent_as_they_come(running: Running) -> None:
    stream = ask(running.client, stream=True, max_tokens=200, extra_body={"ignore_eos": True})
    times = [time.monotonic() for _ in stream]
    assert len(times) > 50
    assert times[len(times) // 4] - times[0] < (times[-1] - times[0]) / 2, "not all at the end"


def test_many_at_once_are_answered_as_alone(running: Running) -> None:
    client = running.client
    with ThreadPoolExecutor(12) as pool:
        asked = [(model, text) for text in QUESTIONS for model in ("champion", "second")]
        together = list(pool.map(lambda one: ask(client, one[1], model=one[0]).choices[0].message.content, asked))
    alone = [ask(client, text, model=model).choices[0].message.content for model, text in asked]
    assert together == alone
    assert alone[0] != alone[1], "two models"


def test_the_models_are_listed_with_what_stands_behind_them(running: Running) -> None:
    models = {model.id: model.model_dump() for model in running.client.models.list()}
    assert list(models) == ["champion", "second", "acme/tiny"]
    assert models["champion"]["parent"] == "acme/tiny"
    assert len({model["root"] for model in models.values()}) == 3, "contents"


@pytest.mark.parametrize("form", ["json_schema", "json_object"])
def test_a_response_format_is_kept_to(running: Running, form: str) -> None:
    import jsonschema

    schema = SCHEMA if form == "json_schema" else {"type": "object"}
    asked: dict[str, Any] = {"type": form}
    if form == "json_schema":
        asked["json_schema"] = {"name": "answer", "schema": schema, "strict": True}
    for text in QUESTIONS[:3]:
        reply = ask(running.client, text, response_format=asked, max_tokens=300)
        if reply.choices[0].finish_reason == "stop":  # a free object may go on for ever
            jsonschema.validate(json.loads(reply.choices[0].message.content), schema)
        else:
            assert form == "json_object"
    assert last_line(running.log)["guided"] is True


def test_without_a_limit_it_is_the_one_that_was_measured(running: Running) -> None:
    reply = ask(running.client, extra_body={"ignore_eos": True})
    assert (reply.usage.completion_tokens, reply.choices[0].finish_reason) == (LIMIT, "length")
    assert ask(running.client, max_completion_tokens=3, extra_body={"ignore_eos": True}).usage.completion_tokens == 3


# It holds itself, so that no answer has an end.
ENDLESS = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "gpt-9"}, 404, "model_not_found", "The model `gpt-9` does not exist; there are champion, second, acme"),
    ({"n": 2}, 400, "unsupported_parameter", "n is not supported: it would change the answer, and must be 1 or left"),
    ({"logprobs": True}, 400, "unsupported_parameter", "logprobs is not supported"),
    ({"frequency_penalty": 0.5}, 400, "unsupported_parameter", "but got 0.5"),
    ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools is not supported"),
    ({"extra_body": {"guided_json": {}}}, 400, "unsupported_parameter", "guided_json is not supported"),
    ({"temperature": -1}, 400, "invalid_value", "temperature: input should be greater than or equal to 0, but got -1"),
    ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
    ({"messages": []}, 400, "invalid_value", "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, 400, "invalid_value", "messages.0.role"),
    ({"max_tokens": 2000}, 400, "context_length_exceeded", "maximum context length is 1024 tokens"),
    ({"messages": conversation("hat " * 2000)}, 400, "context_length_exceeded", "tokens in the messages"),
    ({"response_format": {"type": "json_schema"}}, 400, None, "needs a json_schema beside it"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "odd"}}}},
        400,
        "invalid_value",
        "nothing can be forced into this schema",
    ),
    ({"response_format": ENDLESS}, 400, "invalid_value", "nothing can be forced into this schema"),
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, 400, "invalid_value", "messages.0.content.0.type: input"),
    ({"extra_body": {"max_tokens": "5"}}, 400, "invalid_value", "max_tokens: input should be a valid integer"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, 400, "invalid_value", "must be the same, but got 3 and 4"),
    ({"max_tokens": 3, "extra_body": {"min_tokens": 4}}, 400, "invalid_value", "at most the tokens of the answer, 3"),
]


@pytest.mark.parametrize(("more", "status", "code", "told"), REFUSED, ids=[str(one[0])[:50] for one in REFUSED])
def test_what_cannot_be_done_is_refused_in_openais_form(
    running: Running, more: dict[str, Any], status: int, code: str | None, told: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(running.client, **more)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert told in caught.value.body["message"], caught.value.body  # type: ignore[call-overload, index]


def test_what_changes_nothing_is_taken(running: Running) -> None:
    neutral: dict[str, Any] = {
        "n": 1,
        "frequency_penalty": 0.0,
        "user": "me",
        "logprobs": False,
        "metadata": {"a": "b"},
        "top_p": 1,
    }
    parts = [{"role": "user", "content": [{"type": "text", "text": "A hat."}]}]
    whole = [{"role": "user", "content": "A hat."}]
    assert ask(running.client, messages=parts, **neutral).choices == ask(running.client, messages=whole).choices


def post(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_an_answer_can_be_sent_back_as_the_client_holds_it(running: Running) -> None:
    said = ask(running.client).choices[0].message
    for held in (said, said.model_dump()):
        turns = [*conversation(QUESTIONS[0]), held, *conversation("Another one.")[1:]]
        assert ask(running.client, messages=turns, max_tokens=3).usage.completion_tokens == 3


def test_a_stream_has_whole_characters_alone(running: Running) -> None:
    word = "😀😀 ünï 漢字"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [word]}}}
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(running.client, response_format=form, stream=True)]
    assert json.loads("".join(pieces)) == word
    assert len(pieces) > 5, "characters of several tokens"
    for stop in ("😀 ", "ï", "字"):
        cut = ask(running.client, response_format=form, stop=stop).choices[0]
        assert cut.message.content == f'"{word}'.partition(stop)[0]
        assert cut.finish_reason == "stop"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "the body is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b"", "not JSON"),
        (b'{"model": "\\ud83d"}', "not JSON"),
    ],
    ids=["cut", "list", "deep", "empty", "half"],
)
def test_a_body_that_is_no_request_is_refused(running: Running, body: bytes, told: str) -> None:
    status, answer = post(running.url, body)
    assert status == 400
    assert told in answer["error"]["message"]


def test_a_place_that_is_not_served_says_what_is(running: Running) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/embeddings is not served; there are POST /v1/chat/com"):
        running.client.embeddings.create(model="champion", input="x")


def test_a_client_that_goes_away_while_it_asks_leaves_no_traceback(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")
    assert ask(running.client, max_tokens=1).choices
    assert "Traceback" not in capfd.readouterr().err


def test_health_and_metrics_are_told(running: Running) -> None:
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=60)
    connection.request("GET", "/health")
    assert json.loads(connection.getresponse().read()) == {"status": "ok"}
    connection.request("GET", "/metrics")
    assert b"podium_requests_answered" in connection.getresponse().read()


def test_the_log_has_a_line_for_each_request(running: Running) -> None:
    before = time.time()
    reply = ask(running.client)
    line = last_line(running.log)
    assert line["id"] == reply.id
    assert before <= line["arrival"] <= time.time()
    assert 0 < line["first_token_s"] <= line["total_s"] <= time.time() - before
    assert line["completion_tokens"] == reply.usage.completion_tokens
    assert (line["status"], line["finish_reason"]) == (200, reply.choices[0].finish_reason)
    with pytest.raises(openai.NotFoundError):
        ask(running.client, model="gone")
    line = last_line(running.log)
    assert (line["status"], line["prompt_tokens"], line["first_token_s"]) == (404, None, None)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_goes_away_ends_its_answer(running: Running, stream: bool) -> None:
    body = {"model": "champion", "messages": conversation("A hat."), "max_tokens": 900, "ignore_eos": True}
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc, timeout=60)
    lines = len(running.log.read_text().splitlines()) if running.log.exists() else 0
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": stream}))
    if stream:
        connection.getresponse().read(50)
    connection.close()
    deadline = time.monotonic() + 20
    while len(running.log.read_text().splitlines()) == lines and time.monotonic() < deadline:
        time.sleep(0.05)
    line = last_line(running.log)
    assert line["status"] == 499
    assert line["completion_tokens"] < 900
    assert line["finish_reason"] is None


def test_a_full_queue_says_when_to_come_back(running: Running) -> None:
    with served(running.bundle, max_batch=1, max_waiting=0) as url:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
        assert ask(client).choices[0].message.content, "there is room"
        busy = ask(client, max_tokens=900, stream=True, extra_body={"ignore_eos": True})
        next(busy)
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client)
        busy.close()
    assert caught.value.response.headers["Retry-After"] == "1"


def test_a_bundle_that_was_measured_guided_answers_so(running: Running) -> None:
    with served(running.bundle, schema=SCHEMA) as url:
        client = openai.OpenAI(base_url=url, api_key="none", timeout=60)
        assert set(json.loads(ask(client).choices[0].message.content)) == {"products"}
        free = ask(client, response_format={"type": "text"}).choices[0].message.content
        assert "products" not in free
