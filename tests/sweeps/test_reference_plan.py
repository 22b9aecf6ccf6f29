"""What a plan says of the pass over the start that preference trials are compared with."""

import json
from dataclasses import replace

import pytest

from sweeps.facts import KeyFacts, RecipeFacts, StartFacts
from sweeps.plan import plan
from sweeps.reference_plan import reference_plan
from sweeps.schema import Budget
from sweeps.staged_plan import staged_plan
from tests.sweeps.conftest import Make

SPACE = "space: {optimizer.lr: 'loguniform(1e-5, 1e-2)'}\npools: [b200, h100]\nsearch: {trials: 8}\n"
PREFERENCE = {"loss": "sigmoid", "beta": 0.1, "label_smoothing": 0.0, "sft_weight": 0.0}
HOURS = (700 + 100) * 400 * 2 * 4e6 / 400e12 / 3600  # rows × tokens × 2 N / speed: every pair, whatever trials see


@pytest.fixture(scope="session")
def pairs(facts: RecipeFacts) -> RecipeFacts:
    """A recipe of preference trials."""
    own = {"rank": 16, "alpha": 32.0, "targets": ["q_proj"]}
    return replace(
        facts,
        settings={
            **facts.settings,
            "method": "dpo",
            "preference": PREFERENCE,
            "start": {"adapter": None, "mode": "continue"},
        },
        keys={**facts.keys, "start.adapter": KeyFacts("str", optional=True)},
        training_groups=(*facts.training_groups, "start"),
        starts={name: StartFacts(name, own) for name in ("one", "two", "three")},
    )


def test_every_pair_is_priced_once_on_the_pool_of_the_first_trial(make_sweep: Make, pairs: RecipeFacts) -> None:
    made = plan(make_sweep(SPACE, pairs))
    found = made.reference
    assert found is not None
    assert (found.num_starts, found.num_pairs, found.tokens) == (1, 800, 320_000)
    assert found.pool == made.trials[0].pool == "h100"
    assert found.hours == found.unit_hours == pytest.approx(HOURS)
    assert found.usd == pytest.approx(HOURS * 4)
    assert found.usd_max == pytest.approx(HOURS * 4), "B200s are dearer by the hour and quicker"
    told = "log-probabilities of 800 pairs by the start: at most"
    assert any(told in line for line in made.lines())
    assert "2 × parameters × tokens / speed" in made.sources["reference"]
    assert json.loads(json.dumps(made.to_dict()))["reference"]["num_pairs"] == 800


def test_it_is_beside_the_trials_and_their_limits_and_before_them_on_the_clock(
    make_sweep: Make, pairs: RecipeFacts, facts: RecipeFacts
) -> None:
    made, without = (plan(make_sweep(SPACE + "budget: {usd: 9}\n", one), {"h100": 2}) for one in (pairs, facts))
    assert without.reference is None
    assert (made.gpu_hours, made.usd, made.budget) == (without.gpu_hours, without.usd, without.budget)
    assert made.wall_clock_h is not None
    assert without.wall_clock_h is not None
    assert made.wall_clock_h - without.wall_clock_h == pytest.approx(HOURS)


def test_fewer_validation_rows_are_fewer_pairs(make_sweep: Make, pairs: RecipeFacts) -> None:
    train = {**pairs.settings["train"], "validation_rows": 16}
    found = plan(make_sweep(SPACE, replace(pairs, settings={**pairs.settings, "train": train}))).reference
    assert found is not None
    assert found.num_pairs == 716


def test_each_start_has_a_pass_of_its_own(make_sweep: Make, pairs: RecipeFacts) -> None:
    text = "space: {start.adapter: 'choice(one, two, three)', optimizer.lr: 'loguniform(1e-5, 1e-2)'}\n"
    text += "pools: [h100]\nsearch: {trials: 12, start_at: null, metric: quality/exact_match}\n"
    text += "champion: {maximize: quality/exact_match}\n"
    text += "evaluate: {metrics: [exact_match]}\n"
    made = plan(make_sweep(text, pairs))
    assert made.reference is not None
    assert made.reference.num_starts == 3
    assert made.reference.hours == pytest.approx(3 * HOURS)


def test_so_does_each_of_those_that_an_earlier_stage_will_choose(
    make_sweep: Make, pairs: RecipeFacts, facts: RecipeFacts
) -> None:
    sweeps = {"sft": make_sweep(SPACE, facts), "dpo": make_sweep(SPACE, pairs)}
    made = staged_plan("shop", sweeps, {"dpo": ("sft", 3)}, Budget())
    found = made.stages["dpo"].reference
    assert found is not None
    assert found.num_starts == 3
    assert any(line.startswith("and for the log-probabilities of their starts at most") for line in made.lines())


def test_no_trial_no_pass(make_sweep: Make, pairs: RecipeFacts) -> None:
    assert reference_plan(make_sweep(SPACE, pairs), []) is None
