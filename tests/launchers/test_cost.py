"""The cost of real sessions: shares that add up to what was held, whoever dies; ``podium cost`` as a user has it."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launchers.allocation import DECISION, STARTUP, TRIALS, charge_idle, charge_lost_session, charge_work, hold
from launchers.build import build
from launchers.serving_costs import record_serving_costs
from tests.launchers.running import Finished, podium, write_sweep
from tests.pools import pool
from tracking.ledger import FORMAT, Ledger, State
from tracking.meters.cost import Kind, allocation, charge, cost_of, shares

CPU = pool("cpu", 3.6)


def test_the_shares_of_a_sweep_add_up_to_units_times_wall_clock(finished: Finished) -> None:
    state = finished.state
    lines = [json.loads(line) for line in (state.folder / "ledger.jsonl").read_text().splitlines()]
    [begin], [end] = ([line["t"] for line in lines if line["event"] == name] for name in ("begin", "end"))
    [units] = [line["units"] for line in lines if line["event"] == "units"]
    held = sum(units.values()) * (end - begin)
    assert allocation(state) == {"cpu": pytest.approx(held)}
    found = shares(state)
    assert sum(share.unit_s for share in found.values()) == pytest.approx(held, rel=0.01)
    working = sum(share.unit_s for kind, share in found.items() if kind != "idle")
    assert 0 < working <= held, "nothing is charged twice: idle is not what was cut off at 0"
    assert {entry.what for entry in state.costs if entry.kind == "idle"} == {STARTUP, TRIALS, DECISION}
    charged = {entry.what for entry in state.costs if entry.kind == "evaluation"}
    assert charged == {"dev", "latency", "challenge", "export"}


def test_cost_tells_where_it_went_in_all_forms(finished: Finished) -> None:
    state = finished.state
    told = json.loads(podium(finished.home, "cost", "-o", "json").stdout)
    assert told["usd"] == told["cost/usd"] == pytest.approx(sum(entry.usd for entry in state.costs))
    assert sum(part["usd"] for part in told["parts"]) == pytest.approx(told["usd"])
    assert told["covered"] == pytest.approx(1, rel=0.01)
    assert told["energy_j"] is None
    assert told["foretold"]["expected_usd"] > 0
    assert told["prices"]["cpu"]["price"]["date"]
    rows = list(csv.DictReader(io.StringIO(podium(finished.home, "cost", "-o", "csv").stdout)))
    by_kind = {row["kind"]: float(row["usd"]) for row in rows}
    assert by_kind["total"] == pytest.approx(told["usd"])
    assert by_kind["machines"] == pytest.approx(sum(by_kind[kind] for kind in told["shares"]))
    text = podium(finished.home, "cost").stdout
    for word in ("where the money went", "the shares add up to 100.0%", "2026-11-01", "energy: not measured"):
        assert word in text


def test_another_price_list_and_a_stated_traffic_need_no_new_sweep(finished: Finished, tmp_path: Path) -> None:
    prices = tmp_path / "ours.yaml"
    prices.write_text("cpu: {usd_per_hour: 1.8, date: 2026-11-20, source: our contract}\n")
    told = json.loads(podium(finished.home, "cost", "--prices", str(prices), "-o", "json").stdout)
    held = sum(share["unit_s"] for share in told["shares"].values())
    assert told["machine_usd"] == pytest.approx(held * 1.8 / 3600)
    serving = ("cost", "--serving", "--traffic", "peak_rps=50", "--traffic", "mean_rps=20", "--prices", str(prices))
    told = json.loads(podium(finished.home, *serving, "-o", "json").stdout)
    base = next(one for one in told["arms"] if one["arm"] == "base")
    assert base["monthly_usd"] == pytest.approx(base["replicas"] * 1.8 * 730)
    assert base["usd_per_1k_requests"] == pytest.approx(base["monthly_usd"] / (20 * 3.6 * 730))
    assert any("against base on latency requests, n = 7" in (one["change"] or "") for one in told["arms"])


@pytest.fixture
def running(tmp_path: Path) -> Callable[..., Ledger]:
    """The ledger of a session that holds two cores."""

    def begin(ledger: Ledger, trials: int = 0) -> Ledger:
        facts = {"pools": {"cpu": CPU.model_dump(mode="json")}}
        recipe = {"parallel": {"gpus": 1}}
        ledger.append("sweep", name="s", format=FORMAT, spec={}, recipe=recipe, facts=facts)
        ledger.append("begin", host="h", pid=1)
        hold(ledger, {"cpu": 2})
        for number in range(trials):
            name = f"t{number}"
            ledger.append("trial", trial=name, number=number, values={}, pool="cpu", max_steps=9)
            ledger.append("state", trial=name, state=State.RUNNING)
        return ledger

    return begin


def test_a_session_is_charged_whole_whatever_was_done_in_it(running: Any, tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        running(ledger)
        charge(ledger, cost_of("evaluation", CPU, 0.001, "base", "dev"))
        charge_work(ledger, "evaluation", "export", 0.0005, "t0")
        charge_idle(ledger, TRIALS)
        charge_idle(ledger, DECISION)
        ledger.append("end", status="DONE")
        state = ledger.read()
    held = allocation(state)["cpu"]
    # The clock of an event is in whole milliseconds.
    assert sum(entry.unit_s for entry in state.costs) == pytest.approx(held, abs=0.02)
    assert next(entry.unit_s for entry in state.costs if entry.what == "export") == pytest.approx(0.001)


@pytest.mark.parametrize("trials", [1, 2, 6])
def test_a_killed_session_is_charged_to_when_it_was_last_heard_of(running: Any, tmp_path: Path, trials: int) -> None:
    """Six trials that shared two cores are charged two cores: up to their last reports as training, then as lost."""
    with Ledger(tmp_path) as ledger:
        running(ledger, trials)
        state = ledger.read()
        begun = state.sessions[0].began
        for one in state.trials.values():
            one.running_since = begun + 1
            one.reports.append({"step": 3, "t": begun + 6})
        state.sessions[0] = replace(state.sessions[0], last=begun + 11)
        ledger.append("begin", host="h", pid=2)
        charge_lost_session(ledger, state)
        after = ledger.read()
    spent: dict[Kind, float] = {kind: share.unit_s for kind, share in shares(after).items()}
    assert sum(spent.values()) == pytest.approx(22, abs=0.1)
    assert spent["training"] == pytest.approx(spent["retried"], abs=0.1)
    assert spent["training"] + spent["retried"] == pytest.approx(min(trials * 10, 22), abs=0.1)
    assert {entry.session for entry in after.costs} == {1}


def test_serving_is_recorded_once_for_each_arm_that_was_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    built = build(write_sweep(tmp_path, more="traffic: {peak_rps: 50, mean_rps: 20, min_replicas: 2}\n"))
    said: list[str] = []
    with Ledger(tmp_path / "run") as ledger:
        ledger.append("sweep", name="s", format=FORMAT, spec={}, recipe={}, facts={})
        ledger.append("trial", trial="t0", number=0, values={}, pool="cpu", max_steps=9)
        latency: dict[str, Any] = {"split": "latency", "n": 7}
        ledger.append("evaluation", id="a", arm="base", **latency, metrics={"latency/goodput_rps": 6.5})
        ledger.append("evaluation", id="b", arm="t0", **latency, metrics={"latency/goodput_rps": 0.0})
        for _ in range(2):
            record_serving_costs(built, ledger, said.append)
        state = ledger.read()
    [base], [trial] = (
        [one for one in of if one.split == "serving"] for of in (state.arms["base"], state.trials["t0"].evaluations)
    )
    assert base.metrics["cost/monthly_usd"] == pytest.approx(10 * 0.05 * 730)
    assert (base.n, base.detail["replicas"], base.detail["price"]["date"]) == (7, 10, "2026-11-01")
    assert trial.metrics == {"cost/monthly_usd": None, "cost/usd_per_1k_requests": None}
    assert len(said) == 1
    assert "none is answered within the limits" in said[0]
    assert state.arms["base"][-1].id == base.id
    assert not any(state.superseded.values())
