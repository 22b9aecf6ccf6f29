"""Drawn tokens follow the distribution, the nucleus and the schema, and depend on nothing but seed and key."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes import generation
from recipes.generation import Model
from recipes.sampling import Sampler, Sampling
from recipes.schema import Base
from tests.recipes.test_generation import PROMPTS, SCHEMA
from tests.recipes.tiny import make_base, one_thread

PROBABILITIES = [0.5, 0.3, 0.15, 0.05]


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    base = make_base(tmp_path_factory.mktemp("base"))
    return generation.load(str(base), Base(path=str(base), dtype="float32"), None, max_new_tokens=12, batch_size=3)


def drawn(sampling: Sampling, rows: int = 20_000) -> list[float]:
    scores = torch.tensor(PROBABILITIES).log().expand(rows, -1)
    counts = Counter(Sampler(sampling, [str(row) for row in range(rows)]).choose(scores).tolist())
    return [counts[token] / rows for token in range(len(PROBABILITIES))]


def test_tokens_have_the_frequencies_of_their_probabilities() -> None:
    assert drawn(Sampling()) == pytest.approx(PROBABILITIES, abs=0.015)  # four standard errors


def test_temperature_sharpens() -> None:
    squared = [one**2 for one in PROBABILITIES]
    assert drawn(Sampling(temperature=0.5)) == pytest.approx([one / sum(squared) for one in squared], abs=0.015)


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 1), (0.51, 2), (0.8, 2), (0.9, 3), (1.0, 4), (1e-6, 1)])
def test_the_nucleus_is_the_fewest_likeliest_tokens(top_p: float, kept: int) -> None:
    shares = drawn(Sampling(top_p=top_p), 4000)
    assert [share > 0 for share in shares] == [True] * kept + [False] * (4 - kept)


@settings(max_examples=50)
@given(st.lists(st.floats(-20, 20) | st.just(float("-inf")), min_size=2, max_size=9), st.floats(0.01, 1), st.integers())
def test_what_is_out_of_reach_is_never_drawn(scores: list[float], top_p: float, seed: int) -> None:
    if max(scores) == float("-inf"):
        return
    chosen = Sampler(Sampling(0.7, top_p, seed), list(map(str, range(64)))).choose(torch.tensor([scores] * 64))
    assert all(scores[token] > float("-inf") for token in chosen.tolist())


def test_an_answer_is_the_same_whatever_it_is_batched_with(model: Model) -> None:
    how, keys = Sampling(temperature=1.0, seed=3), [f"prompt {n}" for n in range(len(PROMPTS))]
    together = model.answer(PROMPTS, sampling=how, keys=keys)
    assert len(set(together)) > 3
    assert model.answer(PROMPTS[::-1], sampling=how, keys=keys[::-1]) == together[::-1]
    assert [model.answer([prompt], sampling=how, keys=[key])[0] for prompt, key in zip(PROMPTS, keys, strict=True)] == (
        together
    )
    assert model.answer(PROMPTS, sampling=Sampling(seed=4), keys=keys) != together
    assert model.answer(PROMPTS, sampling=how, keys=[f"other {key}" for key in keys]) != together


def test_as_cold_as_can_be_is_greedy(model: Model) -> None:
    assert model.answer(PROMPTS, sampling=Sampling(temperature=1e-4)) == model.answer(PROMPTS)


def test_a_schema_holds_for_drawn_answers(model: Model) -> None:
    roomy = Model(model.network, model.tokenizer, 40, 3)
    answers = roomy.answer([PROMPTS[0]] * 12, SCHEMA, sampling=Sampling(temperature=1.5))
    for text in answers:
        jsonschema.validate(json.loads(text), SCHEMA)
    assert len(set(answers)) > 4


def test_generate_of_transformers_agrees_on_what_is_likely(model: Model, tmp_path: Path) -> None:
    """The first token's frequencies, against those of transformers' own sampler at the same temperature and nucleus."""
    text = model.tokenizer.apply_chat_template(PROMPTS[0], tokenize=False, add_generation_prompt=True)
    ids = model.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    logits = model.network(input_ids=ids).logits[0, -1].float()
    rows = 4000
    torch.manual_seed(0)
    options = {"do_sample": True, "temperature": 0.6, "top_p": 0.8, "top_k": 0, "max_new_tokens": 1}
    theirs = Counter(model.network.generate(ids.expand(rows, -1), **options)[:, -1].tolist())
    ours = Counter(Sampler(Sampling(0.6, 0.8), list(map(str, range(rows)))).choose(logits.expand(rows, -1)).tolist())
    tokens = ours.keys() | theirs.keys()
    assert sum(abs(ours[token] - theirs[token]) for token in tokens) / rows / 2 < 0.12, "total variation"
