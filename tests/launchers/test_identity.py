"""A trial's id depends on exactly what it learns from: the contents of base and data, the training keys, the seed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launchers.build import build
from launchers.pools import load_pools
from recipes.bases import BUILTIN
from recipes.compose import compose
from recipes.facts import recipe_facts
from recipes.schema import TRAINING_GROUPS
from sweeps.facts import KeyFacts, RecipeFacts
from sweeps.loading import check_source
from sweeps.source import parse_source
from sweeps.spec import Sweep, resolve
from sweeps.trial import make_trial, trial_id
from sweeps.values import lookup
from tests.launchers.stage import ROWS, SWEEP


@pytest.fixture(scope="module")
def facts() -> RecipeFacts:
    return recipe_facts(compose("tiny_commerce_sft"), Path())[0]


KEYS = recipe_facts(compose("tiny_commerce_sft"), Path())[0].keys
OF_TRAINING = sorted(key for key in KEYS if key.split(".")[0] in TRAINING_GROUPS)
OF_OTHER_GROUPS = sorted(key for key in KEYS if key.split(".")[0] in ("parallel", "generate"))


def value_of(key: str, facts: KeyFacts) -> st.SearchStrategy[Any]:
    """Values that the recipe allows at a key."""
    if facts.choices:
        return st.sampled_from(facts.choices)
    if key == "lora.targets":
        return st.lists(st.sampled_from(["*_proj", "*.q_proj", "*.k_proj"]), min_size=1, max_size=2)
    if key == "optimizer.betas":
        return st.lists(st.floats(0, 0.999), min_size=2, max_size=2)
    if facts.kind == "bool":
        return st.booleans()
    low, high = facts.low or 0, facts.high if facts.high is not None else 10_000
    if facts.kind == "int":
        return st.integers(int(low), int(high))
    return st.floats(low, high, exclude_min=facts.exclusive_low, allow_subnormal=False)


def changes(keys: list[str]) -> st.SearchStrategy[tuple[str, Any]]:
    return st.sampled_from(keys).flatmap(lambda key: value_of(key, KEYS[key]).map(lambda value: (key, value)))


def sweep_of(facts: RecipeFacts, written: dict[str, Any], more: str = "") -> Sweep:
    text = f"name: x\nrecipe: tiny_commerce_sft\nspace: {{lora.alpha: 16}}\nset: {json.dumps(written)}\n{more}"
    return resolve(check_source(parse_source(text)), facts, load_pools())


def id_of(facts: RecipeFacts, written: dict[str, Any], more: str = "", number: int = 0) -> str:
    return make_trial(sweep_of(facts, written, more), number, {}).id


def learns_from(sweep: Sweep) -> dict[str, Any]:
    """What a trial of these settings learns from, said independently of the code that makes the id."""
    groups: dict[str, Any] = {group: dict(sweep.settings[group]) for group in TRAINING_GROUPS}
    if not groups["optimizer"]["weight_decay"]:
        groups["optimizer"]["name"] = "adam or adamw"
    return groups


@settings(max_examples=200)
@given(one=st.lists(changes(OF_TRAINING), max_size=3), other=st.lists(changes(OF_TRAINING), max_size=3))
def test_ids_are_equal_exactly_if_all_training_keys_are(
    facts: RecipeFacts, one: list[tuple[str, Any]], other: list[tuple[str, Any]]
) -> None:
    left, right = sweep_of(facts, dict(one)), sweep_of(facts, dict(other))
    same = learns_from(left) == learns_from(right)
    assert (make_trial(left, 0, {}).id == make_trial(right, 0, {}).id) == same


@pytest.mark.parametrize("key", OF_TRAINING)
def test_each_training_key_counts(facts: RecipeFacts, key: str) -> None:
    before = lookup(facts.settings, key)
    other: Any = {"lora.targets": ["*.q_proj"], "optimizer.betas": [0.5, 0.5], "schedule.name": "linear"}.get(key)
    if other is None:
        other = "adam" if key == "optimizer.name" else 1 if before != 1 else 2
        other = 0.5 if KEYS[key].high is not None and KEYS[key].kind == "float" else other
    decay = {"optimizer.weight_decay": 0.1} if key != "optimizer.weight_decay" else {}
    assert id_of(facts, {**decay, key: other}) != id_of(facts, decay)


@settings(max_examples=100)
@given(change=changes(OF_OTHER_GROUPS))
def test_where_and_how_it_runs_and_what_is_generated_does_not_count(
    facts: RecipeFacts, change: tuple[str, Any]
) -> None:
    assert id_of(facts, dict([change])) == id_of(facts, {})


@settings(max_examples=50)
@given(
    trials=st.integers(1, 100),
    seed=st.integers(0, 99),
    algorithm=st.sampled_from(["tpe", "random", "nsga2"]),
    pool=st.sampled_from(["cpu", "h100", "b200"]),
    dev=st.integers(1, 99),
    number=st.integers(0, 99),
)
def test_pool_search_evaluation_and_number_do_not_count(
    facts: RecipeFacts, trials: int, seed: int, algorithm: str, pool: str, dev: int, number: int
) -> None:
    more = f"search: {{trials: {trials}, seed: {seed}, algorithm: {algorithm}}}\npools: [{pool}]\n"
    more += f"evaluate: {{dev: {dev}, metrics: [exact_match]}}\nbudget: {{usd: {dev}}}\nretries: 0\n"
    assert id_of(facts, {}, more, number) == id_of(facts, {})


@settings(max_examples=50)
@given(order=st.permutations(["optimizer.lr", "lora.rank", "train.seed", "optimizer.weight_decay"]))
def test_the_order_of_keys_does_not_count(facts: RecipeFacts, order: list[str]) -> None:
    values = {"optimizer.lr": 0.01, "lora.rank": 4, "train.seed": 3, "optimizer.weight_decay": 0.1}
    assert id_of(facts, {key: values[key] for key in order}) == id_of(facts, values)


@pytest.mark.parametrize("written", ["0.001", "1e-3", "1.0e-3", "0.0010", "1E-3", "10e-4"])
def test_how_a_number_is_written_does_not_count(facts: RecipeFacts, written: str) -> None:
    text = f"name: x\nrecipe: tiny_commerce_sft\nset: {{optimizer.lr: {written}}}\nspace: {{lora.alpha: [16]}}\n"
    sweep = resolve(check_source(parse_source(text)), facts, load_pools())
    assert make_trial(sweep, 0, {}).id == id_of(facts, {"optimizer.lr": 0.001})


def test_adam_and_adamw_are_one_without_decay_and_two_with_it(facts: RecipeFacts) -> None:
    ids = {
        decay: {id_of(facts, {"optimizer.name": name, "optimizer.weight_decay": decay}) for name in ("adam", "adamw")}
        for decay in (0, 0.0, 0.01)
    }
    assert (len(ids[0]), len(ids[0.01])) == (1, 2)


def test_a_quantised_base_is_another(facts: RecipeFacts) -> None:
    settings = compose("tiny_commerce_sft")
    settings["base"]["quantize"] = "nf4"
    assert id_of(recipe_facts(settings, Path())[0], {}) != id_of(facts, {})


def test_regrouped_rows_make_other_trials_and_trees_do_not(facts: RecipeFacts) -> None:
    assert id_of(facts, {"packed.regroup": True}) != id_of(facts, {})
    assert id_of(facts, {"packed.regroup": False}) == id_of(facts, {})
    assert id_of(facts, {"packed.trees": False}) == id_of(facts, {})
    assert id_of(facts, {"packed.trees": False, "packed.regroup": True}) == id_of(facts, {"packed.regroup": True})


def test_a_recipe_that_regroups_is_not_one_that_does_not(facts: RecipeFacts) -> None:
    settings = compose("tiny_commerce_sft")
    settings["packed"] = {"regroup": True}
    regrouping = recipe_facts(settings, Path())[0]
    assert id_of(regrouping, {}) == id_of(facts, {"packed.regroup": True})
    assert id_of(regrouping, {"packed.regroup": False}) == id_of(facts, {})


def test_ids_are_those_of_settings_that_know_nothing_of_regrouping(facts: RecipeFacts) -> None:
    """Ledgers of earlier versions hold such settings, and their trials stay what they are."""
    trial = make_trial(sweep_of(facts, {}), 0, {})
    earlier = {**trial.settings, "packed": {"trees": True}}
    assert trial_id(facts, earlier, trial.max_steps) == trial.id
    del earlier["packed"]
    assert trial_id(facts, earlier, trial.max_steps) == trial.id


# Through the files, as ``podium plan`` reads them ---------------------------------------------------------------------


def written(folder: Path) -> Path:
    """A sweep over a base and rows of its own."""
    shutil.copytree(BUILTIN["builtin:tiny_commerce"], folder / "base")
    (folder / "rows.jsonl").write_text(ROWS)
    (folder / "small.yaml").write_text(SWEEP.replace("set: {", "set: {base.path: base, "))
    return folder / "small.yaml"


def ids(path: Path, *overrides: str) -> list[str]:
    built = build(path, overrides)
    return [make_trial(built.sweep, 0, {}, repeat).id for repeat in range(2)]


def test_contents_count_and_places_do_not(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    path = written(one)
    before = ids(path)
    assert len(set(before)) == 2, "each repetition has a seed of its own"
    shutil.copytree(one, other)
    (other / "base").rename(other / "moved")
    (other / "rows.jsonl").rename(other / "data.jsonl")
    assert ids(other / "small.yaml", "set.base.path=moved", "set.data.path=data.jsonl") == before
    assert ids(path, "name=renamed", "set.data.max_tokens=900") == before

    with (other / "data.jsonl").open("a") as file:
        file.write('{"prompt": "One more?", "completion": "Yes."}\n')
    changed = ids(other / "small.yaml", "set.base.path=moved", "set.data.path=data.jsonl")
    assert not set(changed) & set(before), "another row"
    assert not set(ids(path, "set.data.seed=1")) & set(before), "another split"

    weights = one / "base" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert not set(ids(path)) & set(before), "other weights"
