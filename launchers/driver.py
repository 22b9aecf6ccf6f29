"""The driver of a sweep: lets Ray Tune choose and stop trials, and evaluates what they leave.

It writes the ledger, and nothing else decides anything from memory: tables, MLflow and reports read the ledger.
It loads no torch: training and evaluation happen in other processes.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from launchers import pools
from launchers.arms import Arms
from launchers.build import Built
from launchers.cluster import num_cores
from launchers.evaluators import Evaluators
from launchers.halt import Halt
from launchers.run_folder import validation_file
from recipes.bases import locate
from recipes.schema import Recipe
from sweeps.design_points import planned_points
from sweeps.trial import Trial, make_trial
from tracking.ledger import Ledger
from tracking.meters.cost import cost_of, idle_seconds

BUDGET_SHARE = 0.9  # of a budget goes to trials; the rest is kept for evaluation and export
REFRESH_S = 1.0

Say = Callable[[str], None]


def tune_trials(
    built: Built, paths: dict[str, Path], ledger: Ledger, halt: Halt, say: Say, nodes: list[dict[str, Any]]
) -> int:
    """Run the trials and evaluate what they leave, to the last one or until ``halt``; return how many run at once."""
    from ray import tune

    from launchers.recorder import Recorder
    from launchers.search import DistinctSearch, Slots
    from launchers.trainable import TrialRunner

    sweep = built.sweep
    spec, recipe = sweep.spec, Recipe.model_validate(sweep.settings)
    gpu = sweep.pools[0].device == "gpu"
    units = recipe.parallel.gpus if gpu else 1
    have = pools.require(sweep.pools, units, nodes)
    capacity = sum(count // units for count in have.values())
    slots = Slots(min(capacity, spec.concurrency or capacity))
    design = planned_points(sweep)
    if design.exhausted:
        say(f"the space has only {design.num_trials} distinct trials, fewer than search.trials = {spec.search.trials}")
    folder = ledger.folder

    def make_config(trial: Trial) -> dict[str, Any]:
        trial_folder = folder / "trials" / trial.id
        trial_folder.mkdir(parents=True, exist_ok=True)
        (trial_folder / "trial.yaml").write_text(yaml.safe_dump(trial.settings, sort_keys=False))
        base = locate(Recipe.model_validate(trial.settings).base, built.base_dir)
        job = {
            "settings": trial.settings,
            "base": str(base or trial.settings["base"]["path"]),
            "train": str(paths["train"]),
            "validation": str(validation_file(paths, recipe.train.validation_rows)),
            "folder": str(trial_folder),
            "device": sweep.pools[0].device,
            "threads": 1 if not gpu else max(1, num_cores() // max(1, capacity)),
        }
        return {"trial": trial.id, "engine": recipe.engine, "job": job}

    search = DistinctSearch(
        sweep.space,
        design.trials,
        design.num_trials,
        lambda number, values, repeat: make_trial(sweep, number, values, repeat),
        make_config,
        slots,
        metric=spec.search.metric,
        mode=spec.search.direction,
        seed=spec.search.seed,
        algorithm=spec.search.algorithm,
        repeats=spec.search.seeds,
    )
    arms = Arms(built, ledger, paths)
    evaluators = Evaluators(ledger, arms, slots, search.evaluated)
    started = time.time()

    def tick() -> None:
        evaluators.collect()
        halt.look()
        _check_budget(built, recorder, started, halt)
        if halt.reason is not None:
            search.close()

    search.tick = tick
    recorder = Recorder(ledger, search, sweep.pools, units, evaluators.start, tick, lambda: halt.reason)
    tuner = tune.Tuner(
        tune.with_resources(TrialRunner, resources(built, units)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=_scheduler(built),
            num_samples=-1,
            # On a GPU a reused actor would hold its device against the evaluations that need one.
            reuse_actors=not gpu,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder / "ray"),
            callbacks=[recorder],
            failure_config=tune.FailureConfig(max_failures=spec.retries),
            stop=_StopAll(halt),
            verbose=0,
        ),
    )
    tuner.fit()
    recorder.close_open()
    # The machine was held from start to end; what no trial and no evaluation used of it was idle.
    while evaluators.pending and halt.status != "INTERRUPTED":
        evaluators.collect(wait_s=REFRESH_S)
        halt.look()
    evaluators.abandon("not evaluated: the sweep was interrupted")
    busy = recorder.spent_unit_s + evaluators.spent_unit_s
    idle = idle_seconds(sum(have.values()), time.time() - started, busy)
    ledger.append("cost", **vars(cost_of("idle", sweep.pools[0], idle)))
    return slots.capacity


def resources(built: Built, units: int) -> Any:
    """What Ray must hold for one trial: GPUs on one node of any of the sweep's pools, or one core."""
    from ray import tune

    if built.pools[0].device == "cpu":
        return tune.PlacementGroupFactory([{"CPU": 1}])
    return tune.PlacementGroupFactory(
        [{"CPU": units, "GPU": units}], strategy="STRICT_PACK", bundle_label_selector=[pools.selector(built.pools)]
    )


def _scheduler(built: Built) -> Any:
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

    early = built.sweep.spec.early_stopping
    if early is None:
        return FIFOScheduler()
    max_steps = int(built.sweep.settings["train"]["max_steps"])
    return AsyncHyperBandScheduler(
        time_attr="step",
        metric=early.metric,
        mode=early.direction,
        max_t=max_steps + 1,  # a trial ends by itself; at max_t the scheduler would count it as stopped
        grace_period=max(1, round(early.grace * max_steps)),
        reduction_factor=early.reduction,
    )


def _check_budget(built: Built, recorder: Any, started: float, halt: Halt) -> None:
    budget = built.sweep.spec.budget
    hours, wall_s = recorder.spent_unit_s / 3600, time.time() - started
    for name, spent, limit in (
        ("usd", recorder.spent_usd, budget.usd),
        ("gpu_hours", hours, budget.gpu_hours),
        ("wall_clock", wall_s, budget.wall_clock_s),
    ):
        if limit is not None and spent >= BUDGET_SHARE * limit:
            kept = f"{1 - BUDGET_SHARE:.0%} is kept for evaluation and export"
            halt.stop("BUDGET", f"budget.{name}: {spent:.3g} of {limit:g} is spent, {kept}")


def _StopAll(halt: Halt) -> Any:  # noqa: N802
    from ray.tune import Stopper

    class StopAll(Stopper):  # type: ignore[misc]
        """Ends every trial once there is a reason to halt."""

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return halt.reason is not None

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles its stopper into snapshots; a reason to halt is of this process

    return StopAll()
