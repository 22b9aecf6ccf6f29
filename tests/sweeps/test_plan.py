import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from sweeps.facts import RecipeFacts
from sweeps.plan import plan, share_of_asha
from sweeps.schema import StopEarly
from sweeps.spec import Sweep

Make = Callable[..., Sweep]

SPACE = "space: {optimizer.lr: 'loguniform(1e-5, 1e-2)', lora.rank: 'choice(8, 16, 32)'}\n"


def _hours(gpus: int = 1, tflops: float = 400, startup_s: float = 60, batch: int = 8, validated: int = 100) -> float:
    train = 60 * batch * 400 * 4 * 4e6
    validation = 3 * validated * 400 * 2 * 4e6
    return (startup_s + (train + validation) / (tflops * 1e12 * gpus)) / 3600


def test_a_trial_is_priced_on_its_cheapest_pool(make_sweep: Make) -> None:
    result = plan(make_sweep(SPACE + "pools: [b200, h100]"))
    first = result.trials[0]
    assert first.pool == "h100"  # start-up dominates here, and an hour of it is cheaper
    assert first.steps == 60
    assert first.hours == first.unit_hours == pytest.approx(_hours())
    assert first.usd == pytest.approx(_hours() * 4)
    assert first.usd_max == pytest.approx(_hours(tflops=900) * 6)
    assert result.unit == "GPU"


def test_trials_that_are_chosen_later_count_as_the_mean(make_sweep: Make) -> None:
    result = plan(make_sweep(SPACE + "pools: [h100]\nsearch: {trials: 20}"))
    assert (len(result.trials), result.num_trials, result.num_chosen_later, result.chosen_by) == (10, 20, 10, "tpe")
    assert result.gpu_hours == pytest.approx(20 * _hours())
    assert result.usd == result.usd_max == pytest.approx(80 * _hours())
    assert result.expected_usd == pytest.approx(result.usd)
    assert result.share == 1.0


def test_more_gpus_take_less_time_but_not_less_start_up(make_sweep: Make) -> None:
    first = plan(make_sweep(SPACE + "pools: [h100]\nset: {parallel.gpus: 8}")).trials[0]
    assert first.hours == pytest.approx(_hours(gpus=8))
    assert first.unit_hours == pytest.approx(8 * _hours(gpus=8))


@pytest.mark.parametrize(("rows", "validated"), [(None, 100), (40, 40), (5000, 100)])
def test_no_more_rows_are_validated_than_there_are_or_the_recipe_wants(
    make_sweep: Make, facts: RecipeFacts, rows: int | None, validated: int
) -> None:
    train = {**facts.settings["train"], "validation_rows": rows}
    wanted = replace(facts, settings={**facts.settings, "train": train})
    first = plan(make_sweep(SPACE + "pools: [h100]", wanted)).trials[0]
    assert first.hours == pytest.approx(_hours(validated=validated))


def test_a_cpu_pool_counts_cores(make_sweep: Make) -> None:
    result = plan(make_sweep(SPACE + "search: {algorithm: random, trials: 4}"), {"cpu": 2})
    assert result.unit == "core"
    hours = _hours(tflops=0.02, startup_s=10)
    assert result.gpu_hours == pytest.approx(4 * hours)
    assert result.wall_clock_h == pytest.approx(2 * hours)
    mixed = plan(make_sweep(SPACE + "pools: [cpu, h100]"))
    assert mixed.unit == "GPU or core"


def test_wall_clock_uses_every_pool_and_respects_concurrency(make_sweep: Make) -> None:
    text = SPACE + "pools: [h100, b200]\nsearch: {algorithm: random, trials: 12}\n"
    h100, b200 = _hours(), _hours(tflops=900)
    units = {"h100": 4, "b200": 2}
    assert plan(make_sweep(text), units).wall_clock_h == pytest.approx(12 / (4 / h100 + 2 / b200))
    capped = plan(make_sweep(text + "concurrency: 3"), units)
    assert capped.wall_clock_h == pytest.approx(2 * 12 / (4 / h100 + 2 / b200))
    assert plan(make_sweep(text)).wall_clock_h is None
    assert plan(make_sweep(text), {}).wall_clock_h is None


