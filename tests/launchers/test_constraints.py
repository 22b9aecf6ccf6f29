"""Constraints while a sweep runs: who is not started, who is stopped, and what is told of it, with Ray and for real."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from launchers.build import build
from launchers.failures import Failures
from launchers.halt import Halt
from launchers.halving import Halving
from launchers.pools import LABEL
from launchers.recorder import Recorder
from sweeps.schema import Constraint
from tests.launchers.running import podium
from tests.pools import pool
from tracking.ledger import FORMAT, Ledger, State, SweepState, read
from tracking.meters.cost import trial_cost

SWEEP = """\
name: small
recipe: tiny_commerce_sft
set: {{train.max_steps: 6, train.validate_every: 2, train.validation_rows: 8, generate.max_new_tokens: 16}}
space: {{optimizer.lr: "loguniform(1e-3, 2e-2)", lora.rank: "choice(2, 4, 16)"}}
search: {{algorithm: nsga2, trials: 9, metrics: {{quality/score: max, adapter/parameters: min}}}}
stop_early: {{algorithm: none}}
evaluate: {{metrics: [shopping], dev: 8, challenge: 8, latency: {{top: 0}}}}
champion: {{minimize: val/loss, subject_to: {{{bound}}}}}
"""


def write(folder: Path, bound: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(SWEEP.format(bound=bound))
    return path


def evaluated(state: SweepState) -> set[str]:
    return {key for key, trial in state.trials.items() if any(one.split == "dev" for one in trial.evaluations)}


def charged(state: SweepState) -> set[str | None]:
    return {entry.trial for entry in state.costs}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_settings_that_break_a_constraint_are_not_trained_and_the_front_is_shown(tmp_path: Path) -> None:
    home, sweep = tmp_path / "home", write(tmp_path, 'adapter/parameters: "<= 1"')
    layers = build(sweep).sweep.facts.layers
    assert layers is not None
    per_rank = sum(map(sum, (widths for name, widths in layers.items() if name.endswith("_proj"))))
    sweep = write(tmp_path, f'adapter/parameters: "<= {4 * per_rank}"')
    run = podium(home, "submit", str(sweep))
    assert run.returncode == 0, run.stderr
    state = read(home / "runs" / "small")
    assert len(state.trials) == 9
    for trial in state.trials.values():
        refused = trial.values["lora.rank"] == 16
        assert trial.metrics["adapter/parameters"] == trial.values["lora.rank"] * per_rank
        if refused:
            assert trial.state is State.STOPPED
            assert (trial.step, trial.adapter, trial.reports) == (0, None, [])
            told = f"not started: adapter/parameters is {16 * per_rank}, must be <= {4 * per_rank}"
            assert trial.reason == told
            assert trial.id not in charged(state)
            assert told in run.stderr
        else:
            assert trial.state is State.DONE, trial.error
            assert trial.adapter is not None
            weights = state.folder / trial.adapter / "adapter_model.safetensors"
            assert numbers_in(weights) == trial.metrics["adapter/parameters"]
    assert evaluated(state) == {key for key, trial in state.trials.items() if trial.state is State.DONE}
    first = next(trial for trial in state.trials.values() if trial.number == 0)
    assert first.values["lora.rank"] == 8, "the recipe's own, which no choice of the space allows"
    assert first.state is State.DONE, "trained for the comparison, though it cannot win"
    assert state.champion is not None
    assert state.champion["champion"] != first.id
    assert len(state.champion["not_qualified"]) == 1 + sum(t.state is State.STOPPED for t in state.trials.values())
    board = json.loads(podium(home, "leaderboard", "-o", "json").stdout)
    front = {row["id"] for row in board["rows"] if row["front"]}
    assert front == non_dominated([row for row in board["rows"] if row["qualified"]])
    assert "front" in podium(home, "leaderboard").stdout
    again = podium(home, "submit", str(sweep))
    assert "nothing is left to run" in again.stderr
    assert read(home / "runs" / "small").trials.keys() == state.trials.keys()


def numbers_in(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(str(path), "numpy") as file:
        return sum(int(file.get_tensor(name).size) for name in file.keys())  # noqa: SIM118, it is no dict


def non_dominated(rows: list[dict[str, Any]]) -> set[str]:
    points = {row["id"]: (-row["quality/score"], row["adapter/parameters"]) for row in rows}
    return {
        key
        for key, (score, size) in points.items()
        if not any(other[0] <= score and other[1] <= size and other != (score, size) for other in points.values())
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_has_spent_too_much_is_stopped_and_stays_so_when_the_sweep_goes_on(tmp_path: Path) -> None:
    home, sweep = tmp_path / "home", write(tmp_path, 'cost/gpu_s: "< 0.001"')
    folder = home / "runs" / "small"
    paused = podium(home, "submit", str(sweep), "concurrency=2", "budget.wall_clock=25s")
    assert paused.returncode in (4, 6), paused.stderr  # cut short in the middle, or, on a fast machine, at its end
    before = read(folder)
    run = podium(home, "submit", str(sweep), "concurrency=2")
    assert run.returncode == 6, run.stderr  # nobody qualifies
    state = read(folder)
    assert len(state.trials) == 9
    for trial in state.trials.values():
        if trial.number == 0:
            assert trial.state is State.DONE
            continue
        assert trial.state is State.STOPPED
        assert trial.step == 2, "at its first report"
        assert trial.reason is not None
        assert trial.reason.startswith("stopped early at step 2: cost/gpu_s is at least ")
        assert trial.reason.endswith(", must be < 0.001")
        assert trial.adapter is not None
    default = next(key for key, trial in state.trials.items() if trial.number == 0)
    assert evaluated(state) == {default}
    over = {key for key, trial in before.trials.items() if trial.state is State.STOPPED and not trial.halted}
    assert all(state.trials[key].reports == before.trials[key].reports for key in over)
    wider = podium(home, "submit", str(write(tmp_path, 'cost/gpu_s: "< 1000"')))
    assert wider.returncode == 0, wider.stderr
    assert evaluated(read(folder)) == set(state.trials), "what was stopped stays, and is evaluated now that it may win"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Of a sweep with one trial, which an earlier session has charged with two unit-seconds."""
    with Ledger(tmp_path) as opened:
        opened.append("sweep", name="s", format=FORMAT, spec={}, recipe={}, facts={})
        opened.append("trial", trial="ours", number=1, values={}, pool="", max_steps=6)
        opened.append("cost", kind="failed", pool="dear", unit_s=2.0, usd=0.02, trial="ours")
        yield opened


