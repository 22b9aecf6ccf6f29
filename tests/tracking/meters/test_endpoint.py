"""A served model against a local server that plays production: patience, what is kept, and what counts as missing."""

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import InvalidInput, ServiceUnreachable
from tests.production import Production, Reply, question, said
from tracking.meters.endpoint import ServedModel

Serve = Callable[..., Production]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda reply, *rest, **more: stack.enter_context(Production(reply, *rest, **more))


def asks(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}] for text in texts]


def echo(body: dict[str, Any]) -> tuple[int, Any]:
    return said(f" {question(body)}! ")


def first(times: int, answer: tuple[int, Any]) -> Reply:
    """Every question is answered so at first, and well when it was asked so often."""
    seen: Counter[str] = Counter()

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        seen[question(body)] += 1
        return answer if seen[question(body)] <= times else echo(body)

    return reply


def test_answers_are_greedy_in_order_and_no_longer_than_the_recipes(serve: Serve) -> None:
    server = serve(echo)
    model = ServedModel("shop", server.url, 33, concurrency=4)
    answers = model.answer_all(asks(*"abcdefgh"), 0.0)
    assert answers.texts == [f"{letter}!" for letter in "abcdefgh"]
    assert answers.missing == {}
    assert (answers.asked, answers.tokens_in, answers.tokens_out, answers.served) == (8, 56, 24, ("shop-1",))
    for body in server.asked:
        assert body["path"] == "/v1/chat/completions"
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("shop", 0, 33)
        assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_equal_questions_are_asked_once(serve: Serve) -> None:
    server = serve(echo)
    assert ServedModel("shop", server.url, 9).answer_all(asks("a", "b", "a"), 0.0).texts == ["a!", "b!", "a!"]
    assert sorted(server.questions) == ["a", "b"]


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    whole = json.dumps(said("a!")[1]).encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve_twice() -> None:
            for body in (whole[:9], whole):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(whole)}\r\n\r\n"
                    connection.sendall(head.encode() + body)

        thread = threading.Thread(target=serve_twice)
        thread.start()
        answers = ServedModel("shop", f"http://127.0.0.1:{listener.getsockname()[1]}/v1", 9).answer_all(asks("a"), 0.0)
        thread.join(20)
    assert (answers.texts, answers.missing) == (["a!"], {})


def test_no_more_at_once_than_may_be(serve: Serve) -> None:
    def slow(body: dict[str, Any]) -> tuple[int, Any]:
        time.sleep(0.1)
        return echo(body)

    server = serve(slow)
    ServedModel("shop", server.url, 9, concurrency=3).answer_all(asks(*"abcdefghij"), 0.0)
    assert server.most_at_once == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(serve: Serve, status: int) -> None:
    server = serve(first(1, (status, "busy")))
    assert ServedModel("shop", server.url, 9).answer_all(asks("a", "b"), 0.0).texts == ["a!", "b!"]
    assert Counter(server.questions) == {"a": 2, "b": 2}


def test_the_pause_that_a_server_asks_for_is_kept(serve: Serve) -> None:
    server = serve(first(1, (429, "slow down")), headers={"Retry-After": "2"})
    assert ServedModel("shop", server.url, 9).answer_all(asks("a"), 0.0).texts == ["a!"]
    assert server.times[1] - server.times[0] >= 1.9


def test_what_fails_for_good_is_missing_and_no_empty_answer(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda body: (400, "too long") if question(body) == "b" else echo(body))
    model = ServedModel("shop", server.url, 9, cache=tmp_path / "answers.jsonl")
    answers = model.answer_all(asks("a", "b", "c", "d"), 0.25)
    assert answers.texts == ["a!", None, "c!", "d!"]
    assert list(answers.missing) == [1]
    assert "answers 400 Bad Request: too long" in answers.missing[1]
    assert answers.tokens_in == 21
    assert Counter(server.questions)["b"] == 1, "it would be refused again"
    # It is asked once more the next time: only what was answered is kept.
    assert model.answer_all(asks("a", "b", "c", "d"), 0.25).asked == 1


