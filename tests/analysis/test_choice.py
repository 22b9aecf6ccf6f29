"""The champion, the leaderboard and the rule, by example and for all sweeps."""

import json
import math
import operator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.champion import agreement, choose, default_trial, judge, median_trial, shortlist
from analysis.comparison import comparison
from analysis.frame import frame
from analysis.leaderboard import leaderboard
from analysis.rule import Rule, rule_from_spec
from sweeps.errors import InvalidInput
from sweeps.spec import Champion, Constraint
from tests.analysis.synthetic import SPEC, trial_id
from tracking.ledger import CostEntry, Evaluation, State, SweepState, TrialState

# Few distinct values, so that ties, missing values and borders are common.
measure = st.one_of(st.none(), st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0, 2.0, 2.0 + 1e-14, 5.0]))


def a_trial(number: int, score: float | None, valid: float | None, loss: float | None, state: State) -> TrialState:
    trial = TrialState(f"t{number}", number, {"lr": number / 10}, "cpu", state, adapter="a")
    if loss is not None:
        trial.reports.append({"step": 1, "t": 0.0, "val/loss": loss})
    trial.evaluations.append(
        Evaluation("e", trial.id, "dev", 10, {"quality/score": score, "quality/json_valid": valid})
    )
    return trial


@st.composite
def sweeps(draw: st.DrawFn) -> SweepState:
    states = st.sampled_from([State.DONE, State.DONE, State.STOPPED, State.RUNNING, State.FAILED])
    trials = [
        a_trial(n, draw(measure), draw(measure), draw(measure), draw(states)) for n in range(draw(st.integers(0, 8)))
    ]
    costs = [CostEntry("training", "cpu", 1.0, draw(st.sampled_from([0.1, 0.2])), trial.id) for trial in trials]
    return SweepState("s", Path("s"), 0.0, SPEC, {}, {}, {trial.id: trial for trial in trials}, costs=costs)


def bound(op: str, limit: float) -> Constraint:
    return Constraint.model_validate({"metric": "quality/json_valid", "op": op, "bound": limit})


rules = st.builds(
    Rule,
    st.sampled_from(["quality/score", "val/loss"]),
    st.sampled_from(["max", "min"]),
    st.lists(st.builds(bound, st.sampled_from(["<", "<=", ">", ">="]), st.sampled_from([0.5, 0.99])), max_size=2).map(
        tuple
    ),
)
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@settings(max_examples=150)
@given(sweeps(), rules)
def test_a_champion_keeps_every_constraint_and_nobody_qualified_is_better(state: SweepState, rule: Rule) -> None:
    choice = choose(state, rule)
    table = frame(state)
    qualified = {
        trial.id
        for trial in state.trials.values()
        if trial.state in (State.DONE, State.STOPPED)
        and all(
            c.metric in table and OPERATORS[c.op](table.loc[trial.id, c.metric], c.bound)
            for c in choice.rule.constraints
        )
        and choice.rule.metric in table
        and not math.isnan(table.loc[trial.id, choice.rule.metric])
    }
    assert set(choice.ranking) == qualified
    if choice.champion is None:
        assert not qualified
        assert all(verdict.failures for verdict in choice.verdicts.values())
    else:
        best = max(choice.rule.goodness(table.loc[trial, choice.rule.metric]) for trial in qualified)
        tied = {trial for trial in qualified if choice.rule.goodness(table.loc[trial, choice.rule.metric]) == best}
        assert choice.champion in tied
        assert set(choice.ties) == tied
    json.dumps(choice.to_dict(), allow_nan=False)


@settings(max_examples=150)
@given(sweeps(), rules)
def test_a_leaderboard_is_a_sorted_permutation(state: SweepState, rule: Rule) -> None:
    board = leaderboard(state, rule)
    table = board.table
    assert sorted(table["id"]) == sorted(state.trials)
    assert table["qualified"].tolist() == sorted(table["qualified"], reverse=True)
    for _, group in table.groupby("qualified"):
        goodness = [-math.inf if math.isnan(value) else board.rule.goodness(value) for value in group["objective"]]
        assert goodness == sorted(goodness, reverse=True)
    ranked = table[table["rank"].notna()]
    assert len(ranked) == table["qualified"].sum()
    for rank, objective in zip(ranked["rank"], ranked["objective"], strict=True):
        better = sum(board.rule.goodness(other) > board.rule.goodness(objective) for other in ranked["objective"])
        assert rank == better + 1
    choice = choose(state, rule)
    assert choice.champion == (table["id"].iloc[0] if len(ranked) else None)
    json.dumps(board.to_dict(), allow_nan=False)
    assert len(board.to_csv().splitlines()) == len(state.trials) + 1