@pytest.mark.parametrize("placed", ["dear", "cheap"])
def test_what_a_trial_has_cost_so_far_is_never_more_than_it_will_have_cost(ledger: Ledger, placed: str) -> None:
    search: Any = SimpleNamespace(trials={"tune": SimpleNamespace(id="ours", number=1)})
    halt = Halt(ledger.folder / "inbox")
    pools = (pool("dear", 36.0), pool("cheap", 3.6))
    recorder = Recorder(ledger, search, pools, 2, lambda _: None, lambda: None, halt, Failures(3, halt))
    trial = SimpleNamespace(trial_id="tune", config={"job": {"folder": "nowhere"}}, last_result={})
    told: list[dict[str, float]] = []

    def report(seconds: float, labels: dict[str, str | None]) -> None:
        result = {"step": 2, "metrics": {"val/loss": 1.0}, "seconds": seconds, "labels": labels}
        told.append(recorder.cost_so_far(trial, result))
        recorder.on_trial_result(1, [], trial, result)

    here = {LABEL: next(one.accelerator for one in pools if one.name == placed)}
    recorder.on_trial_start(1, [], trial)
    report(0.0, {})  # of its checkpoint: it does not know yet where it runs
    report(3.0, here)
    report(4.0, here)
    recorder.on_trial_recover(1, [], trial)
    recorder.on_trial_start(1, [], trial)
    report(0.0, {})
    report(5.0, here)
    trial.last_result = {"failed": "it diverged", "diverged": True}
    recorder.on_trial_complete(1, [], trial)
    price = {"dear": 0.01, "cheap": 0.001}[placed]
    usd, unit_s = [one["cost/usd"] for one in told], [one["cost/gpu_s"] for one in told]
    assert unit_s[:3] == [2, 8, 10]  # of two units
    assert usd[:3] == pytest.approx([0.02, 0.02 + 6 * price, 0.02 + 8 * price])
    assert usd == sorted(usd)
    assert unit_s == sorted(unit_s)
    end = trial_cost(ledger.read(), "ours")
    assert usd[-1] == pytest.approx(end["cost/usd"])
    assert unit_s[-1] == pytest.approx(end["cost/gpu_s"])


COST = Constraint(metric="cost/usd", op="<", bound=1.0)


def test_a_trial_is_stopped_for_what_it_has_cost_and_says_so() -> None:
    known = {f"tune-{number}": SimpleNamespace(id=f"ours-{number}", number=number) for number in range(3)}
    search: Any = SimpleNamespace(trials=known)
    spent: dict[str, float] = {}

    def cost(trial: Any, result: dict[str, Any]) -> dict[str, float]:
        return {"cost/usd": spent.get(trial.trial_id, 0.0) + result["seconds"]}

    scheduler = Halving(search, None, "val/loss", "min", "ours-0", [COST], cost)

    def report(number: int, seconds: float) -> str:
        trial = SimpleNamespace(trial_id=f"tune-{number}")
        return scheduler.on_trial_result(None, trial, {"step": 2, "val/loss": 1.0, "seconds": seconds})

    assert report(1, 0.9) == TrialScheduler.CONTINUE
    assert report(1, 1.0) == TrialScheduler.STOP
    assert scheduler.reasons == {"ours-1": "cost/usd is at least 1, must be < 1"}
    assert report(0, 5.0) == TrialScheduler.CONTINUE, "the recipe's own values are spared"
    spent["tune-2"] = 0.8  # of an attempt that failed, or of an earlier session
    assert report(2, 0.3) == TrialScheduler.STOP
    failed = SimpleNamespace(trial_id="tune-0")
    assert scheduler.on_trial_result(None, failed, {"failed": "it diverged", "seconds": 0.1}) == TrialScheduler.CONTINUE
