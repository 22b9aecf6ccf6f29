"""The searcher: planned points first, no trial twice, room for evaluations, results told when they are known."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from launchers.agenda import Known
from launchers.build import build
from launchers.search import DistinctSearch, Metrics
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
search: {{trials: {trials}, seed: 1, {by}, seeds: {seeds}}}
evaluate: {{metrics: [shopping]}}
champion: {{minimize: val/loss, subject_to: {{quality/json_valid: ">= 0.5", latency/formulation_p95_s: "< 1"}}}}
"""
SEVERAL = "algorithm: nsga2, metrics: {quality/score: max, cost/usd: min}"


def searcher(
    folder: Path,
    lr: str = "loguniform(1e-4, 1e-2)",
    trials: int = 12,
    by: str = "metric: val/loss",
    seeds: int = 1,
    known: Sequence[Known] = (),
    begin: Callable[[Trial], Metrics | None] = lambda trial: None,
) -> DistinctSearch:
    path = folder / "search.yaml"
    path.write_text(SWEEP.format(lr=lr, trials=trials, by=by, seeds=seeds))
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
        objectives=sweep.spec.search.objectives,
        seed=1,
        algorithm=sweep.spec.search.algorithm,
        constraints=sweep.spec.champion.constraints,
        repeats=sweep.spec.search.seeds,
        known=known,
        begin=begin,
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

    search = searcher(tmp_path, by="metric: quality/score")
    config = search.suggest("a")
    assert isinstance(config, dict)
    search.on_trial_complete("a", {"val/loss": 1.0})
    assert search._study.trials[0].state is TrialState.RUNNING
    search.ended(config["trial"], {"quality/score": 4.0})
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


def test_a_trial_that_ends_without_a_score_was_pruned(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    search = searcher(tmp_path, by="metric: quality/score")
    config = search.suggest("a")
    assert isinstance(config, dict)
    search.on_trial_complete("a", {"val/loss": 1.0})
    search.ended(config["trial"], {"val/loss": 1.0, "cost/usd": 0.1})
    assert search._study.trials[0].state is TrialState.PRUNED
    search.ended(config["trial"], {"quality/score": 4.0})  # told once


def test_a_trial_that_is_not_to_be_trained_is_counted_and_another_is_handed_out(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    asked: list[Trial] = []

    def begin(trial: Trial) -> Metrics | None:
        asked.append(trial)
        return {"adapter/parameters": 9.0} if trial.values["lora.rank"] == 8 else None

    search = searcher(tmp_path, trials=200, begin=begin)
    ids = run_to_the_end(search)
    assert len(asked) == 200, "however many are refused in a row"
    assert len(ids) == sum(trial.values["lora.rank"] == 4 for trial in asked) < 200
    states = [trial.state for trial in search._study.trials]
    assert states.count(TrialState.PRUNED) == 200 - len(ids)


def scores(trial: Trial) -> dict[str, float]:
    """A score that the rate decides, a cost that the rank does, and answers that are valid at small rates alone."""
    rate = trial.values["optimizer.lr"]
    return {
        "quality/score": 500 * rate,
        "cost/usd": trial.values["lora.rank"] + 100 * rate,
        "quality/json_valid": float(rate < 6e-3),
    }


def run_all(search: DistinctSearch) -> dict[str, Trial]:
    """Every trial to its evaluation."""
    for number in range(500):
        config = search.suggest(f"tune-{number}")
        if config == Searcher.FINISHED:
            break
        assert isinstance(config, dict)
        search.on_trial_complete(f"tune-{number}", {"val/loss": 1.0})
        search.ended(config["trial"], scores(search.trials[f"tune-{number}"]))
    return {trial.id: trial for trial in search.trials.values()}


def test_several_metrics_make_a_front_within_the_constraints(tmp_path: Path) -> None:
    search = searcher(tmp_path, trials=40, by=SEVERAL)
    trials = run_all(search)
    told = {tuple(one.values): one.constraints for one in search._study.trials}  # duplicates among them
    assert len(trials) == 40
    for trial in trials.values():
        score = scores(trial)
        assert told[score["quality/score"], score["cost/usd"]] == {
            "quality/json_valid >= 0.5": 1.0 - score["quality/json_valid"],
            "latency/formulation_p95_s < 1": 0.0,  # nobody knows it yet
        }
    valid = {key for key, trial in trials.items() if scores(trial)["quality/json_valid"]}
    best = {
        key
        for key in valid
        if not any(
            scores(trials[other])["quality/score"] >= scores(trials[key])["quality/score"]
            and scores(trials[other])["cost/usd"] < scores(trials[key])["cost/usd"]
            for other in valid
        )
    }
    assert {tuple(one.values) for one in search._study.best_trials} == {
        (scores(trials[key])["quality/score"], scores(trials[key])["cost/usd"]) for key in best
    }


def test_a_search_by_several_metrics_goes_on_where_it_was(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    before = list(run_all(searcher(tmp_path, trials=12, by=SEVERAL)).values())
    known = [Known(trial, scores(trial)) for trial in before[:8]]
    known += [Known(before[8], None), Known(before[9], {}, open=True), Known(before[10], {"cost/usd": 1.0})]
    search = searcher(tmp_path, trials=12, by=SEVERAL, known=known)
    states = [trial.state for trial in search._study.trials]
    assert states[:8] == [TrialState.COMPLETE] * 8
    assert states[8:] == [TrialState.FAIL, TrialState.RUNNING, TrialState.PRUNED]
    search.ended(before[9].id, scores(before[9]))
    assert search._study.trials[9].values == [scores(before[9])["quality/score"], scores(before[9])["cost/usd"]]
    assert set(run_all(search)).isdisjoint(trial.id for trial in before[:11])
    assert len(search.trials) == 1
