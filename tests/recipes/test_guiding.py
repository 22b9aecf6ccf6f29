"""Guided answers: whatever a model would rather say, the answer is valid, and whole within its limit."""

import json
from functools import cache
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.bases import locate
from recipes.commerce.task import PROPOSAL_SCHEMA
from recipes.guiding import guides
from recipes.schema import Base
from recipes.serving.asking import Sampling
from recipes.serving.choosing import Chooser
from tests.launchers.running import ROOT

NAMED = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a shirt", "two socks"]},
        "size": {"type": "integer"},
        "code": {"type": "string", "minLength": 3, "maxLength": 40},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
    },
    "required": ["kind", "size", "code", "tags"],
    "additionalProperties": False,
}
NESTED = {
    "$defs": {"node": {"type": "object", "properties": {"in": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}},
    "$ref": "#/$defs/node",
}
PART = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, **{name: {"type": "integer"} for name in "abcdefg"}},
    "required": ["reason", *"abcdefg"],
    "additionalProperties": False,
}
# Nothing of it must be there, and what is begun takes many tokens.
OPTIONAL = {"type": "object", "properties": {"items": {"type": "array", "items": PART}}, "additionalProperties": False}
UNEVEN = {"type": "array", "items": {"enum": ["a", "a very long name of a thing that nobody would ever want to write"]}}
SCHEMAS: dict[str, dict[str, Any]] = {
    "proposal": PROPOSAL_SCHEMA,
    "named": NAMED,
    "nested": NESTED,
    "any": {},
    "optional": OPTIONAL,
    "uneven": UNEVEN,
    "number": {"type": "number"},
}


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(locate(Base(path="builtin:tiny_commerce"), ROOT))


def babble(schema: dict[str, Any], limit: int, seed: int, loud: float, padded: int = 0) -> tuple[str, int]:
    """What a model that says anything answers under guidance, and its number of tokens."""
    guide, words = guides(tokenizer(), schema, limit)(), tokenizer()
    draw = torch.Generator().manual_seed(seed)
    said: list[int] = []
    while len(said) < limit:
        scores = loud * torch.randn(1, len(words) + padded, generator=draw)
        guide.mask(scores)
        token = int(scores.argmax())
        if token == words.eos_token_id:
            break
        said.append(token)
        guide.take(token)
    assert guide.error is None
    return words.decode(said), len(said)


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=8)
@given(limit=st.integers(48, 160), seed=st.integers(0, 10**6))
def test_every_answer_is_valid_within_its_limit(name: str, limit: int, seed: int) -> None:
    text, _ = babble(SCHEMAS[name], limit, seed, loud=3.0)
    jsonschema.validate(json.loads(text), SCHEMAS[name])


@pytest.mark.parametrize("seed", range(10))
def test_drawn_answers_too(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    chooser = Chooser(
        Sampling(60, temperature=1.0, seed=seed), (tokenizer().eos_token_id,), guides(tokenizer(), OPTIONAL, 60)()
    )
    said: list[int] = []
    while len(said) < 60 and not chooser.is_complete:
        said.append(chooser.choose(3.0 * torch.randn(1, len(tokenizer()), generator=generator)))
    jsonschema.validate(json.loads(tokenizer().decode(said, skip_special_tokens=True)), OPTIONAL)


def test_the_limit_may_be_as_short_as_the_shortest_answer() -> None:
    shortest = next(limit for limit in range(1, 100) if is_json(babble(PROPOSAL_SCHEMA, limit, 0, 3.0)[0]))
    for seed in range(20):
        text, used = babble(PROPOSAL_SCHEMA, shortest, seed, 3.0)
        jsonschema.validate(json.loads(text), PROPOSAL_SCHEMA)
        assert used <= shortest


def test_an_answer_that_ends_in_time_is_not_touched() -> None:
    wanted = json.dumps(
        {"proposal": [{"category": "Tents", "explanation": "For a trip.", "products": ["Oak Tent", "tents"]}]},
        separators=(",", ":"),
    )
    ids = tokenizer().encode(wanted, add_special_tokens=False)
    for limit in (len(ids) + 20, 500):
        guide = guides(tokenizer(), PROPOSAL_SCHEMA, limit)()
        for token in ids:
            scores = torch.zeros(1, len(tokenizer()))
            scores[0, token] = 9.0
            guide.mask(scores)
            assert int(scores.argmax()) == token
            guide.take(token)
        assert guide.is_complete


def test_one_long_text_ends_in_time_too() -> None:
    limit = 1100
    guide, words = guides(tokenizer(), OPTIONAL, limit)(), tokenizer()
    said = words.encode('{"items":[{"reason":"', add_special_tokens=False)
    for token in said:
        guide.mask(torch.zeros(1, len(words)))
        guide.take(token)
    rambling = words.encode("x", add_special_tokens=False)[-1]
    while not guide.is_complete and len(said) < limit:
        scores = torch.zeros(1, len(words))
        scores[0, rambling] = 9.0
        guide.mask(scores)
        said.append(int(scores.argmax()))
        guide.take(said[-1])
    assert len(said) > limit - 10
    jsonschema.validate(json.loads(words.decode(said)), OPTIONAL)


def test_a_vocabulary_that_is_padded() -> None:
    jsonschema.validate(json.loads(babble(PROPOSAL_SCHEMA, 64, 3, 3.0, padded=64)[0]), PROPOSAL_SCHEMA)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