def test_an_empty_text_is_an_answer_and_none_is_not(serve: Serve) -> None:
    server = serve(lambda body: said("" if question(body) == "a" else None, finish="length"))
    answers = ServedModel("shop", server.url, 9).answer_all(asks("a", "b"), 0.5)
    assert answers.texts == ["", None]
    assert answers.missing == {1: "answered without a text (finish_reason 'length')"}


def test_with_too_many_missing_it_gives_up_and_keeps_what_came(serve: Serve, tmp_path: Path) -> None:
    good = asks(*(f"q{number}" for number in range(18)))
    server = serve(lambda body: (400, "no") if question(body).startswith("bad") else echo(body))
    model = ServedModel("shop", server.url, 9, concurrency=1, cache=tmp_path / "answers.jsonl")
    assert model.answer_all([*good, *asks("bad")], 0.06).texts[-1] is None
    with pytest.raises(ServiceUnreachable, match=r"no answer to 2 of 20 items, more than 6 %: it answers 400"):
        model.answer_all([*good, *asks("bad", "bad too")], 0.06)
    server.reply = echo
    again = ServedModel("shop", server.url, 9, cache=tmp_path / "answers.jsonl")
    answers = again.answer_all([*good, *asks("bad", "bad too")], 0.06)
    assert answers.asked == 2
    assert None not in answers.texts


@pytest.mark.parametrize(("status", "words"), [(401, "Unauthorized"), (404, "Not Found")])
def test_what_holds_for_every_request_is_asked_no_further(serve: Serve, status: int, words: str) -> None:
    server = serve(lambda body: (status, "who are you?"))
    model = ServedModel("shop", server.url, 9, concurrency=1)
    with pytest.raises(ServiceUnreachable, match=rf"answers {status} {words}: who are you\?"):
        model.answer_all(asks(*"abcdefgh"), 0.9)
    assert len(server.asked) == 1


def test_one_that_hangs_is_missing_after_its_patience(serve: Serve) -> None:
    server = serve(echo)
    server.reply = lambda body: server.hang(body) if question(body) == "b" else echo(body)
    began = time.monotonic()
    answers = ServedModel("shop", server.url, 9, timeout_s=0.3).answer_all(asks("a", "b"), 0.5)
    assert answers.texts == ["a!", None]
    assert "gave no answer within 1.2 s" in answers.missing[1]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "answer", ["<html>hello</html>", "{}", '{"choices": []}', "[1]", '{"choices": [{"message": 3}]}']
)
def test_what_is_no_chat_completion_is_asked_for_once_more(serve: Serve, answer: str) -> None:
    server = serve(first(1, (200, answer)))
    assert ServedModel("shop", server.url, 9).answer_all(asks("a"), 0.0).texts == ["a!"]
    server = serve(lambda body: (200, answer))
    with pytest.raises(ServiceUnreachable, match="answers, but not with a chat completion"):
        ServedModel("shop", server.url, 9).answer_all(asks("a"), 0.0)
    assert len(server.asked) == 2


def test_the_limit_by_its_newer_name(serve: Serve) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if "max_tokens" in body:
            return 400, {"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}
        return echo(body)

    server = serve(reply)
    model = ServedModel("shop", server.url, 9)
    assert model.probe()["model"] == "shop-1"
    assert model.answer_all(asks("a", "b"), 0.0).texts == ["a!", "b!"]
    assert [("max_tokens" in body, body.get("max_completion_tokens")) for body in server.asked] == [
        (True, None),
        (False, 9),
        (False, 9),
        (False, 9),
    ]


def test_another_model_identity_or_length_is_asked_anew(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    cache = tmp_path / "answers.jsonl"

    def asked(model: str = "shop", tokens: int = 9, **more: Any) -> int:
        return ServedModel(model, server.url, tokens, cache=cache, **more).answer_all(asks("a"), 0.0).asked

    assert [asked(), asked()] == [1, 0]
    assert asked(concurrency=2, timeout_s=9.0) == 0
    assert [asked(model="other"), asked(tokens=10), asked(identity=["v2", None])] == [1, 1, 1]


def test_a_cache_that_is_torn_in_the_middle_costs_one_answer(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    cache = tmp_path / "answers.jsonl"
    ServedModel("shop", server.url, 9, concurrency=1, cache=cache).answer_all(asks(*"abcd"), 0.0)
    lines = cache.read_text().splitlines()
    assert len(lines) == 4
    cache.write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]) + "\n")
    answers = ServedModel("shop", server.url, 9, cache=cache).answer_all(asks(*"abcd"), 0.0)
    assert answers.asked == 1
    assert answers.texts == ["a!", "b!", "c!", "d!"]


