from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import InvalidInput
from sweeps.facts import RecipeFacts
from sweeps.space import build_space
from sweeps.spec import Sweep

Make = Callable[..., Sweep]

SPACE = """
space:
  optimizer.weight_decay: {when: optimizer.name == adamw and lora.rank > 8, value: "uniform(0.001, 0.1)"}
  optimizer.name: choice(adam, adamw, sgd)
  optimizer.lr: loguniform(1e-5, 1e-2)
  lora.rank: choice(8, 16, 32)
  lora.dropout: {when: optimizer.weight_decay > 0.05, value: "choice(0.1, 0.2)", otherwise: 0.01}
  train.clip: {when: optimizer.name == sgd, value: "choice(0.5, 2.0)"}
"""
KEYS = ("optimizer.weight_decay", "optimizer.name", "optimizer.lr", "lora.rank", "lora.dropout", "train.clip")


def test_a_false_condition_gives_otherwise_or_the_neutral_value_or_the_default(make_sweep: Make) -> None:
    space = make_sweep(SPACE).space
    assert tuple(space.dimensions) == KEYS
    values = {"optimizer.name": "adam", "optimizer.weight_decay": 0.09, "lora.dropout": 0.2, "train.clip": 2.0}
    completed = space.complete(values)
    assert tuple(completed) == KEYS
    assert completed["optimizer.weight_decay"] == 0.0  # neutral
    assert completed["lora.dropout"] == 0.01  # otherwise, because the decay became 0
    assert completed["train.clip"] == 1.0  # the recipe's default
    assert completed["lora.rank"] == 16  # not given
    assert space.complete({**values, "optimizer.name": "adamw"})["lora.dropout"] == 0.2
    with pytest.raises(KeyError):
        space.complete({"train.seed": 1})


@settings(max_examples=60)
@given(coordinates=st.fixed_dictionaries(dict.fromkeys(KEYS, st.floats(0, 1))))
def test_completing_is_idempotent_and_stays_within_the_space(make_sweep: Make, coordinates: dict[str, float]) -> None:
    space = make_sweep(SPACE).space
    completed = space.sample(coordinates)
    assert space.complete(completed) == completed
    for key, value in completed.items():
        dimension = space.dimensions[key]
        assert dimension.distribution.contains(value) or value == dimension.neutral


def test_size_counts_combinations(make_sweep: Make) -> None:
    assert make_sweep("space: {lora.rank: 'choice(8, 16)', schedule.warmup_steps: 'range(0, 10, 5)'}").space.size == 4
    assert make_sweep("space: {lora.rank: 'choice(8, 16)', optimizer.lr: 'uniform(0.1, 1)'}").space.size is None


def test_set_changes_the_defaults(make_sweep: Make) -> None:
    sweep = make_sweep("set: {lora.rank: 64, optimizer.lr: 1}\nspace: {lora.rank: 'choice(8, 16)'}")
    assert sweep.space.default_values() == {"lora.rank": 64}
    assert sweep.settings["optimizer"]["lr"] == 1.0
    assert sweep.facts.settings["lora"]["rank"] == 16


def test_the_kind_of_the_key_decides(make_sweep: Make) -> None:
    space = make_sweep("space: {lora.dropout: 'interval(0, 1)', lora.rank: 'interval(1, 4)'}").space
    assert [dimension.distribution.describe() for dimension in space.dimensions.values()] == [
        "uniform(0.0, 1.0)",
        "range(1, 5)",
    ]


