"""Dollars from seconds: shares that stay apart and add up to what was held."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pools import pool
from tracking.ledger import CostEntry, Evaluation, Ledger, Session, State, SweepState, TrialState
from tracking.meters.cost import (
    DECIDING,
    KINDS,
    allocation,
    charge,
    cost_of,
    idle_seconds,
    judge_tokens,
    kind_of,
    shares,
    summary,
    trial_cost,
)

H100 = pool("h100", 3.6)


def state_of(*costs: CostEntry, **fields: Any) -> SweepState:
    return SweepState("s", Path(), 0.0, {}, {}, {}, costs=list(costs), **fields)


def trial(name: str, state: State = State.DONE, *evaluations: Evaluation) -> TrialState:
    return TrialState(name, 0, {}, "h100", state=state, evaluations=list(evaluations))


def judged(arm: str, tokens: int | None, usd: float | None, saved: float | None = 0.0) -> Evaluation:
    metrics = {"judge/tokens": tokens, "judge/usd": usd, "judge/usd_saved": saved}
    return Evaluation(f"{arm}-dev", arm, "dev", 8, metrics)


def test_an_hour_costs_what_the_pool_says() -> None:
    entry = cost_of("training", H100, 3600, "t")
    assert (entry.kind, entry.pool, entry.unit_s, entry.usd, entry.trial) == ("training", "h100", 3600, 3.6, "t")


def test_shares_stay_apart_and_totals_hold_them_all() -> None:
    costs = [
        cost_of("training", H100, 100, "a"),
        cost_of("training", H100, 50, "b"),
        cost_of("evaluation", H100, 20, "a"),
        cost_of("idle", H100, 30),
        cost_of("retried", H100, 10, "b"),
    ]
    totals = summary(state_of(*costs))
    assert totals["training"] == {"unit_s": 150, "usd": pytest.approx(0.15)}
    assert totals["evaluation"] == {"unit_s": 20, "usd": pytest.approx(0.02)}
    assert totals["idle"]["unit_s"] == 30
    assert totals["retried"]["unit_s"] == 10
    assert totals["cost/gpu_s"] == 210
    assert totals["cost/usd"] == pytest.approx(0.21)
    assert totals["cost/idle_usd"] == pytest.approx(0.03)
    assert trial_cost(state_of(*costs), "a") == {"cost/gpu_s": 120, "cost/usd": pytest.approx(0.12)}
    assert trial_cost(state_of(*costs), "c") == {}


@pytest.mark.parametrize("what", DECIDING)
def test_trials_are_not_compared_by_what_only_the_best_go_through(what: str) -> None:
    costs = [cost_of("training", H100, 100, "a"), cost_of("evaluation", H100, 20, "a", "dev")]
    before, late = trial_cost(state_of(*costs), "a"), cost_of("evaluation", H100, 500, "a", what)
    assert trial_cost(state_of(*costs, late), "a") == before
    assert summary(state_of(*costs, late))["cost/gpu_s"] == 620, "it is the sweep's"


def test_nothing_spent() -> None:
    totals = summary(state_of())
    assert set(totals) == {*KINDS, "cost/gpu_s", "cost/usd", "cost/idle_usd", "cost/judge_usd"}
    assert totals["cost/usd"] == 0


def test_all_of_a_trial_that_failed_is_failed_and_training_that_retry_did_again_is_retried() -> None:
    costs = [
        cost_of("training", H100, 100, "a"),
        cost_of("failed", H100, 10, "a"),
        cost_of("failed", H100, 5, "a", "challenge"),
    ]
    failed = state_of(*costs, trials={"a": trial("a", State.FAILED)})
    assert [kind_of(failed, entry) for entry in costs] == ["failed"] * 3
    mended = state_of(*costs, trials={"a": trial("a")})
    assert [kind_of(mended, entry) for entry in costs] == ["training", "retried", "failed"]


def test_verdicts_are_on_top_of_the_machines() -> None:
    state = state_of(cost_of("training", H100, 100, "a"), trials={"a": trial("a", State.DONE, judged("a", 900, 0.25))})
    state.trials["a"].superseded.append(judged("a", 100, 0.05, 0.01))
    assert trial_cost(state, "a") == {"cost/gpu_s": 100, "cost/usd": pytest.approx(0.1 + 0.3)}
    assert summary(state)["cost/judge_usd"] == pytest.approx(0.3)
    assert summary(state)["cost/usd"] == pytest.approx(0.4)


def test_verdicts_without_a_price_have_tokens_and_no_dollars() -> None:
    found = judge_tokens([judged("a", 900, None), judged("b", 100, 0.5), Evaluation("x", "a", "dev", 8, {})])
    assert (found.tokens, found.usd, found.evaluations) == (1000, None, 2)
    assert judge_tokens([judged("a", None, None)]).tokens is None


def test_energy_is_known_where_all_of_it_was_measured() -> None:
    metered = cost_of("training", H100, 100, "a", energy_j=7e4)
    found = shares(state_of(metered, replace(metered, energy_j=3e4), cost_of("evaluation", H100, 5, "a")))
    assert found["training"].energy_j == pytest.approx(1e5)
    assert found["evaluation"].energy_j is None


def test_a_ledger_gives_back_what_was_charged_and_by_which_session(tmp_path: Path) -> None:
    from tracking.ledger import FORMAT

    with Ledger(tmp_path) as ledger:
        ledger.append("sweep", name="s", format=FORMAT, spec={}, recipe={}, facts={})
        ledger.append("begin", host="h", pid=1)
        ledger.append("units", units={"h100": 8})
        charge(ledger, cost_of("evaluation", H100, 10, "base", "dev", 500.0))
        charge(ledger, cost_of("training", H100, 0.0, "a"))
        ledger.append("begin", host="h", pid=2)
        charge(ledger, cost_of("idle", H100, 5, what="trials"), session=1)
        charge(ledger, cost_of("idle", H100, 7, what="start-up"))
        state = ledger.read()
    assert [(one.kind, one.unit_s, one.what, one.session) for one in state.costs] == [
        ("evaluation", 10, "dev", 1),
        ("idle", 5, "trials", 1),
        ("idle", 7, "start-up", 2),
    ]
    assert (state.costs[0].trial, state.costs[0].energy_j) == ("base", 500.0)
    assert [session.units for session in state.sessions] == [{"h100": 8}, {}]


def test_idle_is_what_was_held_and_not_used() -> None:
    assert idle_seconds(2, 100, 150) == 50
    assert idle_seconds(2, 100, 200.01) == 0


@given(
    units=st.integers(1, 64),
    wall_s=st.floats(0, 1e6),
    parts=st.lists(st.tuples(st.sampled_from([kind for kind in KINDS if kind != "idle"]), st.floats(0, 1)), max_size=9),
    failed=st.booleans(),
)
def test_shares_add_up_to_what_was_held(
    units: int, wall_s: float, parts: list[tuple[Any, float]], failed: bool
) -> None:
    whole = max(1.0, sum(part for _, part in parts))
    costs = [cost_of(kind, H100, units * wall_s * part / whole, "a") for kind, part in parts]
    costs.append(cost_of("idle", H100, idle_seconds(units, wall_s, sum(entry.unit_s for entry in costs))))
    session = Session(100.0, 1, "h", 1, 100.0, ended=100.0 + wall_s, units={"h100": units})
    arm = trial("a", State.FAILED if failed else State.DONE)
    state = state_of(*costs, trials={"a": arm}, sessions=[session])
    held = allocation(state)["h100"]
    assert sum(share.unit_s for share in shares(state).values()) == pytest.approx(held, rel=1e-6, abs=1e-3)
    assert sum(share.usd for share in shares(state).values()) == pytest.approx(held / 1000, rel=1e-6, abs=1e-6)