@given(sweeps())
@settings(max_examples=50)
def test_the_outcome_does_not_hang_on_the_order_of_events(state: SweepState) -> None:
    turned = replace(state, trials=dict(reversed(state.trials.items())))
    assert choose(turned).ranking == choose(state).ranking
    assert median_trial(turned) == median_trial(state)


def sweep_of(*trials: TrialState, spec: dict[str, Any] | None = None) -> SweepState:
    return SweepState("s", Path("s"), 0.0, spec or SPEC, {}, {}, {trial.id: trial for trial in trials})


def test_constraints_come_before_the_objective() -> None:
    choice = choose(sweep_of(a_trial(0, 5.0, 0.5, 1.0, State.DONE), a_trial(1, 2.0, 1.0, 1.0, State.DONE)))
    assert choice.champion == "t1"
    assert choice.verdicts["t0"].failures == ("quality/json_valid is 0.5, must be >= 0.9",)


def test_none_qualifies_says_why_for_every_trial() -> None:
    running = a_trial(2, 3.0, 1.0, 1.0, State.RUNNING)
    state = sweep_of(a_trial(0, 5.0, 0.5, 1.0, State.DONE), a_trial(1, 2.0, None, 1.0, State.DONE), running)
    choice = choose(state)
    assert choice.champion is None
    why = "\n".join(choice.why)
    assert "Trial 0: quality/json_valid is 0.5, must be >= 0.9." in why
    assert "Trial 1: quality/json_valid is not measured, must be >= 0.9." in why
    assert "Trial 2: is RUNNING." in why


def test_ties_are_shown_and_broken_by_loss() -> None:
    state = sweep_of(*(a_trial(number, 4.0, 1.0, loss, State.DONE) for number, loss in enumerate((0.5, 0.3, 0.4))))
    choice = choose(state)
    assert choice.champion == "t1"
    assert choice.ties == ("t1", "t2", "t0")
    assert any(
        "ties with trial 2, 0; the lower validation loss decides (0.3 against 0.4)" in line for line in choice.why
    )
    assert leaderboard(state).table["rank"].tolist() == [1, 1, 1]


def test_ties_go_on_to_cost_and_number() -> None:
    state = sweep_of(*(a_trial(number, 4.0, 1.0, 0.5, State.DONE) for number in range(3)))
    assert choose(state).champion == "t0"
    state.costs += [CostEntry("training", "cpu", 1.0, usd, f"t{number}") for number, usd in enumerate((3.0, 2.0, 2.0))]
    assert choose(state).champion == "t1"


def test_without_evaluations_the_loss_decides_and_it_says_so() -> None:
    trials = [a_trial(number, None, None, loss, State.DONE) for number, loss in enumerate((0.5, 0.3))]
    spec = {**SPEC, "champion": {}}
    choice = choose(sweep_of(*trials, spec=spec))
    assert choice.champion == "t1"
    assert choice.rule == Rule("val/loss", "min")
    assert "the choice is by the lowest val/loss" in choice.why[0]


def test_a_failed_evaluation_is_no_reason_to_use_another_metric() -> None:
    spec = {**SPEC, "champion": {"maximize": "e2e/score"}}
    choice = choose(sweep_of(a_trial(0, 4.0, 1.0, 0.5, State.DONE), spec=spec))
    assert choice.champion is None
    assert "e2e/score is not measured" in choice.why[-1]


def test_a_trial_without_an_adapter_does_not_qualify() -> None:
    trial = a_trial(0, 4.0, 1.0, 0.5, State.DONE)
    trial.adapter = None
    assert judge(sweep_of(trial), Rule("quality/score", "max"))["t0"].failures == ("is DONE and left no adapter",)


def test_the_shortlist_forgives_what_is_not_measured_yet() -> None:
    spec = {**SPEC, "champion": {"maximize": "quality/score", "subject_to": {"latency/agent_p95_s": "< 2"}}}
    trials = [a_trial(number, float(number), 1.0, 0.5, State.DONE) for number in range(4)]
    trials[3].evaluations.append(Evaluation("l", "t3", "latency", 90, {"latency/agent_p95_s": 2.5}))
    state = sweep_of(*trials, spec=spec)
    assert choose(state).champion is None
    assert shortlist(state, 2) == ["t2", "t1"]


