"""Sweeps of preference trials: what they go by, what a plan counts, and one that is run from SFT to a champion."""

import json
from pathlib import Path
from typing import Any

import pytest

from launchers.build import Built, build
from recipes.data import splits
from sweeps.plan import plan
from sweeps.trial import make_trial
from tests.launchers.running import podium
from tests.recipes.packed.preferences import pairs, write_pairs
from tests.recipes.tiny import make_adapter, make_base
from tracking.ledger import State, read

SWEEP = """\
name: preferences
recipe: tiny_commerce_sft
set: {{method: dpo, base.path: base, base.dtype: float32, data.builtin: null, data.path: pairs.jsonl, data.group: null,
      data.rows: null, lora.rank: 4, train.max_steps: 12, train.validate_every: 4, train.validation_rows: null{more}}}
space: {{{space}}}
search: {{trials: 4, algorithm: random{search}}}
{rest}
"""
BETA = "preference.beta: loguniform(0.02, 0.5)"
RATE = "optimizer.lr: loguniform(1e-4, 1e-2)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("preferences")
    make_base(here / "base")
    make_adapter(here / "base", here / "start", seed=5, std=0.05)
    make_adapter(here / "base", here / "other", seed=6, std=0.05)
    rows = pairs(80)
    for number, row in enumerate(rows):
        row["messages"][1]["content"] += f" This is request {number}."
    write_pairs(here / "pairs.jsonl", rows)
    return here


def built(folder: Path, space: str, search: str = "", rest: str = "", more: str = "") -> Built:
    path = folder / "sweep.yaml"
    path.write_text(SWEEP.format(space=space, search=search, rest=rest, more=more))
    return build(path)


def goes_by(found: Built) -> tuple[Any, ...]:
    spec = found.sweep.spec
    early = spec.early_stopping
    return spec.search.objectives, early and (early.metric, early.mode), spec.objective


STOPS = "stop_early: {algorithm: continuous}"
LOSS, ACCURACY = ("val/loss", "min"), ("dpo/reward_accuracy", "max")


def test_trials_of_one_loss_are_compared_by_it(folder: Path) -> None:
    assert goes_by(built(folder, RATE, rest=STOPS)) == (dict([LOSS]), LOSS, LOSS)


@pytest.mark.parametrize("key", [BETA, "preference.loss: choice(sigmoid, ipo)", "preference.sft_weight: uniform(0, 1)"])
def test_trials_of_different_losses_are_compared_by_what_they_get_right(key: str, folder: Path) -> None:
    found = built(folder, f"{key}, {RATE}", rest=STOPS)
    assert goes_by(found) == (dict([ACCURACY]), ACCURACY, ACCURACY)


def test_what_is_named_is_taken(folder: Path) -> None:
    more = "champion: {minimize: cost/usd}\nstop_early: {metric: dpo/chosen_logp_change}\n"
    found = built(folder, BETA, search=", metric: dpo/chosen_logp", rest=more)
    chosen = ("dpo/chosen_logp_change", "max")
    assert goes_by(found) == ({"dpo/chosen_logp": "max"}, chosen, ("cost/usd", "min"))


def test_from_several_starts_nothing_that_compares_with_the_start_can_be_gone_by(folder: Path) -> None:
    with pytest.raises(Exception, match=r"dpo/reward_accuracy has another scale .* differ in start\.adapter"):
        built(folder, "start.adapter: choice(start, other)", search=", metric: dpo/reward_accuracy")
    with pytest.raises(
        Exception, match=r"val/loss has another scale .*name a metric of their answers that is evaluated"
    ):
        built(folder, "start.adapter: choice(start, other)")


