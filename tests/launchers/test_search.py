"""The searcher: planned points first, no trial twice, room for evaluations, results told when they are known."""

from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from launchers.build import build
from launchers.search import DistinctSearch
from launchers.slots import Slots
from sweeps.design_points import planned_points
from sweeps.trial import Trial, make_trial

SWEEP = """\
name: search
recipe: tiny_commerce_sft
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: {lr}
  optimizer.weight_decay: {{when: optimizer.name == adamw, value: choice(0.0, 0.01)}}
  lora.rank: choice(4, 8)
search: {{trials: {trials}, seed: 1, metric: {metric}, seeds: {seeds}}}
evaluate: {{metrics: [shopping]}}
"""


def searcher(
    folder: Path, lr: str = "loguniform(1e-4, 1e-2)", trials: int = 12, metric: str = "val/loss", seeds: int = 1
) -> DistinctSearch:
    path = folder / "search.yaml"
    path.write_text(SWEEP.format(lr=lr, trials=trials, metric=metric, seeds=seeds))
    sweep = build(path).sweep
    design = planned_points(sweep)

    def make_config(trial: Trial) -> dict[str, Any]:
        return {"trial": trial.id}

    return DistinctSearch(
        sweep.space,
        design.trials,
        design.num_trials,
        lambda number, values, repeat: make_trial(sweep, number, values, repeat),
        make_config,
        Slots(2),
        metric=metric,
        mode=sweep.spec.search.direction,
        seed=1,
        repeats=sweep.spec.search.seeds,
    )


def run_to_the_end(search: DistinctSearch, metric: str = "val/loss") -> list[str]:
    """Every trial handed out, each finished before the next is asked for."""
    ids = []
    for number in range(500):
        config = search.suggest(f"tune-{number}")
        if config == Searcher.FINISHED:
            break
        assert isinstance(config, dict)
        ids.append(config["trial"])
        search.on_trial_complete(f"tune-{number}", {metric: float(number % 5)})
    return ids


def test_trials_are_distinct_and_numbered_in_order(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    ids = run_to_the_end(search)
    assert len(ids) == len(set(ids)) == 12
    assert [trial.number for trial in search.trials.values()] == list(range(12))


def test_a_space_with_few_points_ends_instead_of_repeating(tmp_path: Path) -> None:
    """Two rates, two ranks; Adam, and AdamW without decay, are one: 2 x 2 x 2 points, and the recipe's defaults."""
    ids = run_to_the_end(searcher(tmp_path, lr="choice(0.001, 0.002)", trials=40))
    assert len(ids) == len(set(ids))
    assert len(ids) <= 9


def test_nothing_is_suggested_while_the_slots_are_taken(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    assert isinstance(search.suggest("a"), dict)
    assert isinstance(search.suggest("b"), dict)
    assert search.suggest("c") is None
    search.on_trial_complete("a", {"val/loss": 1.0})
    search._slots.evaluating = 1
    assert search.suggest("c") is None, "an evaluation holds the slot"
    search._slots.evaluating = 0
    assert isinstance(search.suggest("c"), dict)


def test_a_score_that_comes_later_is_told_when_it_comes(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    search = searcher(tmp_path, metric="quality/score")
    config = search.suggest("a")
    assert isinstance(config, dict)
    search.on_trial_complete("a", {"val/loss": 1.0})
    assert search._study.trials[0].state is TrialState.RUNNING
    search.evaluated(config["trial"], {"quality/score": 4.0})
    assert search._study.trials[0].value == 4.0


def test_a_failed_trial_is_told_as_failed(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    search = searcher(tmp_path)
    search.suggest("a")
    search.on_trial_complete("a", None, error=True)
    assert search._study.trials[0].state is TrialState.FAIL


def test_every_point_is_repeated_with_seeds_of_its_own_also_those_that_are_chosen_later(tmp_path: Path) -> None:
    search = searcher(tmp_path, trials=12, seeds=2)
    ids = run_to_the_end(search)
    trials = list(search.trials.values())
    assert len(ids) == len(set(ids)) == 24
    for first, second in zip(trials[::2], trials[1::2], strict=True):
        assert first.values == second.values
        assert (first.seed, second.seed) == (0, 1)


def test_closing_ends_the_search(tmp_path: Path) -> None:
    search = searcher(tmp_path)
    search.suggest("a")
    search.close()
    assert search.suggest("b") == Searcher.FINISHED
