"""Answers: the same one by one and in batches, inside a schema, and with one adapter after another."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from recipes import generation
from recipes.generation import Model, tokens_and_labels, validation_loss
from recipes.schema import Base
from tests.recipes.tiny import chat_rows, make_adapter, make_base, one_thread

PROMPTS = [row[:-1] for row in chat_rows(7)]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["colour", "sizes"],
    "additionalProperties": False,
    "properties": {
        "colour": {"enum": ["red", "dark blue"]},
        "sizes": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "integer", "maximum": 50}},
    },
}

Load = Callable[..., Model]


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [make_adapter(base, tmp_path_factory.mktemp("adapter"), seed) for seed in (1, 2)]


@pytest.fixture
def load(base: Path) -> Load:
    loaded_as = Base(path=str(base), dtype="float32")

    def with_defaults(adapter: Path | None = None, max_new_tokens: int = 12, batch_size: int = 3) -> Model:
        return generation.load(str(base), loaded_as, adapter, max_new_tokens=max_new_tokens, batch_size=batch_size)

    return with_defaults


def alone(model: Model, prompt: list[dict[str, str]]) -> str:
    """What Hugging Face's own generate says to one prompt, without padding and without a mask."""
    text = model.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    ids = model.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = model.network.generate(input_ids=ids, max_new_tokens=model.max_new_tokens, do_sample=False)
    return str(model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def test_batched_answers_are_those_of_generate_one_by_one(load: Load) -> None:
    model = load()
    expected = [alone(model, prompt) for prompt in PROMPTS]
    assert model.answer(PROMPTS) == expected
    assert len(set(expected)) > 1
    assert all(expected)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 50])
def test_the_size_of_a_batch_and_the_order_change_nothing(load: Load, batch_size: int) -> None:
    expected = load(batch_size=3).answer(PROMPTS)
    assert load(batch_size=batch_size).answer(PROMPTS) == expected
    assert load(batch_size=batch_size).answer(PROMPTS[::-1]) == expected[::-1]


def test_progress_counts_up_and_nothing_asked_is_nothing_answered(load: Load) -> None:
    counts: list[int] = []
    load(batch_size=3).answer(PROMPTS, progress=counts.append)
    assert counts == [3, 6, 7]
    assert load().answer([]) == []


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_random_model_is_forced_into_the_schema(load: Load, batch_size: int) -> None:
    answers = load(max_new_tokens=200, batch_size=batch_size).answer(PROMPTS, schema=SCHEMA)
    for answer in answers:
        jsonschema.validate(json.loads(answer), SCHEMA)
    assert answers == load(max_new_tokens=200, batch_size=2).answer(PROMPTS, schema=SCHEMA)
    assert load().answer(PROMPTS) != answers


def test_the_demos_own_schema_holds(load: Load) -> None:
    from recipes.commerce.task import PROPOSAL_SCHEMA

    schema = copy.deepcopy(PROPOSAL_SCHEMA)
    entry = schema["properties"]["proposal"]
    entry["maxItems"] = 1
    entry["items"]["properties"]["explanation"]["maxLength"] = 20
    (answer,) = load(max_new_tokens=900).answer(PROMPTS[:1], schema=schema)
    jsonschema.validate(json.loads(answer), schema)


def test_adapters_take_turns_without_leaving_a_trace(load: Load, adapters: list[Path]) -> None:
    def ask(adapter: Path | None, fresh: bool) -> tuple[list[str], float]:
        if fresh:
            generation._base.cache_clear()
        model = load(adapter)
        return model.answer(PROMPTS), validation_loss(model, chat_rows(3))

    order = [adapters[0], adapters[1], None, adapters[1], adapters[0], None]
    expected = {adapter: ask(adapter, fresh=True) for adapter in [*adapters, None]}
    assert len({answers[0] for answers, _ in expected.values()}) == 3, "each adapter says something of its own"
    assert [ask(adapter, fresh=False) for adapter in order] == [expected[adapter] for adapter in order]
    names = [name for name, _ in load(None).network.named_parameters()]
    assert not any("lora_" in name or "base_layer" in name for name in names)


def test_the_base_is_read_once_for_all_its_adapters(load: Load, adapters: list[Path]) -> None:
    generation._base.cache_clear()
    for adapter in (adapters[0], None, adapters[1]):
        load(adapter)
    assert generation._base.cache_info().misses == 1


CONVERSATION = [
    {"role": "system", "content": "Answer the user."},
    {"role": "user", "content": "A tent?"},
    {"role": "assistant", "content": "Which size?"},
    {"role": "user", "content": "Small."},
    {"role": "assistant", "content": '{"products":["Tent"]}'},
]


def test_the_loss_looks_at_the_assistants_words_and_the_end_of_its_turn_alone(load: Load) -> None:
    tokenizer = load().tokenizer
    ids, labels = tokens_and_labels(tokenizer, CONVERSATION)
    assert ids == tokenizer.apply_chat_template(CONVERSATION, tokenize=True, return_dict=False)
    assert len(labels) == len(ids)
    assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))
    seen = tokenizer.decode([label for label in labels if label != -100])
    assert seen == 'Which size?<|eot_id|>{"products":["Tent"]}<|eot_id|>'


def test_the_loss_is_the_mean_over_those_tokens(load: Load) -> None:
    import torch

    model = load()
    rows = [CONVERSATION, chat_rows(1)[0]]
    total, count = 0.0, 0
    for row in rows:
        ids, labels = tokens_and_labels(model.tokenizer, row)
        with torch.no_grad():
            logs = model.network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        places = [place for place, label in enumerate(labels) if label != -100]
        total -= sum(float(logs[place - 1, ids[place]]) for place in places)
        count += len(places)
    assert validation_loss(model, rows) == pytest.approx(total / count, rel=1e-5)
