import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.facts import KeyFacts, RecipeFacts
from sweeps.spec import Sweep
from sweeps.trial import make_trial

Make = Callable[..., Sweep]

SPACE = """
space:
  optimizer.name: choice(adam, adamw, sgd)
  optimizer.lr: loguniform(1e-5, 1e-2)
  optimizer.weight_decay: choice(0, 0.01)
  lora.targets: [[q_proj], [q_proj, v_proj]]
  train.batch_size: choice(4, 8)
  parallel.gpus: choice(1, 2)
"""
values = st.fixed_dictionaries(
    {
        "optimizer.name": st.sampled_from(["adam", "adamw", "sgd"]),
        "optimizer.lr": st.sampled_from([1e-3, 1e-2, 1, 1.0]),
        "optimizer.weight_decay": st.sampled_from([0, 0.0, -0.0, 0.01]),
        "lora.targets": st.sampled_from([["q_proj"], ["q_proj", "v_proj"]]),
        "train.batch_size": st.sampled_from([4, 8]),
        "parallel.gpus": st.sampled_from([1, 2]),
    }
)


def _effective(point: dict[str, Any]) -> tuple[Any, ...]:
    """What a trial of this space learns from, said independently of the code."""
    name, decay = point["optimizer.name"], float(point["optimizer.weight_decay"]) + 0.0
    name = "adam" if name == "adamw" and decay == 0 else name
    return name, float(point["optimizer.lr"]), decay, tuple(point["lora.targets"]), point["train.batch_size"]


@given(left=values, right=values)
def test_ids_are_equal_exactly_if_the_trials_train_the_same(
    make_sweep: Make, left: dict[str, Any], right: dict[str, Any]
) -> None:
    sweep = make_sweep(SPACE)
    one, other = make_trial(sweep, 0, left), make_trial(sweep, 1, right)
    assert (one.id == other.id) == (_effective(left) == _effective(right))


def test_a_trial_has_its_settings_and_leaves_the_sweeps_alone(make_sweep: Make) -> None:
    sweep = make_sweep(SPACE)
    before = copy.deepcopy(sweep.settings)
    trial = make_trial(sweep, 3, {"optimizer.lr": 1e-3, "lora.targets": ["q_proj"]}, repeat=2)
    assert trial.number == 3
    assert trial.seed == trial.settings["train"]["seed"] == 2
    assert trial.max_steps == 60
    assert trial.settings["optimizer"]["lr"] == trial.values["optimizer.lr"] == 1e-3
    assert trial.settings["lora"]["targets"] == ["q_proj"]
    assert list(trial.values) == list(sweep.space.dimensions)
    assert sweep.settings == before
    assert len(trial.id) == 12
    assert int(trial.id, 16) >= 0


def test_the_id_is_stable(make_sweep: Make) -> None:
    """The id names folders and ledger entries: it must not change from one version to the next."""
    assert make_trial(make_sweep(SPACE), 0, {}).id == "01a13e327e9d"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_identity", "c" * 64),
        ("data_identity", "e" * 64),
        ("training_groups", ("lora", "optimizer", "schedule", "train", "generate")),
    ],
)
def test_contents_are_part_of_the_id(make_sweep: Make, facts: RecipeFacts, field: str, value: Any) -> None:
    changed: dict[str, Any] = {field: value}
    other = dataclasses.replace(facts, **changed)
    assert make_trial(make_sweep(SPACE), 0, {}).id != make_trial(make_sweep(SPACE, other), 0, {}).id


def test_other_facts_are_not(make_sweep: Make, facts: RecipeFacts) -> None:
    other = dataclasses.replace(facts, num_parameters=7, train_rows=7, name="x")
    assert make_trial(make_sweep(SPACE), 0, {}).id == make_trial(make_sweep(SPACE, other), 0, {}).id


def test_pool_search_and_evaluation_are_no_part_of_the_id(make_sweep: Make) -> None:
    other = "\npools: [h100]\nsearch: {seed: 3, trials: 7}\nevaluate: {dev: 3}\n"
    one, two = make_trial(make_sweep(SPACE), 0, {}), make_trial(make_sweep(SPACE + other), 9, {})
    assert one.id == two.id


def test_repeats_and_more_steps_are_other_trials(make_sweep: Make) -> None:
    sweep = make_sweep(SPACE)
    ids = {make_trial(sweep, 0, {}, repeat).id for repeat in range(3)}
    ids.add(make_trial(make_sweep("set: {train.max_steps: 61}" + SPACE), 0, {}).id)
    assert len(ids) == 4
    shifted = make_trial(make_sweep("set: {train.seed: 2}" + SPACE), 0, {})
    assert shifted.id == make_trial(sweep, 0, {}, repeat=2).id


def test_steps_come_from_epochs_where_there_is_no_maximum(make_sweep: Make) -> None:
    epochs = make_trial(make_sweep("set: {train.max_steps: null, train.epochs: 2}" + SPACE), 0, {})
    assert epochs.max_steps == 2 * 88  # 700 rows in batches of 8
    steps = make_trial(make_sweep("set: {train.max_steps: 176}" + SPACE), 0, {})
    assert epochs.id == steps.id


def test_a_swept_base_is_another_trial(make_sweep: Make, facts: RecipeFacts) -> None:
    other = dataclasses.replace(facts, keys={**facts.keys, "base.path": KeyFacts("str")})
    sweep = make_sweep("space: {base.path: [assets/tiny, assets/big]}", other)
    default = make_trial(sweep, 0, {"base.path": "assets/tiny"})
    assert default.id != make_trial(sweep, 0, {"base.path": "assets/big"}).id
    assert default.id == make_trial(make_sweep(SPACE), 0, {}).id  # not of the path, where the contents are known
