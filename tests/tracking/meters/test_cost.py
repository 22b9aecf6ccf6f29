"""Dollars from seconds."""

from pathlib import Path

import pytest

from sweeps.facts import Pool, Speed
from sweeps.pricing import Price
from tracking.ledger import CostEntry, SweepState
from tracking.meters.cost import cost_of, idle_seconds, summary, trial_cost

H100 = Pool(
    name="h100",
    device="gpu",
    accelerator="H100",
    memory_gb=80,
    price=Price(usd_per_hour=3.6, date="2026-11-01", source="a price list"),
    speed=Speed(achieved_tflops=400, source="measured"),
    startup_s=60,
)


def state_of(*costs: CostEntry) -> SweepState:
    return SweepState("s", Path(), 0.0, {}, {}, {}, costs=list(costs))


def test_an_hour_costs_what_the_pool_says() -> None:
    entry = cost_of("training", H100, 3600, "t")
    assert (entry.kind, entry.pool, entry.unit_s, entry.usd, entry.trial) == ("training", "h100", 3600, 3.6, "t")


def test_shares_stay_apart_and_totals_hold_them_all() -> None:
    costs = [
        cost_of("training", H100, 100, "a"),
        cost_of("training", H100, 50, "b"),
        cost_of("evaluation", H100, 20, "a"),
        cost_of("idle", H100, 30),
        cost_of("failed", H100, 10, "b"),
    ]
    totals = summary(state_of(*costs))
    assert totals["training"] == {"unit_s": 150, "usd": pytest.approx(0.15)}
    assert totals["evaluation"] == {"unit_s": 20, "usd": pytest.approx(0.02)}
    assert totals["idle"]["unit_s"] == 30
    assert totals["failed"]["unit_s"] == 10
    assert totals["cost/gpu_s"] == 210
    assert totals["cost/usd"] == pytest.approx(0.21)
    assert totals["cost/idle_usd"] == pytest.approx(0.03)
    assert trial_cost(state_of(*costs), "a") == {"cost/gpu_s": 120, "cost/usd": pytest.approx(0.12)}
    assert trial_cost(state_of(*costs), "c") == {}


def test_nothing_spent() -> None:
    totals = summary(state_of())
    assert set(totals) == {"training", "evaluation", "idle", "failed", "cost/gpu_s", "cost/usd", "cost/idle_usd"}
    assert totals["cost/usd"] == 0


def test_idle_is_what_was_held_and_not_used() -> None:
    assert idle_seconds(2, 100, 150) == 50
    assert idle_seconds(2, 100, 200.01) == 0