def test_a_trial_that_goes_on_takes_its_start_over(folder: Path) -> None:
    by = {"search": ", metric: dpo/chosen_logp", "rest": "champion: {maximize: dpo/chosen_logp}"}
    found = built(folder, f"start.adapter: choice(start, other), {RATE}", **by, more=", start.adapter: start")
    sweep = found.sweep
    trials = [make_trial(sweep, 0, {"start.adapter": name, "optimizer.lr": 1e-3}) for name in ("start", "other")]
    assert [trial.settings["lora"]["alpha"] for trial in trials] == [8.0, 8.0]
    assert trials[0].id != trials[1].id
    assert set(sweep.facts.starts) == {"start", "other"}


def test_a_condition_turns_smoothing_off(folder: Path) -> None:
    smoothed = "{when: preference.loss == sigmoid, value: uniform(0.1, 0.3)}"
    found = built(folder, f"preference.loss: choice(sigmoid, ipo), preference.label_smoothing: {smoothed}")
    trial = make_trial(found.sweep, 0, {"preference.loss": "ipo", "preference.label_smoothing": 0.2})
    assert trial.settings["preference"]["label_smoothing"] == 0.0


def test_a_plan_counts_both_answers_with_their_prompts(folder: Path) -> None:
    found = built(folder, RATE)
    tokens, source = found.sweep.facts.tokens_per_row, found.sweep.facts.sources["tokens_per_row"]
    num_train = len(found.rows.rows["train"])
    assert source == f"the base's tokenizer over {num_train} pairs, both answers with their prompts"
    from transformers import AutoTokenizer

    from recipes.engines.packed.rows import Pairs

    paths = splits.write(found.rows, folder / "cache")
    rows = Pairs(paths["train"], AutoTokenizer.from_pretrained(folder / "base"))
    counted = sum(len(row.ids) for row in rows) / num_train
    assert tokens == pytest.approx(counted, rel=0.05)
    assert plan(found.sweep).num_trials == 4
    reference = plan(found.sweep).reference
    assert reference is not None
    validation = Pairs(paths["validation"], AutoTokenizer.from_pretrained(folder / "base"))
    passed = sum(len(row.ids) for row in (*rows, *validation))
    assert reference.tokens == pytest.approx(passed, rel=0.2), "so few rows are split by hash only about as asked"


def test_a_plan_says_what_a_sweep_over_losses_goes_by(folder: Path) -> None:
    told = plan(built(folder, f"{BETA}, {RATE}").sweep).notes[-1]
    scales = "losses of trials that differ in preference.beta are of different scales"
    assert told == f"{scales}: search and champion go by dpo/reward_accuracy"
    told = plan(built(folder, BETA, search=", metric: dpo/chosen_logp").sweep).notes[-1]
    assert told == f"{scales}: the search goes by dpo/chosen_logp, the champion goes by dpo/reward_accuracy"


@pytest.mark.slow
def test_a_sweep_from_an_adapter_of_sft_to_a_champion(folder: Path, tmp_path: Path) -> None:
    rest = "stop_early: {algorithm: none}\nretries: 0\n"
    path = folder / "whole.yaml"
    space = f"{BETA}, {RATE}, start.mode: choice(continue, stack)"
    path.write_text(SWEEP.format(space=space, search="", rest=rest, more=", start.adapter: start"))
    run = podium(tmp_path, "submit", str(path))
    assert run.returncode == 0, run.stderr
    state = read(tmp_path / "runs" / "preferences")
    assert {trial.state for trial in state.trials.values()} == {State.DONE}
    for trial in state.trials.values():
        assert trial.metrics["dpo/reward_accuracy"] is not None
    assert state.champion
    kept = list((tmp_path / "cache" / "data").glob("*/reference/*.json"))
    assert len(kept) == 2, "one start, two files: computed once for all trials, in both modes"
    board = podium(tmp_path, "leaderboard", "-o", "json")
    rows = json.loads(board.stdout)["rows"]
    assert all("dpo/chosen_logp_change" in row for row in rows)
    best = max(rows, key=lambda row: (row["dpo/reward_accuracy"], row["dpo/chosen_logp_change"]))
    assert best["id"] == state.champion["champion"], "between equal accuracies the likelier chosen answers decide"
