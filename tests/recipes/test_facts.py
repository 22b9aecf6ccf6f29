"""What a sweep is told of a recipe."""

import ast
import dataclasses
import json
import math
import re
from pathlib import Path

import pytest

from recipes.compose import compose, typed
from recipes.facts import CHARS_PER_TOKEN, TURN_TOKENS, key_facts, recipe_facts
from recipes.generation import tokens_and_labels
from recipes.schema import TRAINING_GROUPS, Recipe
from sweeps.errors import InvalidInput
from sweeps.facts import KeyFacts
from tests.recipes.tiny import make_base

KEYS = key_facts()


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        ("lora.rank", KeyFacts("int", low=1)),
        ("lora.alpha", KeyFacts("float", low=0, exclusive_low=True)),
        ("lora.dropout", KeyFacts("float", low=0, high=math.nextafter(1, 0))),
        ("lora.targets", KeyFacts("list")),
        ("optimizer.lr", KeyFacts("float", low=0, exclusive_low=True)),
        ("optimizer.name", KeyFacts("str", choices=("adam", "adamw"))),
        ("optimizer.betas", KeyFacts("list")),
        ("schedule.name", KeyFacts("str", choices=("cosine", "linear", "constant"))),
        ("schedule.min_lr_ratio", KeyFacts("float", low=0, high=1)),
        ("schedule.warmup_steps", KeyFacts("int", low=0)),
        ("train.max_steps", KeyFacts("int", low=1)),
        ("train.validation_rows", KeyFacts("int", low=1, optional=True)),
        ("base.quantize", KeyFacts("str", choices=("nf4",), optional=True)),
        ("parallel.sequence_parallel", KeyFacts("bool")),
    ],
)
def test_the_limits_of_a_key_are_those_of_the_schema(key: str, facts: KeyFacts) -> None:
    assert KEYS[key] == facts


def test_every_key_of_a_recipe_is_there_but_its_name() -> None:
    settings = typed(compose("tiny_commerce_sft")).model_dump()
    in_groups = {f"{group}.{key}" for group, block in settings.items() if isinstance(block, dict) for key in block}
    assert set(KEYS) == {*in_groups, "engine", "method"}
    assert set(TRAINING_GROUPS) < set(settings)
    assert not any(facts.kind == "any" for facts in KEYS.values())


def test_the_demos_facts_are_counted() -> None:
    facts, rows = recipe_facts(compose("tiny_commerce_sft"), Path())
    of_layer = "the width of model.layers.0.self_attn.k_proj"
    assert facts.keys == {**KEYS, "lora.rank": dataclasses.replace(KEYS["lora.rank"], high=64, high_is=of_layer)}
    assert facts.train_rows == len(rows.rows["train"])
    assert facts.data_identity == rows.identity
    assert facts.starts == {}
    assert len(facts.base_identity) == 64
    assert facts.settings["optimizer"]["betas"] == [0.9, 0.999]
    assert json.loads(json.dumps(facts.settings)) == facts.settings
    assert facts.sources["tokens_per_row"] == "the base's tokenizer over 200 rows"


def test_parameters_and_tokens_are_those_of_torch_and_the_chat_template(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_base(tmp_path / "base")
    settings = compose("tiny_commerce_sft")
    settings["base"]["path"] = "base"
    facts, rows = recipe_facts(settings, tmp_path)
    network = AutoModelForCausalLM.from_pretrained(folder)
    assert facts.num_parameters == sum(parameter.numel() for parameter in network.parameters())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lengths = [len(tokens_and_labels(tokenizer, row["messages"])[0]) for row in rows.rows["train"][:200]]
    assert facts.tokens_per_row == pytest.approx(sum(lengths) / len(lengths), rel=0.01)


def test_a_base_on_the_hub_is_estimated_and_says_so() -> None:
    facts, rows = recipe_facts(compose("nemotron_nano_8b_sft") | {"data": compose("tiny_commerce_sft")["data"]}, Path())
    assert facts.num_parameters == 8_030_261_248
    assert facts.sources["num_parameters"] == "the recipe's base.num_parameters"
    assert facts.base_identity == "hub:nvidia/Llama-3.1-Nemotron-Nano-8B-v1@main"
    sample = rows.rows["train"][:200]
    chars = sum(len(message["content"]) for row in sample for message in row["messages"])
    assert facts.tokens_per_row == pytest.approx(chars / CHARS_PER_TOKEN / len(sample) + 3 * TURN_TOKENS)
    assert "the base is not local" in facts.sources["tokens_per_row"]


def test_a_row_that_is_too_long_is_told_with_its_length() -> None:
    settings = compose("tiny_commerce_sft")
    facts, rows = recipe_facts(settings, Path())
    settings["data"]["max_tokens"] = 250
    with pytest.raises(InvalidInput) as caught:
        recipe_facts(settings, Path())
    told = re.fullmatch(
        r"data\.max_tokens: (\d+) rows are longer than 250 tokens; the longest, with the question (.+), has (\d+)"
        r" \(set data\.max_tokens to (\d+), or shorten the rows\)",
        str(caught.value),
    )
    assert told
    number, question, tokens, wanted = told.groups()
    assert 0 < int(number) <= 1200
    assert any(
        row["messages"][1]["content"].startswith(ast.literal_eval(question))
        for part in rows.rows.values()
        for row in part
    )
    settings["data"]["max_tokens"] = int(wanted) - 1
    with pytest.raises(InvalidInput):
        recipe_facts(settings, Path())
    settings["data"]["max_tokens"] = int(tokens)
    assert recipe_facts(settings, Path())[0].tokens_per_row == facts.tokens_per_row


def test_facts_are_read_from_the_schema_alone() -> None:
    assert key_facts(Recipe) == KEYS
