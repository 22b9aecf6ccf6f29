"""Early stopping behind Tune: rules are told our ids and the better side, and know what earlier sessions reported."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from launchers.build import build
from launchers.halving import Halving, Rule, make_rule, make_scheduler
from sweeps.fields import Mode
from sweeps.schema import StopEarly
from sweeps.stopping import stops

MAX_STEPS = 40
EVERY = 4
RULES: dict[str, Callable[[], Rule]] = {
    name: lambda early=early: make_rule(early, MAX_STEPS)  # type: ignore[misc]
    for name, early in {
        "continuous": StopEarly(),
        "continuous, reduction 2": StopEarly(grace=0.2, reduction=2),
        "asha": StopEarly(algorithm="asha", grace=0.2, reduction=2),
    }.items()
}
names = st.sampled_from(sorted(RULES))
reports = st.lists(st.tuples(st.integers(0, 5), st.floats(0.01, 10)), min_size=1, max_size=40)


class Stage:
    """A scheduler with trials that Tune knows as ``tune-N`` and we as ``ours-N``."""

    def __init__(self, rule: Rule, mode: Mode = "min", session: int = 0, spared: str | None = None) -> None:
        self.session = session
        known = {f"tune-{session}-{n}": SimpleNamespace(id=f"ours-{n}", number=n) for n in range(6)}
        search: Any = SimpleNamespace(trials=known)
        self.scheduler = Halving(search, rule, "val/loss", mode, spared)

    def report(self, number: int, step: int, loss: float) -> str:
        trial = SimpleNamespace(trial_id=f"tune-{self.session}-{number}")
        return self.scheduler.on_trial_result(None, trial, {"step": step, "val/loss": loss})


def with_steps(told: list[tuple[int, float]]) -> list[tuple[int, int, float]]:
    """Each trial's reports at its next boundary, as far as it trains."""
    at: dict[int, int] = {}
    found = []
    for number, loss in told:
        at[number] = at.get(number, 0) + EVERY
        if at[number] < MAX_STEPS:
            found.append((number, at[number], loss))
    return found


@given(names, reports, st.integers(0, 40))
def test_recalling_reports_is_as_having_seen_them(name: str, told: list[tuple[int, float]], cut: int) -> None:
    steps = with_steps(told)
    seen, recalled = Stage(RULES[name]()), Stage(RULES[name](), session=1)
    for number, step, loss in steps[:cut]:
        seen.report(number, step, loss)
        recalled.scheduler.recall(f"ours-{number}", [{"step": step, "val/loss": loss, "t": 1.0}])
    for number, step, loss in steps[cut:]:
        assert seen.report(number, step, loss) == recalled.report(number, step, loss)


@given(reports)
def test_asha_is_rays(told: list[tuple[int, float]]) -> None:
    ours = Stage(make_rule(StopEarly(algorithm="asha", grace=0.2, reduction=2), MAX_STEPS))
    rays = AsyncHyperBandScheduler(
        time_attr="step", metric="val/loss", mode="min", max_t=MAX_STEPS + 1, grace_period=8, reduction_factor=2
    )
    trials = [SimpleNamespace(trial_id=str(number)) for number in range(6)]
    for trial in trials:
        rays.on_trial_add(None, trial)
    for number, step, loss in with_steps(told):
        expected = rays.on_trial_result(None, trials[number], {"step": step, "val/loss": loss})
        assert ours.report(number, step, loss) == expected


@given(reports)
def test_continuous_is_the_pure_rule(told: list[tuple[int, float]]) -> None:
    stage, curves = Stage(make_rule(StopEarly(), MAX_STEPS)), dict[str, dict[int, float]]()
    for number, step, loss in with_steps(told):
        curves.setdefault(str(number), {})[step] = loss
        expected = TrialScheduler.STOP if stops(curves, str(number), 4, 3) else TrialScheduler.CONTINUE
        assert stage.report(number, step, loss) == expected


@given(names, reports)
def test_the_other_side_of_a_metric_is_its_mirror(name: str, told: list[tuple[int, float]]) -> None:
    low, high = Stage(RULES[name]()), Stage(RULES[name](), mode="max")
    for number, step, loss in with_steps(told):
        assert low.report(number, step, loss) == high.report(number, step, -loss)


@given(names, st.lists(st.lists(st.floats(0.01, 10), min_size=10, max_size=10), min_size=1, max_size=6), st.data())
def test_whatever_is_reported_some_trial_comes_to_its_end(name: str, losses: list[list[float]], data: Any) -> None:
    stage, running, ended = Stage(RULES[name]()), dict.fromkeys(range(len(losses)), 0), 0
    while running:
        number = data.draw(st.sampled_from(sorted(running)))
        running[number] += 1
        step = running[number] * EVERY
        if step == MAX_STEPS:
            ended += 1
        if step == MAX_STEPS or stage.report(number, step, losses[number][running[number] - 1]) == TrialScheduler.STOP:
            del running[number]
    assert ended > 0


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_result_without_the_metric_ends_nothing_and_is_not_kept(name: str) -> None:
    stage, trial = Stage(RULES[name]()), SimpleNamespace(trial_id="tune-0-0")
    failed = {"failed": "the training loss is nan at step 3", "done": True}
    assert stage.scheduler.on_trial_result(None, trial, failed) == TrialScheduler.CONTINUE
    stage.scheduler.on_trial_complete(None, trial, failed)
    stage.scheduler.recall("ours-1", [{"step": 8, "train/loss": 1.0}])
    assert stage.report(2, 8, 1.0) == TrialScheduler.CONTINUE


def test_a_trial_that_came_to_its_end_counts_for_the_others() -> None:
    stage = Stage(make_rule(StopEarly(), MAX_STEPS))
    for step in range(EVERY, MAX_STEPS, EVERY):
        assert stage.report(0, step, 1.0) == TrialScheduler.CONTINUE
    stage.scheduler.on_trial_complete(None, SimpleNamespace(trial_id="tune-0-0"), {"step": 40, "val/loss": 1.0})
    assert stage.report(1, EVERY, 1.1) == TrialScheduler.STOP
    assert stage.report(2, EVERY, 0.9) == TrialScheduler.CONTINUE


@given(reports)
def test_the_default_recipe_is_spared_and_counts_all_the_same(told: list[tuple[int, float]]) -> None:
    spared, plain = Stage(make_rule(StopEarly(), MAX_STEPS), spared="ours-0"), Stage(make_rule(StopEarly(), MAX_STEPS))
    for number, step, loss in with_steps(told):
        decided = plain.report(number, step, loss)
        assert spared.report(number, step, loss) == (TrialScheduler.CONTINUE if number == 0 else decided)


SWEEP = "name: s\nrecipe: tiny_commerce_sft\nspace: {lora.rank: 'choice(4, 8)'}\n"


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        ("", "FIFOScheduler"),
        ("stop_early: {algorithm: none}", "FIFOScheduler"),
        ("stop_early: {grace: 0.2}", "Halving"),
    ],
)
def test_the_sweep_says_whether_there_is_a_rule(block: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SWEEP + block)
    assert type(make_scheduler(build(path).sweep, None, dict)).__name__ == kind  # type: ignore[arg-type]