@pytest.mark.parametrize(
    ("grace", "reduction", "share"),
    [
        (0.15, 3, 0.15 + 0.30 / 3 + 0.55 / 9),
        (0.5, 2, 0.5 + 0.5 / 2),
        (1.0, 3, 1.0),
        (0.25, 4, 0.25 + 0.75 / 4),
    ],
)
def test_expected_share_of_successive_halving(grace: float, reduction: float, share: float) -> None:
    assert share_of_asha(StopEarly(algorithm="asha", grace=grace, reduction=reduction)) == pytest.approx(share)


def test_early_stopping_saves_steps_but_not_start_up(make_sweep: Make) -> None:
    text = SPACE + "search: {algorithm: random, trials: 10}\nstop_early: {algorithm: asha, grace: 0.5, reduction: 2}\n"
    result = plan(make_sweep(text))
    whole, startup = _hours(tflops=0.02, startup_s=10), 10 / 3600
    share = (9 * 0.75 + 1) / 10  # the recipe's own values are spared
    assert result.gpu_hours == pytest.approx(10 * whole)
    assert result.expected_gpu_hours == pytest.approx(10 * (startup + share * (whole - startup)))
    assert result.expected_usd == pytest.approx(result.expected_gpu_hours * 0.05)
    off = plan(make_sweep(text.replace("asha", "none")))
    assert off.expected_gpu_hours == off.gpu_hours


def test_the_budget_is_compared(make_sweep: Make) -> None:
    text = SPACE + "search: {algorithm: random, trials: 10}\nbudget: {gpu_hours: 0.01, usd: 100, wall_clock: 1h}"
    limits = {limit.name: limit for limit in plan(make_sweep(text)).budget}
    assert (limits["gpu_hours"].stops, limits["usd"].stops, limits["wall_clock_h"].stops) == (True, False, None)
    assert limits["wall_clock_h"].limit == 1.0
    known = {limit.name: limit for limit in plan(make_sweep(text), {"cpu": 1}).budget}
    assert known["wall_clock_h"].stops is False
    assert plan(make_sweep(SPACE)).budget == ()


def test_every_number_says_where_it_comes_from(make_sweep: Make) -> None:
    result = plan(make_sweep(SPACE + "pools: [h100]\nstop_early: {}\nsearch: {trials: 8}"))
    assert result.sources["price of h100"] == "US$ 4 per GPU-hour, on demand, 2026-11-01: https://example.com/prices"
    assert result.sources["speed of h100"] == "400 TFLOP/s per GPU: measured"
    assert result.sources["tokens_per_row"] == "mean over 700 rows"
    assert result.sources["expected"] == "continuous halving with grace 0.1, reduction 3 trains 61% of the steps"
    small = plan(make_sweep("space: {lora.rank: 'choice(8, 16)'}\nsearch: {algorithm: grid, trials: 20}"))
    assert small.notes[1].startswith("the space has fewer distinct points than the 20 that search.trials asks for")


def test_a_plan_is_plain_json(make_sweep: Make) -> None:
    result = plan(make_sweep(SPACE), {"cpu": 2}).to_dict()
    assert json.loads(json.dumps(result)) == result
    assert {"trials", "gpu_hours", "usd", "sources"} <= set(result)
    assert set(result["trials"][0]) >= {"number", "id", "values", "pool", "steps", "hours", "usd"}


def test_a_large_plan_is_quick(make_sweep: Make) -> None:
    start = time.perf_counter()
    plan(make_sweep(SPACE + "search: {algorithm: random, trials: 1000}"))
    plan(make_sweep("space: {lora.rank: 'range(1, 1001)', lora.dropout: 'choice(0, 0.1)'}\nsearch: {trials: 600}"))
    assert time.perf_counter() - start < 5


def test_the_room_is_light() -> None:
    code = """
import sys, sweeps.spec, sweeps.plan, sweeps.design_points
heavy = {"torch", "ray", "mlflow", "optuna", "transformers", "hydra", "numpy"}
rooms = {"recipes", "tracking", "analysis", "launchers"}
print(sorted((heavy | rooms) & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
