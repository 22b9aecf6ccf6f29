from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.design_points import grid, planned_points
from sweeps.spec import Sweep
from sweeps.trial import Trial

Make = Callable[..., Sweep]

WIDE = """
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: loguniform(1e-5, 1e-2)
  optimizer.weight_decay: {when: optimizer.name == adamw, value: "choice(0.0, 0.01)"}
  lora.rank: choice(8, 16, 32, 64)
"""
# Twelve combinations, nine distinct: without decay Adam and AdamW are one.
SMALL = """
space:
  lora.rank: choice(8, 16, 32)
  optimizer.name: choice(adam, adamw)
  optimizer.weight_decay: choice(0.0, 0.01)
"""


@settings(max_examples=40)
@given(
    space=st.sampled_from([WIDE, SMALL]),
    algorithm=st.sampled_from(["random", "tpe", "nsga2"]),
    trials=st.integers(1, 30),
    seed=st.integers(0, 5),
    seeds=st.integers(1, 3),
)
def test_planned_points_are_distinct_and_deterministic(
    make_sweep: Make, space: str, algorithm: str, trials: int, seed: int, seeds: int
) -> None:
    text = f"{space}search: {{algorithm: {algorithm}, trials: {trials}, seed: {seed}, seeds: {seeds}}}"
    design = planned_points(make_sweep(text))
    assert design == planned_points(make_sweep(text))
    assert len({trial.id for trial in design.trials}) == len(design.trials)
    assert [trial.number for trial in design.trials] == list(range(len(design.trials)))
    points = trials if space == WIDE else min(trials, 9)
    known = points if algorithm == "random" else min(points, max(5, trials // 2))
    assert len(design.trials) == known * seeds
    assert design.num_trials == points * seeds
    assert design.exhausted == (points < trials)


def test_trial_0_is_the_recipes_defaults(make_sweep: Make) -> None:
    first = planned_points(make_sweep(WIDE)).trials[0]
    assert first.values == {
        "optimizer.name": "adamw",
        "optimizer.lr": 5e-3,
        "optimizer.weight_decay": 0.01,
        "lora.rank": 16,
    }
    elsewhere = planned_points(make_sweep(WIDE + "search: {start_at: null}")).trials[0]
    assert elsewhere.values != first.values


def test_a_grid_is_the_product_in_order_without_equivalents(make_sweep: Make) -> None:
    sweep = make_sweep(SMALL + "search: {algorithm: grid, start_at: null, trials: 9}")
    assert len(list(grid(sweep.space))) == 12
    design = planned_points(sweep)
    assert [tuple(trial.values.values()) for trial in design.trials] == [
        (rank, name, decay) for rank in (8, 16, 32) for name, decay in (("adam", 0.0), ("adam", 0.01), ("adamw", 0.01))
    ]
    assert (design.num_trials, design.exhausted) == (9, False)
    more = planned_points(make_sweep(SMALL + "search: {algorithm: grid, start_at: null, trials: 20}"))
    assert (len(more.trials), more.num_trials, more.exhausted) == (9, 9, True)


def test_a_grid_starts_at_the_defaults_and_does_not_repeat_them(make_sweep: Make) -> None:
    design = planned_points(make_sweep(SMALL + "search: {algorithm: grid, trials: 9}"))
    assert tuple(design.trials[0].values.values()) == (16, "adamw", 0.01)
    assert len(design.trials) == 9


def test_a_hypercube_meets_every_cell_of_every_axis(make_sweep: Make) -> None:
    text = "space: {lora.dropout: 'uniform(0, 1)', optimizer.lr: 'loguniform(1e-4, 1)'}\n"
    trials = planned_points(make_sweep(text + "search: {algorithm: random, trials: 20, start_at: null}")).trials
    assert sorted(int(trial.values["lora.dropout"] * 20) for trial in trials) == list(range(20))


def test_seeds_repeat_each_point(make_sweep: Make) -> None:
    trials = planned_points(make_sweep(WIDE + "search: {algorithm: random, trials: 4, seeds: 3}")).trials
    assert [trial.seed for trial in trials] == [0, 1, 2] * 4

    def values(trial: Trial) -> str:
        return str(trial.values)

    assert all(values(trials[3 * k]) == values(trials[3 * k + 2]) for k in range(4))


@pytest.mark.parametrize(("trials", "known"), [(3, 3), (5, 5), (8, 5), (20, 10), (21, 10)])
def test_a_searcher_starts_from_half_of_the_trials(make_sweep: Make, trials: int, known: int) -> None:
    design = planned_points(make_sweep(f"{WIDE}search: {{algorithm: tpe, trials: {trials}}}"))
    assert (len(design.trials), design.num_trials) == (known, trials)


def test_seed_changes_the_points(make_sweep: Make) -> None:
    one, other = (planned_points(make_sweep(f"{WIDE}search: {{seed: {seed}}}")).trials for seed in (0, 1))
    assert one[0].id == other[0].id
    assert {trial.id for trial in one[1:]}.isdisjoint(trial.id for trial in other[1:])
