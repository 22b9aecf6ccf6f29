"""``podium data synthesize`` against a teacher on this machine: provenance, filters, the purse, and going on."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchers.commands.pairs import refuse_existing
from launchers.commands.synthesize import _local, synthesize
from launchers.synthesis import Article, Order, Synthesis, read_articles
from recipes.data.rows import checked_rows, read_jsonl
from recipes.data.stream import read_rows
from sweeps.errors import InvalidInput, ServiceUnreachable
from tests.launchers.running import podium
from tests.production import Production, question, said
from tests.storage import BUCKET, Server
from tracking.meters import endpoint
from tracking.meters.endpoint import Reply
from tracking.meters.gates import load_gate
from tracking.meters.teacher import (
    DEFAULT_TEMPLATE,
    NotAPairError,
    Purse,
    TokenPrices,
    check_template,
    filled,
    pair_schema,
    read_pair,
    teacher,
)

ARTICLES = [Article(f"p{n}", f"title: Tent {n}; price: {n}") for n in range(40)]
Serve = Callable[..., Production]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda reply: stack.enter_context(Production(reply, [{"id": "large"}]))


def writes(body: dict[str, Any]) -> tuple[int, Any]:
    """A teacher that asks for all the products that it sees."""
    seen = [line for line in question(body).splitlines() if line.startswith("- ")]
    pair = {"prompt": f"I want {', '.join(seen)}.", "response": f"Take {seen[0]}."}
    status, answer = said(json.dumps(pair))
    return status, {**answer, "usage": {"prompt_tokens": 100, "completion_tokens": 50}}


def making(url: str, cache: Path | None = None, **more: Any) -> Synthesis:
    told = {"rows": 10, "tries": 20, "products": 2, "template": DEFAULT_TEMPLATE, "system": None, "seed": 0}
    order = Order(**{**told, **{key: value for key, value in more.items() if key in told}}, temperature=0.5)
    form = pair_schema(None)
    model = teacher("large", url, 60, 0.5, form, cache=cache, concurrency=more.get("concurrency", 4), timeout_s=2.0)
    articles = more.get("articles", ARTICLES)
    return Synthesis(model, articles, order, more.get("gates", ()), more.get("prices"), more.get("limit"), form)


def test_rows_say_who_wrote_them_from_what_and_at_what_price(serve: Serve) -> None:
    server = serve(writes)
    found = making(server.url, system="Be kind.", prices=TokenPrices(1.0, 2.0))
    rows = list(found.rows())
    assert len(rows) == 10
    for number, row in enumerate(rows):
        drawn = random.Random(f"0-{number}").sample(ARTICLES, 2)
        told = row["synthesized"]
        assert told["products"] == [one.id for one in drawn]
        assert (told["teacher"], told["served"], told["tokens_in"], told["tokens_out"]) == ("large", "shop-1", 100, 50)
        assert told["usd"] == pytest.approx((100 * 1.0 + 50 * 2.0) / 1e6)
        assert row["messages"][0] == {"role": "system", "content": "Be kind."}
        assert drawn[0].text in row["messages"][1]["content"]
        assert row["group"] == drawn[0].id
    assert len({row["synthesized"]["prompt_sha256"] for row in rows}) == 10
    assert checked_rows(enumerate(rows, start=1), "x") == rows
    assert found.written.usd == pytest.approx(10 * 200 / 1e6)
    body = server.asked[0]
    assert body["temperature"] == 0.5
    assert body["response_format"]["json_schema"]["schema"] == pair_schema(None)


def test_the_same_again_asks_nothing_and_gives_the_same(serve: Serve, tmp_path: Path) -> None:
    server, cache = serve(writes), tmp_path / "replies.jsonl"
    first = list(making(server.url, cache).rows())
    again = making(server.url, cache, prices=TokenPrices(1, 1))
    assert [{**row, "synthesized": 0} for row in again.rows()] == [{**row, "synthesized": 0} for row in first]
    assert len(server.asked) == 10
    assert (again.written.asked, again.written.requests, again.written.usd) == (0, 10, 0)
    assert again.written.usd_before == pytest.approx(10 * 150 / 1e6)
    more = making(server.url, cache, rows=15)
    assert [row["id"] for row in more.rows()][:10] == [row["id"] for row in first]
    assert len(server.asked) == 15


def test_who_is_interrupted_goes_on(serve: Serve, tmp_path: Path) -> None:
    server, cache = serve(writes), tmp_path / "replies.jsonl"
    begun = making(server.url, cache).rows()
    for _ in range(3):
        next(begun)
    del begun  # what was under way is kept
    asked = len(server.asked)
    assert 3 <= asked <= 8
    assert len(list(making(server.url, cache).rows())) == 10
    assert len(server.asked) == 10, "nothing twice"


def test_replies_that_come_in_another_order_give_the_same_rows(serve: Serve) -> None:
    first = threading.Event()

    def slow_first(body: dict[str, Any]) -> tuple[int, Any]:
        if not first.is_set():
            first.set()
            threading.Event().wait(0.3)
        return writes(body)

    rows = list(making(serve(slow_first).url).rows())
    assert rows == list(making(serve(writes).url, concurrency=1).rows())


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_limit_is_never_passed_and_what_is_there_is_written(serve: Serve, concurrency: int) -> None:
    server = serve(writes)
    limit = 0.002  # ten requests at their real price, fewer at the most that each could cost
    found = making(server.url, prices=TokenPrices(1.0, 2.0), limit=limit, rows=100, tries=200, concurrency=concurrency)
    rows = list(found.rows())
    assert found.written.is_at_limit
    assert found.written.ended == "the next request could cost more than is left (--max-usd)"
    assert found.written.usd is not None
    assert found.written.usd == pytest.approx(200 / 1e6 * len(server.asked))
    assert found.written.usd <= limit
    most = Purse(TokenPrices(1.0, 2.0), None, pair_schema(None)).most(server.asked[-1]["messages"], 60)
    assert found.written.usd + most * 1.2 > limit, "it goes on while it can"
    assert len(rows) == len(server.asked) > 3


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60)), max_size=40), st.floats(0, 0.01))
def test_no_server_can_spend_more_than_the_purse_allows(usages: list[tuple[int, int]], limit: float) -> None:
    """Whatever it counts, up to a token a byte and the limit of a reply."""
    prices, message = TokenPrices(3.0, 7.0), [{"role": "user", "content": "x" * 200}]
    purse, truly = Purse(prices, limit, None), 0.0
    for tokens_in, tokens_out in usages:
        most = purse.most(message, 60)
        if not purse.has_room(most):
            break
        usd = purse.cost(Reply("text", tokens_in=tokens_in, tokens_out=tokens_out), most)
        purse.spent += usd
        truly += prices.of(tokens_in, tokens_out)
    assert truly <= limit


def test_a_reply_without_a_count_costs_as_much_as_it_may_have() -> None:
    purse = Purse(TokenPrices(1, 1), None, None)
    assert purse.cost(Reply("text"), 0.5) == 0.5
    assert purse.cost(Reply(None, why="gave nothing"), 0.5) == 0.5
    assert Purse(None, None, None).cost(Reply("text", tokens_in=9), 0.5) == 0


def test_what_is_filtered_is_counted_by_why(serve: Serve, tmp_path: Path) -> None:
    replies = [
        "hello",
        '{"prompt": "x"}',
        '{"prompt": " ", "response": "y"}',
        '{"prompt": "x", "response": 3}',
        '{"prompt": "A", "response": "Buy a gift card."}',
        '{"prompt": "A", "response": "First."}',
        '```json\n{"prompt": "a b", "response": {"products": ["x"]}}\n```',
        '{"prompt": "a  b", "response": "Same prompt."}',
        '{"prompt": "C", "response": "Far too bad."}',
        None,
    ]
    asked: list[int] = []

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        asked.append(1)
        return said(replies[len(asked) - 1])

    (tmp_path / "own.py").write_text("def short(row, answer): return {'short': float('bad' not in answer)}\n")
    gates = [
        (name, load_gate(text, tmp_path))
        for name, text in (("no_gift_card", "no_gift_card"), ("short", "own.py:short"))
    ]
    found = making(serve(reply).url, gates=gates, tries=10, concurrency=1)
    rows = list(found.rows())
    assert [row["messages"][-1]["content"] for row in rows] == ["First.", '{"products":["x"]}']
    assert found.written.filtered == {
        "replies that are no JSON": 1,
        'replies without "prompt" and "response"': 1,
        "replies with an empty prompt or response": 1,
        "replies whose response is neither text nor an object": 1,
        "gate no_gift_card": 1,
        "prompts that are there already": 1,
        "gate short": 1,
        "no reply": 1,
    }
    assert found.written.ended == "10 requests were made, as many as may be (--tries)"
    assert not found.written.is_at_limit


def test_a_teacher_that_refuses_or_falls_silent_ends_it(serve: Serve) -> None:
    with pytest.raises(ServiceUnreachable, match=r"the teacher at .* answers 401"):
        list(making(serve(lambda body: (401, "no key")).url).rows())
    with pytest.raises(ServiceUnreachable, match="gave no reply to 8 requests one after the other"):
        list(making(serve(lambda body: said(None)).url).rows())


def test_a_small_catalogue_is_asked_again_for_something_else(serve: Serve, tmp_path: Path) -> None:
    count: list[int] = []

    def other(body: dict[str, Any]) -> tuple[int, Any]:
        count.append(1)
        return said(json.dumps({"prompt": f"request {len(count)}", "response": "Yes."}))

    server, cache = serve(other), tmp_path / "replies.jsonl"
    few = {"articles": ARTICLES[:2], "rows": 6, "concurrency": 1}
    rows = list(making(server.url, cache, **few).rows())
    assert len(rows) == 6
    assert list(making(server.url, cache, **few).rows()) == rows
    assert len(server.asked) == 6


def test_a_response_may_have_a_schema_with_references() -> None:
    import jsonschema

    inner = {"$schema": "x", "$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "required": ["n"]}}}
    schema = pair_schema(inner)
    jsonschema.validate({"prompt": "x", "response": {"n": 1}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"prompt": "x", "response": {}}, schema)
    assert pair_schema(None)["properties"]["response"] == {"type": "string"}


def test_a_template_is_filled_and_its_other_braces_stay() -> None:
    assert filled('{"a": {products}} {number}', ["x", "y {products}"], 3) == '{"a": - x\n- y {products}} 3'
    with pytest.raises(InvalidInput, match=r"the template has no {products}, so every request would be the same"):
        check_template("Write something.", "--template")


def test_a_pair_may_stand_in_a_fence() -> None:
    assert read_pair('```json\n{"prompt": " a ", "response": " b "}\n```') == ("a", "b")
    with pytest.raises(NotAPairError):
        read_pair("```\nhello\n```")


def test_a_catalogue_is_any_table(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("id,title,price\na,Tent,3\nb,Mug,\n")
    assert read_articles(tmp_path / "shop.csv", "CATALOGUE", None, ()) == [
        Article("a", "title: Tent; price: 3"),
        Article("b", "title: Mug"),
    ]
    assert read_articles(tmp_path / "shop.csv", "CATALOGUE", "title", ["price"]) == [Article("Tent", "price: 3")]
    (tmp_path / "shop.jsonl").write_text('{"name": "Tent", "tags": ["x"]}\n{"name": "Mug"}\n')
    found = read_articles(tmp_path / "shop.jsonl", "CATALOGUE", None, ())
    assert [one.id for one in found] == ["row 1", "row 2"]
    assert found[0].text == 'name: Tent; tags: ["x"]'


def test_a_catalogue_in_object_storage_is_read_by_its_ending(server: Server, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path))
    server.put("shop/products.csv", b"id,title\na,Tent\n")
    with _local(f"s3://{BUCKET}/shop/products.csv") as path:
        assert read_articles(path, "CATALOGUE", None, ()) == [Article("a", "title: Tent")]


def test_the_command_asks_writes_and_stops_at_its_limit(serve: Serve, tmp_path: Path) -> None:
    server = serve(writes)
    (tmp_path / "shop.csv").write_text("id,title\n" + "".join(f"p{n},Tent {n}\n" for n in range(30)))
    arguments = [str(tmp_path / "shop.csv"), "--endpoint", server.url, "--gate", "no_gift_card", "-o", "json"]
    prices = ["--price-in", "1", "--price-out", "2", "--max-usd", "0.012", "--max-tokens", "60"]
    run = podium(tmp_path, "data", "synthesize", *arguments, *prices, "-n", "12", "--to", str(tmp_path / "a.jsonl"))
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["rows"], told["asked"], told["teacher"], told["ended"]) == (12, 12, "large", None)
    rows = checked_rows(read_jsonl(tmp_path / "a.jsonl"), "a")
    assert len(rows) == 12
    run = podium(tmp_path, "data", "synthesize", *arguments, *prices, "-n", "500", "--to", str(tmp_path / "b.parquet"))
    assert run.returncode == 4, run.stderr
    told = json.loads(run.stdout)
    assert told["kept"] == 12
    assert 12 < told["rows"] < 500
    assert told["usd"] + told["usd_before"] <= 0.012
    assert "the next request could cost more than is left (--max-usd)" in run.stderr


def test_without_an_endpoint_the_demo_writes(tmp_path: Path) -> None:
    run = podium(
        tmp_path, "data", "synthesize", "-n", "30", "--seed", "4", "--to", str(tmp_path / "a.jsonl"), probe=True
    )
    assert run.returncode == 0, run.stderr
    rows = checked_rows(read_jsonl(tmp_path / "a.jsonl"), "a")
    assert len(rows) == 30
    assert all(row["synthesized"] == {"teacher": "the demo's generator", "seed": 4} for row in rows)
    assert run.stderr.endswith("LOADED []\n")


def test_the_demo_writes_a_table_too(tmp_path: Path) -> None:
    synthesize(to=str(tmp_path / "a.parquet"), rows=30)
    assert len(checked_rows(read_rows(str(tmp_path / "a.parquet")), "a")) == 30


def test_a_target_in_object_storage_is_not_overwritten(server: Server) -> None:
    server.put("rows/a.jsonl", b"{}")
    with pytest.raises(InvalidInput, match=r"--to: s3://.*/rows/a.jsonl is there already, and is not overwritten"):
        refuse_existing(f"s3://{BUCKET}/rows/a.jsonl")
    server.put("rows/b.jsonl.old", b"{}")
    refuse_existing(f"s3://{BUCKET}/rows/b.jsonl")
    with pytest.raises(InvalidInput, match=r"--to: a\.csv is neither JSONL nor Parquet"):
        refuse_existing(f"s3://{BUCKET}/rows/a.csv")


def test_the_key_is_sent_where_the_model_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "secret")
    (tmp_path / "shop.csv").write_text("id,title\n" + "".join(f"p{n},Tent {n}\n" for n in range(5)))
    asked: list[Any] = []

    def models(url: str, headers: dict[str, str]) -> list[Any]:
        asked.append(headers)
        return []

    monkeypatch.setattr(endpoint, "_models", models)
    to = str(tmp_path / "a.jsonl")
    with pytest.raises(InvalidInput, match="must name one of the models"):
        synthesize(str(tmp_path / "shop.csv"), to, endpoint="http://127.0.0.1:9/v1", api_key_env="TEACHER_KEY")
    assert asked == [{"Authorization": "Bearer secret"}]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["SHOP"], 2, "CATALOGUE: without a teacher, rows are made by the demo's generator alone"),
        (["--endpoint", "http://127.0.0.1:9/v1"], 2, "CATALOGUE: a teacher writes about products, and none are given"),
        (["SHOP", "--endpoint", "127.0.0.1:9"], 2, "--endpoint: must be a URL, but got '127.0.0.1:9'"),
        (["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m"], 5, "the teacher at http://127.0.0.1:9/v1"),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--max-usd", "1"],
            2,
            "a limit in dollars needs the teacher's prices",
        ),
        (["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--price-in", "1"], 2, "--price-out: both prices are needed"),
        (["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--gate", "no_gift_cards"], 2, 'did you mean "no_gift_card"?'),
        (["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--gate", "safety"], 2, "(give --forbidden)"),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--schema", "gone.json"],
            2,
            "--schema: no such file: gone.json",
        ),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--template", "HERE/plain.txt"],
            2,
            "the template has no {products}",
        ),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--schema", "HERE/true.json"],
            2,
            "true.json holds true, not an object",
        ),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--schema", "HERE/five.json"],
            2,
            "five.json: not a JSON schema: 5 is no object",
        ),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--columns", "titel", "--model", "m"],
            2,
            'did you mean "title"?',
        ),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--products", "9", "--model", "m"],
            2,
            "fewer than the 9 of one request",
        ),
        (
            ["SHOP", "--endpoint", "http://127.0.0.1:9/v1", "--api-key-env", "NOPE_KEY", "--model", "m"],
            2,
            "no NOPE_KEY",
        ),
        (
            [
                "SHOP",
                "--endpoint",
                "http://127.0.0.1:9/v1",
                "--model",
                "m",
                "--price-in",
                "9",
                "--price-out",
                "9",
                "--max-usd",
                "0.001",
            ],
            2,
            "--max-usd: no row came of 0 requests: the next request could cost more than is left (--max-usd)",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_told(tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    (tmp_path / "shop.csv").write_text("id,title\na,Tent\nb,Mug\nc,Pan\n")
    (tmp_path / "plain.txt").write_text("Write something.")
    (tmp_path / "true.json").write_text("true")
    (tmp_path / "five.json").write_text("5")
    words = [word.replace("SHOP", str(tmp_path / "shop.csv")).replace("HERE", str(tmp_path)) for word in arguments]
    more = ["--timeout", "0.2"] if code == 5 else []
    run = podium(tmp_path, "data", "synthesize", *words, *more, "--to", str(tmp_path / "new.jsonl"))
    assert run.returncode == code, run.stderr
    assert told in run.stderr, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    assert not list(tmp_path.glob("*new*"))


def spent(server: Production) -> float:
    """What all that was sent cost, at the prices and counts of these tests."""
    return 200 / 1e6 * len(server.asked)


def test_the_same_again_never_passes_the_limit_either(serve: Serve, tmp_path: Path) -> None:
    """Kept replies count before new requests are sent, also those that stand behind one that was lost."""
    server, cache = serve(writes), tmp_path / "replies.jsonl"
    priced: dict[str, Any] = {"prices": TokenPrices(1.0, 2.0), "rows": 100, "tries": 200}
    silent = [3]  # requests that are answered with nothing that can be read

    def flaky(body: dict[str, Any]) -> tuple[int, Any]:
        return (200, "hello") if len(server.asked) in silent else writes(body)

    server.reply = flaky
    list(making(server.url, cache, limit=0.003, **priced).rows())
    silent.clear()
    for _ in range(3):
        again = making(server.url, cache, limit=0.003, **priced)
        list(again.rows())
        assert spent(server) <= 0.003
    assert again.written.asked == 0


@pytest.mark.parametrize("lost", ["hello", "silence", "504", "no text"])
def test_what_may_have_been_paid_for_is_sent_once_and_stays_counted(serve: Serve, tmp_path: Path, lost: str) -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        if lost == "silence":
            threading.Event().wait(0.4)
        return {"hello": (200, "hello"), "504": (504, "later"), "no text": said(None)}.get(lost, (200, "late"))

    server, cache = serve(reply), tmp_path / "replies.jsonl"
    form = pair_schema(None)
    prices = TokenPrices(1.0, 2.0)

    def run(tries: int, limit: float | None = None) -> Synthesis:
        model = teacher("large", server.url, 60, 0.5, form, cache=cache, concurrency=1, timeout_s=0.2)
        order = Order(5, tries, 2, DEFAULT_TEMPLATE, None, 0, 0.5)
        return Synthesis(model, ARTICLES, order, (), prices, limit, form)

    first = run(1)
    assert list(first.rows()) == []
    assert len(server.asked) == 1
    most = first.written.usd
    assert most
    second = run(1, limit=1.9 * most)
    assert list(second.rows()) == []
    assert len(server.asked) == 1, "a second time could pass the limit"
    third = run(1, limit=2.1 * most)
    assert list(third.rows()) == []
    assert third.written.usd == pytest.approx(most)
    assert third.written.usd_before == pytest.approx(most)


def test_what_is_refused_costs_nothing_and_is_asked_again(serve: Serve) -> None:
    tries = iter([(429, "busy")])
    server = serve(lambda body: next(tries, None) or writes(body))
    found = making(server.url, prices=TokenPrices(1.0, 2.0), limit=0.01, rows=1, tries=1)
    assert len(list(found.rows())) == 1
    assert len(server.asked) == 2
    assert found.written.usd == pytest.approx(200 / 1e6)
