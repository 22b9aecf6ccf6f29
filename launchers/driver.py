"""The driver of a sweep: prepares the run folder, lets Ray Tune choose and stop trials, evaluates what they leave.

``run`` writes the ledger and nothing else decides anything from memory: tables, MLflow and reports read the ledger.
It loads no torch: training and evaluation happen in other processes.
"""

import logging
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from launchers import home, pools
from launchers.arms import Arms
from launchers.build import Built
from launchers.evaluators import Evaluators
from recipes.bases import locate
from recipes.data import splits
from recipes.schema import Recipe
from sweeps.design_points import planned_points
from sweeps.errors import InvalidInput, PodiumError, Problem
from sweeps.trial import Trial, make_trial
from tracking.ledger import FORMAT, Ledger, State
from tracking.meters.cost import cost_of, idle_seconds

BUDGET_SHARE = 0.9  # of a budget goes to trials; the rest is kept for evaluation and export
REFRESH_S = 1.0
IDLE_WORKER_S = 120

Say = Callable[[str], None]


class Halt:
    """Why the sweep stops taking new work; None while it goes on."""

    def __init__(self, inbox: Path) -> None:
        self.reason: str | None = None
        self.status = "DONE"
        self._inbox = inbox

    def stop(self, status: str, reason: str) -> None:
        """Stop for this reason; the first one counts."""
        if self.reason is None:
            self.status, self.reason = status, reason

    def look(self) -> None:
        """Take the requests that other commands left in the inbox."""
        request = self._inbox / "stop"
        if request.exists():
            request.unlink()
            self.stop("STOPPED", "stopped by `podium stop`")


def prepare(built: Built, folder: Path, ledger: Ledger) -> dict[str, Path]:
    """Write the run folder's first files and the ledger's ``sweep`` event; return the files of the four splits."""
    sweep = built.sweep
    paths = splits.write(built.rows, home.cache_folder())
    (folder / "spec.yaml").write_text(built.text, encoding="utf-8")
    facts = {
        "base_identity": sweep.facts.base_identity,
        "start_identity": sweep.facts.start_identity,
        "data_identity": sweep.facts.data_identity,
        "data": {
            split: {"rows": len(built.rows.rows[split]), "sha256": built.rows.sha256[split], "path": str(paths[split])}
            for split in splits.SPLITS
        },
        "pools": {pool.name: pool.model_dump(mode="json") for pool in built.pools},
        "base_dir": str(built.base_dir),
        "overrides": list(built.overrides),
        "code_commit": commit(),
        "versions": {
            name: version(name) for name in ("torch", "transformers", "peft", "nemo-automodel", "ray", "mlflow")
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    ledger.append(
        "sweep",
        name=sweep.spec.name,
        format=FORMAT,
        spec=sweep.spec.model_dump(mode="json", by_alias=True),
        recipe=sweep.settings,
        facts=facts,
    )
    return paths


def commit() -> str | None:
    """The commit of Podium's own code with ``+dirty`` where it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+dirty" if status.stdout.strip() else "") if head.returncode == 0 else None


def validation_file(paths: dict[str, Path], rows: int | None) -> Path:
    """The validation split, or its first ``rows`` rows, which give the loss that trials report."""
    if rows is None:
        return paths["validation"]
    cut = paths["validation"].with_name(f"validation-{rows}.jsonl")
    if not cut.exists():
        with paths["validation"].open(encoding="utf-8") as file:
            lines = [line for line, _ in zip(file, range(rows), strict=False)]
        part = cut.with_suffix(f".{os.getpid()}.part")
        part.write_text("".join(lines), encoding="utf-8")
        part.replace(cut)
    return cut


@contextmanager
def ray_cluster(say: Say) -> Iterator[list[dict[str, Any]]]:
    """The cluster at ``$RAY_ADDRESS``, or a local one with this machine's cores; yields ``ray.nodes()``."""
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours: see ``interruptible``
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a diverged trial has no validation loss
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "16"  # a full pool must not hold up a free one
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    say(f"Ray: {f'connecting to {address}' if address else f'starting on {num_cores()} cores'} …")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    else:
        ray.init(
            address="local",
            num_cpus=num_cores(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            # An evaluation's process has torch and the base in memory: keep it for the next one, not for a second only.
            _system_config={"idle_worker_killing_time_threshold_ms": IDLE_WORKER_S * 1000},
        )
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # trials that fail are told by the ledger's views
    try:
        yield ray.nodes()
    finally:
        ray.shutdown()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def interruptible(halt: Halt, say: Say) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the sweep in order; the second ends it at once."""

    def handle(number: int, frame: Any) -> None:
        if halt.reason is not None:
            raise KeyboardInterrupt
        halt.stop("INTERRUPTED", "interrupted")
        say("stopping: trials end at their last checkpoint; press Ctrl-C again to end at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def settle(ledger: Ledger, halt: Halt) -> None:
    """Give every trial that has no end one, so that no run is left open."""
    for trial in ledger.read().trials.values():
        if trial.state in (State.PENDING, State.RUNNING, State.EVALUATING, State.PAUSED):
            reason = halt.reason or "the sweep ended before it"
            ledger.append("state", trial=trial.id, state=State.STOPPED, reason=reason)


def open_folder(name: str) -> Path:
    """The run folder of a new sweep.

    Raises:
        InvalidInput: A sweep of this name is there, or the folder cannot be written.
    """
    folder = home.run_folder(name)
    if (folder / "ledger.jsonl").exists():
        hint = f"choose another name (`name=…` on the command line), or remove {folder}"
        raise InvalidInput(Problem("name", f"a sweep {name!r} is there", hint))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "inbox").mkdir(exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        rule = f"the run folder cannot be written: {error.strerror}"
        raise InvalidInput(Problem(str(folder), rule, "set PODIUM_HOME to a folder that can")) from None
    return folder


__all__ = ["Halt", "PodiumError", "interruptible", "open_folder", "prepare", "ray_cluster", "settle", "tune_trials"]