def test_agreement_is_one_when_lower_loss_means_a_higher_score() -> None:
    trials = [a_trial(number, 1.0 + number, 1.0, 1.0 / (number + 1), State.DONE) for number in range(5)]
    assert agreement(sweep_of(*trials)) == {"spearman": pytest.approx(1.0), "n": 5}
    turned = [a_trial(number, 1.0 + number, 1.0, 1.0 + number, State.DONE) for number in range(5)]
    assert agreement(sweep_of(*turned)) == {"spearman": pytest.approx(-1.0), "n": 5}
    assert agreement(sweep_of(*trials[:2])) == {"spearman": None, "n": 2}


def test_agreement_is_scipys(state: SweepState) -> None:
    stats = pytest.importorskip("scipy.stats")
    table = frame(state)
    expected = -stats.spearmanr(table["val/loss"], table["quality/score"]).statistic
    assert agreement(state)["spearman"] == pytest.approx(expected)


def test_the_median_is_the_worse_of_the_middle_two() -> None:
    trials = [a_trial(number, score, 1.0, 0.5, State.DONE) for number, score in enumerate((4.0, 1.0, 3.0, 2.0))]
    state = sweep_of(*trials)
    assert median_trial(state) == "t3"
    assert median_trial(state, Rule("quality/score", "min")) == "t2"
    assert median_trial(sweep_of()) is None


def test_the_comparison_names_every_arm_with_n(state: SweepState) -> None:
    choice = choose(state)
    table = comparison(state, choice).set_index("role")
    assert list(table.index) == ["base", "base+schema", "default", "median", "champion"]
    assert (table["n"] == 48).all()
    assert table["quality/score"].idxmax() == "champion"
    assert table.loc["default", "arm"] == default_trial(state) == trial_id(0)


@pytest.mark.parametrize(
    ("champion", "rule"),
    [
        ({}, Rule("quality/score", "max")),
        ({"maximize": None, "minimize": "val/loss"}, Rule("val/loss", "min")),
        (
            {"maximize": "e2e/score", "subject_to": {"latency/agent_p95_s": "<2.0"}},
            Rule("e2e/score", "max", (Constraint(metric="latency/agent_p95_s", op="<", bound=2.0),)),
        ),
    ],
)
def test_the_rule_is_read_from_the_stored_spec(champion: dict[str, Any], rule: Rule) -> None:
    assert rule_from_spec({"champion": champion}) == rule


def test_a_dumped_spec_gives_the_same_rule() -> None:
    written = {
        "maximize": "quality/score",
        "subject_to": {"quality/json_valid": ">= 0.99", "latency/ttft_p95_s": "< 1e-1"},
    }
    dumped = json.loads(Champion.model_validate(written).model_dump_json())
    assert rule_from_spec({"champion": dumped}) == rule_from_spec({"champion": written})
    assert str(rule_from_spec({"champion": dumped})) == (
        "highest quality/score, subject to quality/json_valid >= 0.99 and latency/ttft_p95_s < 0.1"
    )


@pytest.mark.parametrize("limit", ["0.99", "= 1", ">= much"])
def test_a_bound_that_cannot_be_read_is_quoted(limit: str) -> None:
    with pytest.raises(InvalidInput, match=f'champion.subject_to.quality/score: must be a bound, but got "?{limit}'):
        rule_from_spec({"champion": {"subject_to": {"quality/score": limit}}})


@pytest.mark.parametrize(
    ("evaluate", "metric"),
    [
        ({"metrics": ["exact_match"]}, "quality/exact_match"),
        ({"metrics": ["exact_match", "field_f1"]}, "quality/field_f1"),
        ({"metrics": ["json_schema"]}, "quality/score"),
        ({"pipeline": "commerce"}, "e2e/score"),
        ({"metrics": ["shopping"], "pipeline": "commerce"}, "quality/score"),
        ({"metrics": ["of an older version"]}, "quality/score"),
    ],
)
def test_without_an_objective_the_sweeps_own_score_is_it(evaluate: dict[str, object], metric: str) -> None:
    assert rule_from_spec({"evaluate": evaluate}) == Rule(metric, "max")
