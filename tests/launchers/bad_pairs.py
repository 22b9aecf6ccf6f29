"""What can be wrong with preference pairs, chat logs and teachers; see ``bad_cases.py``."""

import json
from typing import Any

from tests.launchers.stage import ROWS, Arrange, Case, Stage, plan

RANKS = "rank 0 is the preferred answer, rank 1 the rejected one"
DPO = "set.method=dpo"
PAIRS = "".join(
    json.dumps({"prompt": f"Where is order {n}?", "chosen": "On its way.", "rejected": "No idea."}) + "\n"
    for n in range(60)
)
_AT = "line 61: {here}/rows.jsonl: "


def pair(*rows: Any) -> Arrange:
    """The data are pairs, with these rows at their end, from line 61 on."""
    return lambda stage: stage.write("rows.jsonl", PAIRS + "".join(json.dumps(row) + "\n" for row in rows))


def ranked(*ranks: int) -> dict[str, Any]:
    """A prompt with ranked responses."""
    return {"prompt": "x", "responses": [{"response": f"answer {n}", "rank": rank} for n, rank in enumerate(ranks)]}


def compared(chosen: Any, rejected: Any) -> dict[str, Any]:
    """A prompt with two answers."""
    return {"prompt": "x", "chosen": chosen, "rejected": rejected}


def data(what: str, arguments: tuple[str, ...], message: str, way_out: str, name: str = "", content: str = "") -> Case:
    """A case of ``podium data``, with a file of this content in the folder."""

    def arrange(stage: Stage) -> None:
        if name:
            stage.write(name, content)

    return Case(what, message, way_out, ("data", *arguments, "--to", "{here}/new.jsonl"), arrange=arrange)


_LEAK = [{"prompt": f"Order {n % 30}?", "chosen": "Yes.", "rejected": f"No {n}.", "side": n} for n in range(120)]

PAIRS_AND_LOGS: tuple[Case, ...] = (
    plan(
        "Both responses have rank 0",
        DPO,
        f"{_AT}responses must have the ranks 0 and 1 once each, got 0, 0",
        RANKS,
        pair(ranked(0, 0)),
    ),
    plan(
        "There are three of them",
        DPO,
        f"{_AT}responses must have the ranks 0 and 1 once each, got 0, 1, 1",
        RANKS,
        pair(ranked(0, 1, 1)),
    ),
    plan("A third rank", DPO, f"{_AT}responses[2].rank must be 0 or 1, got 2", RANKS, pair(ranked(0, 1, 2))),
    plan(
        "A response in a row of its own has no partner",
        DPO,
        f"{_AT}no row has rank 1 for the same prompt, only rank 0 is there",
        RANKS,
        pair({"prompt": "x", "response": "a", "rank": 0}),
    ),
    plan(
        "The chosen answer is empty",
        DPO,
        f"{_AT}chosen is empty",
        "a pair needs two answers with something in them",
        pair(compared(" ", "b")),
    ),
    plan(
        "Both answers are the same, as JSON",
        DPO,
        f'{_AT}chosen and rejected are the same but for spaces and the order of keys: \'{{"a":1,"b":2}}\'',
        "a pair needs two different answers",
        pair(compared({"a": 1, "b": 2}, '{"b": 2, "a": 1}')),
    ),
    plan(
        "They answer different prompts",
        DPO,
        f"{_AT}rejected is not an answer to the same prompt: it parts from chosen at messages[0]",
        "chosen and rejected must repeat the prompt word for word, or hold the answer alone",
        pair(
            {
                name: [{"role": "user", "content": asked}, {"role": "assistant", "content": name}]
                for name, asked in (("chosen", "a"), ("rejected", "b"))
            }
        ),
    ),
    plan(
        "A pair and its reverse",
        DPO,
        "line 62: {here}/rows.jsonl: the answer that is rejected here is preferred to the chosen one in line 61, "
        "for the same prompt",
        "leave one of them out",
        pair(compared("a", "b"), compared("b", "a")),
    ),
    plan(
        "A cycle of three",
        DPO,
        "line 63: {here}/rows.jsonl: a cycle: with the pairs of lines 61, 62, each answer to this prompt is "
        "preferred to itself",
        "leave one of them out",
        pair(compared("a", "b"), compared("b", "c"), compared("c", "a")),
    ),
    plan(
        "A prompt that is also in the challenge set",
        (DPO, "set.data.group=side"),
        "the prompt 'Order 0?' is in the train set and also in the challenge set",
        "give all rows of a prompt one group, or leave data.group out",
        lambda stage: stage.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in _LEAK)),
    ),
    plan(
        "Rows of one answer for `method: dpo`",
        DPO,
        "line 1: {here}/rows.jsonl: a row of one answer, but method dpo learns from pairs",
        "write prompt, chosen and rejected, or ranked responses; or set method: sft",
        lambda stage: stage.write("rows.jsonl", ROWS),
    ),
    plan(
        "Pairs for `method: sft`",
        (),
        "line 1: {here}/rows.jsonl: a preference pair, but method sft learns from rows of one answer",
        "set method: dpo, or leave the rejected answers out",
        pair(),
    ),
    data(
        "A log of another form",
        ("import", "chat", "{here}/log.jsonl", "--no-redact"),
        "line 1: {here}/log.jsonl: neither a conversation nor a request with its response: it has answer, question",
        'a line is {"messages": […]}, or {"request": {"messages": […]}, "response": {"choices": […]}}',
        "log.jsonl",
        '{"question": "a", "answer": "b"}\n',
    ),
    data(
        "There is no such log",
        ("import", "chat", "{here}/none.jsonl", "--no-redact"),
        "LOG: no such file: {here}/none.jsonl",
        "a relative path is taken from the folder that you are in",
    ),
    data(
        "A log in which nothing was answered",
        ("import", "chat", "{here}/log.jsonl", "--no-redact"),
        "LOG: {here}/log.jsonl gave no row: 1 conversations without an answer",
        "",
        "log.jsonl",
        '{"messages": [{"role": "user", "content": "a"}]}\n',
    ),
    data(
        "A catalogue without a teacher",
        ("synthesize", "{here}/shop.csv"),
        "CATALOGUE: without a teacher, rows are made by the demo's generator alone, which has its own catalogue",
        "name the teacher with --endpoint, or leave it out",
        "shop.csv",
        "id,title\na,Tent\n",
    ),
    data(
        "A limit in dollars without prices",
        ("synthesize", "{here}/shop.csv", "--endpoint", "http://127.0.0.1:9/v1", "--max-usd", "5"),
        "--max-usd: a limit in dollars needs the teacher's prices",
        "give --price-in and --price-out, US$ per million tokens",
        "shop.csv",
        "id,title\na,Tent\n",
    ),
    data(
        "A template that asks for no products",
        (
            "synthesize",
            "{here}/shop.csv",
            "--endpoint",
            "http://127.0.0.1:9/v1",
            "--template",
            "{here}/shop.csv",
        ),
        "--template: the template has no {products}, so every request would be the same",
        "write {products} where the products are to stand, one a line",
        "shop.csv",
        "id,title\na,Tent\n",
    ),
    data(
        "No sweep whose model could answer",
        ("pairs", "gone"),
        'sweep: no sweep is called "gone"',
        "",
    ),
)