def problems(make_sweep: Make, text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        make_sweep(text)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "optimizer.lrr: uniform(0.1, 1)",
            'recipe tiny_commerce_sft has no key "optimizer.lrr" (did you mean "optimizer.lr"?)',
        ),
        (
            "lora: choice(1, 2)",
            '"lora" is a group of keys in recipe tiny_commerce_sft'
            " (name one of them: lora.rank, lora.alpha, lora.dropout, lora.targets)",
        ),
        ("engine: choice(a, b)", 'recipe tiny_commerce_sft does not let a sweep change "engine"'),
        ("lora.rank: choice(0, 8)", "must be at least 1, but choice(0, 8) has 0"),
        ("lora.rank: choice(8, big)", 'must be a whole number, but choice(8, big) has "big"'),
        (
            "lora.rank: loguniform(1, 64)",
            "must be a whole number, but loguniform(1.0, 64.0) gives fractions"
            " (use range(start, stop, step), interval(1, 9) or choice(…))",
        ),
        ("lora.dropout: uniform(-0.5, 0.5)", "must be at least 0, but uniform(-0.5, 0.5) has -0.5"),
        ("optimizer.lr: uniform(0, 1)", "must be above 0, but uniform(0.0, 1.0) has 0.0"),
        (
            "optimizer.name: choice(adam, adamww)",
            'must be one of adam, adamw, sgd, but choice(adam, adamww) has "adamww" (did you mean "adamw"?)',
        ),
        ("optimizer.name: sdg", 'must be one of adam, adamw, sgd, but got "sdg" (did you mean "sgd"?)'),
        ("optimizer.lr: logunifrom(1e-5, 1e-3)", 'unknown function "logunifrom" (did you mean "loguniform"?)'),
    ],
)
def test_what_a_recipe_does_not_allow(make_sweep: Make, entry: str, message: str) -> None:
    key, _, value = entry.partition(": ")
    assert problems(make_sweep, f"space:\n  {key}: '{value}'") == [f"line 4: space.{key}: {message}"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{when: optimizer.nam == adamw, value: 0.1}",
            '.when: recipe tiny_commerce_sft has no key "optimizer.nam" (did you mean "optimizer.name"?)',
        ),
        (
            "{when: optimizer.name == adamww, value: 0.1}",
            '.when: optimizer.name is never "adamww" in choice(adam, adamw) (did you mean "adamw"?)',
        ),
        (
            "{when: schedule.name == cosin, value: 0.1}",
            '.when: schedule.name must be one of cosine, constant, but got "cosin" (did you mean "cosine"?)',
        ),
        (
            "{when: optimizer.name > 3, value: 0.1}",
            '.when: > needs a number, but "optimizer.name" has none (use ==, != or in)',
        ),
        (
            "{when: optimizer.weight_decay > 0, value: 0.1}",
            ".when: a condition must not look at its own key, but got optimizer.weight_decay > 0",
        ),
        (
            "{when: optimizer.name = adam, value: 0.1}",
            '.when: cannot read the comparison "optimizer.name = adam" (write == to compare)',
        ),
        (
            "{when: optimizer.name == adam, value: 'uniform(1, 0)'}",
            ".value: low must be below high, but got low=1.0, high=0.0",
        ),
        ("{when: optimizer.name == adam, value: 0.1, otherwise: -1}", ".otherwise: must be at least 0, but got -1.0"),
        (
            "{when: optimizer.name == adam, value: 0.1, otherwise: 'uniform(0, 1)'}",
            '.otherwise: must be a plain value, but got "uniform(0, 1)"',
        ),
        ("{when: optimizer.name == adam, valu: 0.1, value: 0.1}", '.valu: unknown key "valu" (did you mean "value"?)'),
        (
            "{when: optimizer.name == adam}",
            ": a conditional key needs value (write {when: <condition>, value: <distribution>})",
        ),
    ],
)
def test_what_is_wrong_with_a_condition(make_sweep: Make, entry: str, message: str) -> None:
    text = f"space:\n  optimizer.name: choice(adam, adamw)\n  optimizer.weight_decay: {entry}"
    assert problems(make_sweep, text) == [f"line 5: space.optimizer.weight_decay{message}"]


def test_conditions_must_not_go_in_circles(make_sweep: Make) -> None:
    text = """
space:
  lora.rank: {when: lora.dropout > 0, value: "choice(8, 16)"}
  lora.dropout: {when: train.batch_size > 1, value: "uniform(0.1, 0.2)"}
  train.batch_size: {when: lora.rank > 8, value: "choice(1, 2)"}
"""
    (message,) = problems(make_sweep, text)
    assert "conditions must not depend on each other: " in message
    assert message.count("→") == 3


def test_an_empty_space_is_reported_by_the_schema(facts: RecipeFacts, make_sweep: Make) -> None:
    assert problems(make_sweep, "space: {}") == [
        "line 3: space: must not be empty (name what to try, for example optimizer.lr: loguniform(1e-5, 1e-3))"
    ]
    assert problems(make_sweep, "pools: [cpu]") == ["space: is missing (a sweep needs name, recipe and space)"]
    reported: list[Any] = []
    space = build_space({"x": 1}, facts, facts.settings, lambda *problem: reported.append(problem))
    assert space is None
    assert len(reported) == 1