def test_timed_answers_are_always_asked_for(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    model = ServedModel("shop", server.url, 9, cache=tmp_path / "answers.jsonl")
    model.answer_all(asks("a"), 0.0)
    assert model.answer(asks("a")) == ["a!"]
    assert len(server.asked) == 2
    server.reply = lambda body: (400, "no")
    with pytest.raises(ServiceUnreachable, match="answers 400"):
        model.answer(asks("a"))


def test_the_probe_says_what_stands_behind_a_name(serve: Serve) -> None:
    models = [{"id": "other", "root": "x"}, {"id": "shop", "root": "/models/shop-v3", "parent": None, "created": 1}]
    server = serve(lambda body: said("Hi.", "shop-2026-05"), models=models)
    assert ServedModel("shop", server.url, 9).probe() == {"model": "shop-2026-05", "root": "/models/shop-v3"}
    assert server.asked[0]["max_tokens"] == 9
    assert ServedModel("shop", serve(echo).url, 300).probe() == {"model": "shop-1"}


def test_a_probe_waits_for_a_busy_server(serve: Serve) -> None:
    assert ServedModel("shop", serve(first(1, (503, "loading"))).url, 9).probe() == {"model": "shop-1"}


def test_a_key_is_sent_where_one_is_named_and_must_be_there(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(echo)
    monkeypatch.setenv("OPENAI_API_KEY", "another service's")
    monkeypatch.setenv("SHOP_KEY", "sesame")
    ServedModel("shop", server.url, 9).probe()
    ServedModel("shop", server.url, 9, api_key_env="SHOP_KEY").probe()
    assert server.keys == [None, "Bearer sesame"]
    with pytest.raises(InvalidInput, match="the environment has no NOT_SET"):
        ServedModel("shop", server.url, 9, api_key_env="NOT_SET")


def test_a_probe_of_what_cannot_be_asked(serve: Serve) -> None:
    def told(url: str) -> str:
        with pytest.raises(ServiceUnreachable) as caught:
            ServedModel("shop", url, 9, timeout_s=0.5).probe()
        return str(caught.value)

    assert "does not answer: [Errno 111] Connection refused" in told("http://127.0.0.1:9/v1")
    server = serve(echo)
    server.reply = server.hang
    assert "no answer within 0.5 s (evaluate.incumbent.timeout)" in told(server.url)
    assert "answers 404 Not Found: no such model" in told(serve(lambda body: (404, "no such model")).url)
    assert "answers, but not with a chat completion" in told(serve(lambda body: (200, "hello")).url)
    assert "answers 429" in told(serve(lambda body: (429, "later")).url)


def test_what_came_before_a_kill_is_not_asked_again(serve: Serve, tmp_path: Path) -> None:
    """Answers are on the disk as they come: here, while the call that asks for them has not returned."""
    server = serve(echo)
    server.reply = lambda body: server.hang(body) if question(body) == "z" else echo(body)
    cache = tmp_path / "answers.jsonl"
    asking = ServedModel("shop", server.url, 9, cache=cache)
    threading.Thread(target=asking.answer_all, args=(asks(*"abcz"), 0.5), daemon=True).start()
    deadline = time.monotonic() + 10
    while (not cache.exists() or cache.read_bytes().count(b"\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    server.reply = echo
    answers = ServedModel("shop", server.url, 9, cache=cache).answer_all(asks(*"abcz"), 0.0)
    assert answers.asked == 1
    assert answers.texts == ["a!", "b!", "c!", "z!"]
