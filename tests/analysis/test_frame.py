import math
from pathlib import Path

import pytest

from analysis.frame import arms, curves, frame, list_sweeps, open_sweep, swept_keys
from sweeps.errors import InvalidInput
from tests.analysis.synthetic import SPEC, synthetic, trial_id
from tracking.ledger import FORMAT, Ledger, SweepState, read


def test_one_row_a_trial_with_every_swept_key_and_metric(state: SweepState) -> None:
    table = frame(state)
    assert list(table.index) == [trial_id(number) for number in range(20)]
    expected = {
        "number",
        "state",
        "pool",
        "step",
        "max_steps",
        "seconds",
        "adapter",
        "val/loss",
        "train/lr",
        "cost/usd",
    }
    assert expected | set(swept_keys(state)) <= set(table.columns)
    row = table.loc[trial_id(3)]
    trial = state.trials[trial_id(3)]
    assert row["optimizer.lr"] == trial.values["optimizer.lr"]
    assert row["val/loss"] == trial.reports[-1]["val/loss"]
    assert row["cost/gpu_s"] == pytest.approx(sum(c.unit_s for c in state.costs if c.trial == trial.id))


def test_what_was_not_measured_is_nan(state: SweepState) -> None:
    table = frame(state)
    assert table["latency/agent_p95_s"].isna().any()
    assert table["latency/agent_p95_s"].notna().any()
    assert "latency/agent_p99_s" not in table  # null everywhere


def test_a_sweep_without_trials_is_an_empty_table(home: Path) -> None:
    with Ledger(home / "runs" / "new") as ledger:
        ledger.append("sweep", name="new", format=FORMAT, spec=SPEC, recipe={}, facts={})
    state = read(home / "runs" / "new")
    assert frame(state).empty
    assert curves(state).empty
    assert arms(state).empty


def test_curves_are_long_and_a_repeated_step_is_told_once(home: Path) -> None:
    with Ledger(home / "runs" / "one") as ledger:
        ledger.append("sweep", name="one", format=FORMAT, spec=SPEC, recipe={}, facts={})
        ledger.append("trial", trial="a", number=0, values={}, pool="cpu", max_steps=4)
        for step, loss in ((2, 3.0), (4, 2.0), (4, 1.5)):
            ledger.append("report", trial="a", step=step, metrics={"train/loss": loss, "val/loss": None})
    table = curves(read(home / "runs" / "one"))
    assert list(table.columns) == ["trial", "number", "step", "train/loss", "val/loss", "train/lr"]
    assert table["step"].tolist() == [2, 4]
    assert table["train/loss"].tolist() == [3.0, 2.0]
    assert table["val/loss"].isna().all()


def test_arms_have_a_row_for_every_split(state: SweepState) -> None:
    table = arms(state).set_index(["arm", "split"])
    assert table.loc[("base+schema", "challenge"), "quality/score"] == 1.1
    assert table.loc[("base", "dev"), "n"] == 48
    assert table.loc[(trial_id(4), "challenge"), "number"] == 4
    assert math.isnan(table.loc[("base", "dev"), "number"])


def test_a_later_evaluation_takes_the_place_of_the_one_before(home: Path) -> None:
    with Ledger(home / "runs" / "one") as ledger:
        ledger.append("sweep", name="one", format=FORMAT, spec=SPEC, recipe={}, facts={})
        for n, metrics in ((90, {"a/x": 1.0}), (10, {"a/y": 2.0}), (50, {"a/x": 3.0})):
            ledger.append("evaluation", id=f"e{n}", arm="base", split="dev", n=n, metrics=metrics)
    table = arms(read(home / "runs" / "one"))
    assert len(table) == 1
    assert table.iloc[0][["n", "a/x"]].tolist() == [50, 3.0]
    assert "a/y" not in table, "of an evaluation that no longer counts"


def test_open_the_latest_or_by_name(home: Path) -> None:
    synthetic(home, "first", 1)
    synthetic(home, "second", 1)
    assert list_sweeps(home) == ["second", "first"]
    assert open_sweep(None, home).name == "second"
    assert open_sweep("first", home).name == "first"


@pytest.mark.parametrize("name", ["secnod", "../runs/second"])
def test_an_unknown_name_is_told_the_nearest(home: Path, name: str) -> None:
    synthetic(home, "second", 1)
    with pytest.raises(InvalidInput, match="second") as caught:
        open_sweep(name, home)
    assert caught.value.exit_code == 2


def test_no_sweep_yet(home: Path) -> None:
    with pytest.raises(InvalidInput, match="no sweep here yet"):
        open_sweep(None, home)
