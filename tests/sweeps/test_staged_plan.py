"""The plan of a staged sweep: the stages' own, summed up, against the budget of all."""

import pytest

from sweeps.plan import plan
from sweeps.schema import Budget
from sweeps.spec import Sweep
from sweeps.staged_plan import staged_plan
from tests.sweeps.conftest import Make

SFT = "pools: [h100]\nspace: {lora.rank: choice(8, 16)}\nsearch: {trials: 8}\n"
DPO = "pools: [h100]\nspace: {optimizer.lr: loguniform(1e-5, 1e-3)}\nsearch: {trials: 4}\n"


@pytest.fixture
def sweeps(make_sweep: Make) -> dict[str, Sweep]:
    return {"sft": make_sweep(SFT), "dpo": make_sweep(DPO)}


def test_a_plan_is_the_sum_of_its_stages(sweeps: dict[str, Sweep]) -> None:
    made = staged_plan("shop", sweeps, {"dpo": ("sft", 1)}, Budget())
    alone = [plan(sweep) for sweep in sweeps.values()]
    for key in ("num_trials", "gpu_hours", "usd", "usd_max", "expected_usd"):
        assert made.total[key] == pytest.approx(sum(getattr(one, key) for one in alone))
    assert list(made.stages) == ["sft", "dpo"]
    assert made.budget == ()
    assert made.wall_clock_h is None


@pytest.mark.parametrize(("share", "stops"), [(0.99, True), (1.01, False)])
def test_the_budget_of_all_is_held_against_the_sum(sweeps: dict[str, Sweep], share: float, stops: bool) -> None:
    usd = sum(plan(sweep).usd for sweep in sweeps.values())
    made = staged_plan("shop", sweeps, {}, Budget(usd=share * usd))
    assert [limit.stops for limit in made.budget] == [stops]
    said = "it would stop the sweep" if stops else "enough"
    assert any(line.startswith("budget usd of all stages") and line.endswith(said) for line in made.lines())


def test_what_is_not_known_yet_is_said(sweeps: dict[str, Sweep]) -> None:
    lines = list(staged_plan("shop", sweeps, {"dpo": ("sft", 3)}, Budget()).lines())
    assert lines[-1].startswith("dpo starts from the best 3 of sft, which is not known yet")
