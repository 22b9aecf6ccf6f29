"""Constraints that a trial can no longer keep: never one that it would have kept."""

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.constraints import broken_for_good, known_before, violation
from sweeps.facts import RecipeFacts
from sweeps.metrics import METRICS
from sweeps.plan import plan
from sweeps.schema import Constraint
from tests.sweeps.conftest import SETTINGS, Make

OPERATORS = ("<", "<=", ">", ">=")
numbers = st.floats(0, 1e6)
constraints = st.builds(
    Constraint, metric=st.sampled_from([one.name for one in METRICS]), op=st.sampled_from(OPERATORS), bound=numbers
)
GROWING = ("cost/gpu_s", "cost/usd")
LAYERS = {"a.q_proj": (8, 4), "a.v_proj": (2, 4), "b.q_proj": (8, 4), "b.up_proj": (16, 4)}


@given(
    st.lists(constraints, max_size=4),
    st.lists(st.dictionaries(st.sampled_from([one.name for one in METRICS]), numbers), min_size=1, max_size=8),
)
def test_a_trial_that_ends_within_its_constraints_is_never_stopped(
    bounds: list[Constraint], reports: list[dict[str, float]]
) -> None:
    so_far = []
    for metric in METRICS:
        values = [report.get(metric.name, 0.0) for report in reports]
        if metric.only_grows:
            values = list(accumulate(values))
        if metric.known_before:
            values = [values[0]] * len(values)
        so_far.append((metric.name, values))
    end = {name: values[-1] for name, values in so_far}
    for place in range(len(reports)):
        now = {name: values[place] for name, values in so_far}
        if broken_for_good(bounds, now) is not None:
            assert not all(constraint.holds(end[constraint.metric]) for constraint in bounds)


@given(st.sampled_from(OPERATORS), numbers, numbers)
def test_what_the_settings_decide_is_decided_at_once(op: str, bound: float, value: float) -> None:
    constraint = Constraint.model_validate({"metric": "adapter/parameters", "op": op, "bound": bound})
    kept = constraint.holds(value)
    assert (broken_for_good([constraint], {"adapter/parameters": value}) is None) == kept
    assert (violation(constraint, value) > 0) == (not kept)


@given(st.sampled_from(GROWING), numbers, st.lists(numbers, min_size=1))
def test_an_upper_bound_is_broken_as_soon_as_it_is_passed_and_stays_so(
    name: str, bound: float, spent: list[float]
) -> None:
    constraint = Constraint(metric=name, op="<=", bound=bound)
    broken = [broken_for_good([constraint], {name: total}) is not None for total in accumulate(spent)]
    assert broken == [total > bound for total in accumulate(spent)]
    assert broken == sorted(broken)


@pytest.mark.parametrize("name", ["val/loss", "train/loss", "quality/score", "latency/formulation_p95_s"])
@pytest.mark.parametrize("op", OPERATORS)
def test_what_may_still_change_stops_nothing(name: str, op: str) -> None:
    constraint = Constraint.model_validate({"metric": name, "op": op, "bound": 1.0})
    assert broken_for_good([constraint], {name: 0.5}) is None
    assert broken_for_good([constraint], {name: 2.0}) is None
    assert broken_for_good([constraint], {}) is None
    assert broken_for_good([constraint], {name: None}) is None


def test_it_says_what_is_broken() -> None:
    bounds = [
        Constraint(metric="cost/usd", op="<", bound=0.0125),
        Constraint(metric="adapter/parameters", op="<=", bound=2e6),
    ]
    assert broken_for_good(bounds, {"cost/usd": 0.01, "adapter/parameters": 1e6}) is None
    assert broken_for_good(bounds, {"cost/usd": 0.0125}) == "cost/usd is at least 0.0125, must be < 0.0125"
    told = "adapter/parameters is 3145728, must be <= 2000000"
    assert broken_for_good(bounds, {"adapter/parameters": 3145728.0}) == told


def test_an_adapter_has_rank_times_inputs_and_outputs_of_what_it_adapts(facts: RecipeFacts) -> None:
    known = replace(facts, layers=LAYERS)
    lora = {**SETTINGS["lora"], "rank": 3, "targets": ["*.q_proj", "a.v_proj"]}
    assert known_before({**SETTINGS, "lora": lora}, known) == {"adapter/parameters": 3 * (12 + 12 + 6)}
    elsewhere = {**SETTINGS, "lora": lora, "base": {"path": "assets/other"}}
    assert known_before(elsewhere, known) == {}, "another base has other layers"
    assert known_before({**SETTINGS, "lora": lora}, facts) == {}, "of a base that is not local nobody knows them"


SWEEP = """
set: {lora.targets: ["*_proj"]}
space: {lora.rank: "choice(2, 4, 8, 16)", optimizer.lr: "choice(0.001, 0.002)"}
search: {algorithm: grid}
champion: {minimize: val/loss, subject_to: {adapter/parameters: "<= 200"}}
"""


def test_a_plan_prices_what_will_be_trained(make_sweep: Make, facts: RecipeFacts) -> None:
    known = replace(facts, layers=LAYERS)  # 50 numbers a rank
    whole = plan(make_sweep(SWEEP, known))
    assert whole.expected_usd == whole.usd
    stopped = plan(make_sweep(SWEEP + "stop_early: {algorithm: none}", known))
    assert stopped.usd == whole.usd, "an upper bound"
    # Four of the grid's eight break the bound; the ninth, the recipe's own values of rank 16, is trained all the same.
    assert stopped.num_trials == 9
    assert stopped.expected_usd == pytest.approx(stopped.usd * 5 / 9)
    assert stopped.share == pytest.approx(5 / 9)
    told = "4 of the 9 known trials are not trained: they do not keep to adapter/parameters <= 200"
    assert told in stopped.notes
    off = plan(make_sweep(SWEEP + "stop_early: {algorithm: none, constraints: false}", known))
    assert off.expected_usd == whole.usd
