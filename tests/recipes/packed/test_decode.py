"""Answers of many adapters at once are those of transformers' own loop, one adapter at a time."""

import json
from pathlib import Path
from typing import Any

import pytest

from recipes import generation
from recipes.engines.packed import decode
from recipes.schema import Base
from tests.recipes.packed.conftest import Bench
from tests.recipes.tiny import chat_rows, make_adapter

PROMPTS = [messages[:-1] for messages in chat_rows(7)]
SCHEMA = {
    "type": "object",
    "required": ["products"],
    "additionalProperties": False,
    "properties": {"products": {"type": "array", "maxItems": 2, "items": {"enum": ["oak", "glass"]}}},
}


@pytest.fixture(scope="module")
def adapters(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[Path | None]:
    folder = tmp_path_factory.mktemp("adapters")
    return [None, *(make_adapter(bench.base, folder / str(seed), seed) for seed in range(4))]


def one_by_one(
    bench: Bench, adapters: list[Path | None], prompts: Any = PROMPTS, schema: Any = None, most: int = 24
) -> list[list[str]]:
    base = Base(path=str(bench.base), dtype="float32")
    return [
        generation.load(str(bench.base), base, folder, max_new_tokens=most, batch_size=4).answer(prompts, schema)
        for folder in adapters
    ]


def together(
    bench: Bench, adapters: list[Path | None], prompts: Any = PROMPTS, schema: Any = None, most: int = 24
) -> list[list[str]]:
    loaded = [decode.load_adapter(bench.network(), folder) for folder in adapters]
    return decode.texts(bench.network(), loaded, prompts, most, schema)


def test_greedy_answers_are_the_same(bench: Bench, adapters: list[Path | None]) -> None:
    answers = together(bench, adapters)
    assert answers == one_by_one(bench, adapters)
    assert len({tuple(rows) for rows in answers}) == len(adapters), "every adapter answers in its own way"


def test_in_small_batches_too(bench: Bench, adapters: list[Path | None], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = together(bench, adapters)
    monkeypatch.setitem(decode.MAX_ROWS, "cpu", 3)
    assert together(bench, adapters) == expected


@pytest.mark.parametrize("ending", [0, 3, 30, 300])
def test_rows_that_end_early_leave_the_batch(
    ending: int, bench: Bench, adapters: list[Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some tokens end an answer, so that answers have lengths of all kinds; each is what came before its end."""
    ids = [
        bench.network().tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        for prompt in PROMPTS
    ]
    loaded = [decode.load_adapter(bench.network(), folder) for folder in adapters]
    monkeypatch.setattr(generation, "end_tokens", lambda network, tokenizer: ())
    whole = decode.answer(bench.network(), loaded, ids, 24)
    ends = {token for rows in whole for row in rows for token in row[2:20:5]} if ending == 0 else set(range(ending))
    monkeypatch.setattr(generation, "end_tokens", lambda network, tokenizer: tuple(ends))
    cut = [[row[: next((n for n, token in enumerate(row) if token in ends), 24)] for row in rows] for rows in whole]
    assert decode.answer(bench.network(), loaded, ids, 24) == cut


def test_prompts_that_share_nothing_and_a_single_one(bench: Bench, adapters: list[Path | None]) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("oak", "A longer question about glass", "?")]
    assert together(bench, adapters, prompts) == one_by_one(bench, adapters, prompts)
    assert together(bench, adapters, prompts[:1]) == one_by_one(bench, adapters, prompts[:1])


def test_a_schema_is_kept_to(bench: Bench, adapters: list[Path | None]) -> None:
    import torch._dynamo

    with torch._dynamo.config.patch(disable=True):  # as workers have it: see launchers.evaluation
        answers = together(bench, adapters, schema=SCHEMA, most=40)
        assert answers == one_by_one(bench, adapters, schema=SCHEMA, most=40)
    for rows in answers:
        for text in rows:
            assert set(json.loads(text)["products"]) <= {"oak", "glass"}
