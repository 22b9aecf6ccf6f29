"""From a recipe's name to a typed recipe."""

from pathlib import Path
from typing import Any

import pytest

from recipes.compose import CONFIGS, compose, recipe_names, typed
from recipes.schema import Recipe
from sweeps.errors import InvalidInput

OWN = """
defaults:
  - base: tiny_commerce
  - data: jsonl
  - optimizer: adam
  - my_schedule@schedule: steep
  - parallel: single
  - _self_

name: own
data: {path: rows.jsonl}
train: {max_steps: 12}
"""


def wrong(settings: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        typed(settings)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_composes_and_is_valid(name: str) -> None:
    recipe = typed(compose(name))
    assert recipe.name == name
    assert typed(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_group_fits_every_recipe(name: str) -> None:
    for path in CONFIGS.glob("*/*.yaml"):
        settings = compose(name, {path.parent.name: path.stem})
        if path.parent.name == "data" and path.stem == "jsonl":
            settings["data"]["path"] = "rows.jsonl"
        if settings["parallel"]["gpus"] > 1:  # a pack trains on one
            settings |= {"engine": "nemo", "method": "sft"}
        typed(settings)


def test_a_line_that_is_not_yaml_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own\ntrain: [1\n")
    with pytest.raises(InvalidInput) as caught:
        compose("own.yaml", base_dir=tmp_path)
    assert str(caught.value) == (
        f"line 3: {tmp_path / 'own.yaml'}: is not valid YAML: while parsing a flow sequence "
        "expected ',' or ']', but got '<stream end>'"
    )


def test_a_group_is_taken_instead_of_the_recipes_own() -> None:
    own, other = compose("tiny_commerce_sft"), compose("tiny_commerce_sft", {"optimizer": "adam"})
    assert (own["optimizer"]["name"], other["optimizer"]["name"]) == ("adamw", "adam")
    assert other["optimizer"]["lr"] == own["optimizer"]["lr"], "what the recipe itself says stays"
    assert other["optimizer"]["weight_decay"] == 0
    assert {key: value for key, value in own.items() if key != "optimizer"} == {
        key: value for key, value in other.items() if key != "optimizer"
    }


def test_an_own_recipe_takes_shipped_groups_and_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "my_schedule").mkdir()
    (tmp_path / "my_schedule" / "steep.yaml").write_text("name: linear\nmin_lr_ratio: 0.3\n")
    (tmp_path / "own.yaml").write_text(OWN)
    recipe = typed(compose("own.yaml", base_dir=tmp_path))
    assert (recipe.optimizer.name, recipe.schedule.min_lr_ratio, recipe.data.path) == ("adam", 0.3, "rows.jsonl")
    assert typed(compose(str(tmp_path / "own.yaml"), {"optimizer": "adamw"})).optimizer.name == "adamw"
    assert typed(compose("tiny_commerce_sft")).name == "tiny_commerce_sft", "the next recipe is a shipped one again"


def test_an_unknown_recipe_is_told_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        compose("tiny_comerce_sft")
    assert str(caught.value) == ("recipe: unknown recipe 'tiny_comerce_sft' (did you mean \"tiny_commerce_sft\"?)")
    shipped = "nemotron_nano_8b_dpo, nemotron_nano_8b_sft, tiny_commerce_dpo, tiny_commerce_sft"
    with pytest.raises(InvalidInput, match=rf"unknown recipe 'x' \(valid: {shipped}\)"):
        compose("x")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        compose("mine.yaml", base_dir=tmp_path)
    assert str(caught.value).startswith(f"recipe: no such file: mine.yaml (a relative path is taken from {tmp_path};")


def test_an_unknown_option_of_a_group_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"tiny_commerce_sft cannot be composed: .*optimizer/sgd"):
        compose("tiny_commerce_sft", {"optimizer": "sgd"})


@pytest.mark.parametrize("text", ["a: ${nowhere}", "defaults: [nothing]"])
def test_a_file_that_cannot_be_composed_is_an_error_of_the_users(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=r"own\.yaml cannot be composed"):
        compose("own.yaml", base_dir=tmp_path)


@pytest.mark.parametrize("inner", ["train: {_target_: os.system}", "lora: {targets: [{_args_: [1]}]}"])
def test_what_hydra_would_run_is_refused(tmp_path: Path, inner: str) -> None:
    (tmp_path / "own.yaml").write_text(inner)
    with pytest.raises(InvalidInput, match=r"'_(target|args)_' is not allowed in a recipe \(remove it\)"):
        compose("own.yaml", base_dir=tmp_path)


def test_all_problems_are_told_together() -> None:
    settings = compose("tiny_commerce_sft")
    settings["optimizer"] |= {"lr": 0, "name": "sgd", "momentum": 0.9}
    settings["train"] |= {"batch_size": 6, "micro_batch_size": 4}
    settings["lora"] |= {"rank": 0}
    del settings["data"]
    assert sorted(wrong(settings)) == [
        "data: Field required",
        "lora.rank: Input should be greater than or equal to 1, got 0",
        "optimizer.lr: Input should be greater than 0, got 0",
        "optimizer.momentum: unknown key (valid: name, lr, betas, eps, weight_decay)",
        "optimizer.name: Input should be 'adam' or 'adamw', got 'sgd'",
        "train: batch_size must be a multiple of micro_batch_size, got 6 and 4",
    ]


@pytest.mark.parametrize(
    ("group", "values", "rule"),
    [
        ("data", {"path": "x.jsonl"}, "data: exactly one of builtin and path is needed, got builtin=commerce, path=x"),
        ("data", {"builtin": None}, "data: exactly one of builtin and path is needed, got builtin=None, path=None"),
        ("data", {"train": 0.8}, "data: train + validation + dev + challenge must be 1, got 1.1"),
        ("data", {"train": 0, "validation": 0.8}, "data.train: Input should be greater than 0, got 0"),
        ("data", {"train": 0.8, "validation": 0}, "data.validation: Input should be greater than 0, got 0"),
        ("lora", {"targets": []}, "lora.targets: List should have at least 1 item after validation, not 0, got []"),
        ("parallel", {"tp": 2}, "parallel: gpus must be a multiple of tp * cp, got gpus=1, tp=2, cp=1"),
        ("parallel", {"gpus": 2, "tp": 2}, "parallel: tp and cp need strategy fsdp2, got ddp with tp=2, cp=1"),
        ("optimizer", {"epsilon": 1}, 'optimizer.epsilon: unknown key (did you mean "eps"?)'),
        ("optimizer", {"lr": float("inf")}, "optimizer.lr: Input should be a finite number, got inf"),
        ("optimizer", {"lr": float("nan")}, "optimizer.lr: Input should be a finite number, got nan"),
        ("train", {"seed": -1}, "train.seed: Input should be greater than or equal to 0, got -1"),
    ],
)
def test_rules_quote_the_values(group: str, values: dict[str, Any], rule: str) -> None:
    settings = compose("tiny_commerce_sft")
    settings[group] |= values
    (problem,) = wrong(settings)
    assert problem.startswith(rule)


def test_a_path_that_must_be_given_is_told() -> None:
    assert wrong(compose("nemotron_nano_8b_sft", {"data": "jsonl"})) == ["data.path: must be given"]


def test_a_recipe_is_frozen() -> None:
    recipe = typed(compose("tiny_commerce_sft"))
    assert isinstance(recipe, Recipe)
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.max_steps = 3  # type: ignore[misc]
