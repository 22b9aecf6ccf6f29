"""The driver of a sweep: lets Ray Tune choose and stop trials, and evaluates what they leave.

It writes the ledger, and nothing else decides anything from memory: tables, MLflow and reports read the ledger.
It loads no torch: training and evaluation happen in other processes.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launchers import pools
from launchers.agenda import Agenda, make_agenda, measured, write_settings
from launchers.allocation import TRIALS, charge_idle, hold
from launchers.arms import Arms
from launchers.budget import Spending
from launchers.build import Built
from launchers.cluster import ClusterLost, check_alive, num_cores
from launchers.evaluators import Evaluators
from launchers.failures import Failures
from launchers.halt import Halt
from launchers.packs import CLIENT_CPU, Packs, keep_plan, make_packs
from launchers.run_folder import job_fields
from launchers.slots import Slots
from recipes.adapters import WEIGHTS
from recipes.schema import Recipe
from sweeps.constraints import broken_for_good, known_before, refusal, spared
from sweeps.design_points import planned_points
from sweeps.trial import Trial, make_trial
from tracking.ledger import Ledger, LedgerBroken, State, SweepState, TrialState

REFRESH_S = 1.0


@dataclass(frozen=True)
class Machines:
    """What a session runs on.

    Attributes:
        capacity: Trials, or evaluations, at once.
        packs: Its pack workers, where the engine is ``packed``.
    """

    capacity: int
    packs: Packs | None


Say = Callable[[str], None]


def tune_trials(
    built: Built,
    paths: dict[str, Path],
    ledger: Ledger,
    halt: Halt,
    say: Say,
    nodes: list[dict[str, Any]],
    *,
    retry: bool = False,
) -> Machines:
    """Run the trials and evaluate what they leave, to the last one or until ``halt``; return what it ran them on.

    What the ledger has of earlier sessions is not done again. With ``retry`` failed trials are taken up too.
    """
    sweep = built.sweep
    spec, recipe = sweep.spec, Recipe.model_validate(sweep.settings)
    gpu = sweep.pools[0].device == "gpu"
    units = units_of(built)
    have = pools.require(sweep.pools, units, nodes)
    hold(ledger, have)
    capacity = sum(count // units for count in have.values())
    packs = make_packs(built, ledger, have) if recipe.engine == "packed" else None
    # Loaded while the packs load their base.
    from ray import tune

    from launchers.halving import Halving, make_scheduler
    from launchers.recorder import Recorder
    from launchers.search import DistinctSearch
    from launchers.trainable import TrialRunner

    if packs and gpu:  # on a CPU the base is small, and loads while Tune starts
        packs.fit(job_fields(built, paths, ledger.folder, sweep.settings))
    capacity = packs.capacity if packs else capacity
    slots = Slots(min(capacity, spec.concurrency or capacity))
    design = planned_points(sweep, most=spec.search.trials)
    if design.exhausted:
        say(f"the space has only {design.num_trials} distinct trials, fewer than search.trials = {spec.search.trials}")
    folder = ledger.folder
    agenda = make_agenda(ledger, sweep, lambda trial: refusal(sweep, trial), retry=retry)
    before = ledger.read()

    def begin(trial: Trial) -> dict[str, float | None] | None:
        """Write a new trial before anything acts on it. What is known of it where it is not to be trained, or None:
        another version of the sweep has its result, or its settings alone break a constraint."""
        write_settings(folder, trial)
        pool = sweep.pools[0].name if len(sweep.pools) == 1 else ""
        fields = {"number": trial.number, "values": trial.values, "max_steps": trial.max_steps, "repeat": trial.repeat}
        known = known_before(trial.settings, sweep.facts)
        ledger.append("trial", trial=trial.id, pool=pool, **fields, known=known)
        earlier = before.history.get(trial.id)
        if earlier is not None and earlier.state in (State.DONE, State.STOPPED) and earlier.adapter is not None:
            return measured(before, earlier)
        if reason := refusal(sweep, trial):
            ledger.append("state", trial=trial.id, state=State.STOPPED, reason=reason)
            return {**known}
        return None

    def make_config(trial: Trial) -> dict[str, Any]:
        threads = 1 if not gpu else max(1, num_cores() // max(1, capacity))
        job = job_fields(built, paths, folder / "trials" / trial.id, trial.settings, threads)
        config: dict[str, Any] = {"trial": trial.id, "engine": recipe.engine, "job": job}
        if packs:
            running = [search.trials[one].id for one in slots.running if one in search.trials]
            config["packs"] = packs.address(trial.id, running)
        return config

    arms, default = Arms(built, ledger, paths), spared(sweep)

    def hopeless(trial: TrialState) -> bool:
        """Whether a trial can no longer keep a constraint. The recipe's own values are always evaluated."""
        if not spec.enforced or trial.id == default:
            return False
        return broken_for_good(spec.enforced, measured(ledger.read(), trial)) is not None

    def ended(trial: str, metrics: Mapping[str, float | None]) -> None:
        """Tell the search all that is known of a trial, what it has cost among it."""
        state = ledger.read()
        one = state.trials[trial]
        search.ended(trial, None if one.state is State.FAILED else {**measured(state, one), **metrics})

    to_evaluate = _to_evaluate(arms, before, agenda, hopeless)
    search = DistinctSearch(
        sweep.space,
        design.trials,
        design.num_trials,
        lambda number, values, repeat: make_trial(sweep, number, values, repeat),
        make_config,
        slots,
        objectives=spec.search.objectives,
        seed=spec.search.seed,
        algorithm=spec.search.algorithm,
        constraints=spec.champion.constraints,
        repeats=spec.search.seeds,
        known=[replace(one, open=one.open or one.trial.id in to_evaluate) for one in agenda.known],
        unfinished=agenda.train,
        next_number=agenda.next_number,
        begin=begin,
    )
    failures = Failures(spec.give_up_after, halt)
    evaluators = Evaluators(ledger, arms, slots, ended, failures, packs, hopeless)
    spending = Spending.of(before)
    together = spending.with_others(built.place) if built.place else spending
    session_began = before.sessions[-1].began  # Ray may have been started before in this session

    def tick() -> None:
        try:
            check_alive()
            evaluators.collect()
        except ClusterLost as error:
            raise _OutOfTune(error) from None
        halt.look()
        usd, unit_s = recorder.spending()
        wall_s = time.time() - session_began
        spending.check(spec.budget, usd, unit_s, wall_s, halt)
        if built.place is not None:
            together.check(built.place.budget, usd, unit_s, wall_s, halt)
        if halt.reason is not None:
            search.close()

    search.tick = tick
    seats = packs.slots_per_pack if packs else 1
    recorder = Recorder(ledger, search, sweep.pools, units, evaluators.start, tick, halt, failures, seats)
    scheduler = make_scheduler(sweep, search, recorder.cost_so_far)
    if isinstance(scheduler, Halving):
        recorder.stopped_for = scheduler.reasons
        _recall(scheduler, before, {trial.id for trial in agenda.train})
    for trial in to_evaluate:
        evaluators.start(trial)
    tuner = tune.Tuner(
        tune.with_resources(TrialRunner, client_resources() if packs else resources(built, units)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            num_samples=-1,
            # On a GPU a reused actor would hold its device against the evaluations that need one. A client holds none.
            reuse_actors=packs is not None or not gpu,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=f"session-{len(before.sessions)}-{len(before.notes)}",  # new for each start of Ray
            storage_path=str(folder / "ray"),
            callbacks=[recorder],
            failure_config=tune.FailureConfig(max_failures=spec.retries),
            stop=_StopAll(halt),
            verbose=0,
        ),
    )
    try:
        if search.has_work:
            tuner.fit()
        slots.running.clear()  # of trials that end with the whole sweep, Tune tells the searcher nothing
        recorder.close_open()
        if halt.reason is not None and not halt.pauses:
            recorder.set_down_waiting()
        while evaluators.pending and not halt.pauses:
            evaluators.collect(wait_s=REFRESH_S)
            halt.look()
    except LedgerBroken:
        raise
    except BaseException as error:
        recorder.lose_open()
        if isinstance(error, _OutOfTune):
            raise ClusterLost(str(error)) from None
        raise
    evaluators.abandon()
    charge_idle(ledger, TRIALS)
    if packs:
        keep_plan(folder, packs.decisions(), say)
    return Machines(slots.capacity, packs)


class _OutOfTune(BaseException):
    """Ray is gone. No ``Exception``: for those Tune first tidies up, and would wait for a Ray that answers no more."""


def units_of(built: Built) -> int:
    """GPUs of one trial; cores, on a CPU pool."""
    return Recipe.model_validate(built.sweep.settings).parallel.gpus if built.pools[0].device == "gpu" else 1


def _recall(scheduler: Any, before: SweepState, going_on: set[str]) -> None:
    """Fill the rungs of early stopping with what earlier sessions reported.

    Trials that go on report their checkpoint's step again, and only then is it decided whether they stop there.
    """
    reports = sorted(
        ((report["t"], trial, report) for trial in before.trials.values() for report in trial.reports),
        key=lambda entry: entry[0],
    )
    for _, trial, report in reports:
        if trial.id not in going_on or report["step"] < trial.step:
            scheduler.recall(trial.id, [report])


def _to_evaluate(arms: Arms, before: SweepState, agenda: Agenda, hopeless: Callable[[TrialState], bool]) -> list[str]:
    """Trained trials that lack an evaluation: never made, or made otherwise than the sweep now says."""
    found = list(agenda.evaluate)
    if not arms.measurable:
        return found
    going_on = {trial.id for trial in agenda.train} | set(found)
    for trial in before.trials.values():
        # A start whose evaluation failed is asked again: training it is no remedy.
        over = trial.state in (State.DONE, State.STOPPED) or trial.stage is not None
        if trial.id in going_on or not over or trial.adapter is None:
            continue
        if not (before.folder / trial.adapter / WEIGHTS).is_file():  # `podium gc --adapters` has taken it
            continue
        if (trial.step >= trial.max_steps or arms.evaluate_stopped) and arms.evaluation_of(trial) is None:
            found += [] if hopeless(trial) else [trial.id]
    return found


def client_resources() -> Any:
    """What Ray must hold for a trial that trains in a pack: next to nothing, anywhere."""
    from ray import tune

    return tune.PlacementGroupFactory([{"CPU": CLIENT_CPU}])


def resources(built: Built, units: int) -> Any:
    """What Ray must hold for one trial: GPUs on one node of any of the sweep's pools, or one core."""
    from ray import tune

    if built.pools[0].device == "cpu":
        return tune.PlacementGroupFactory([{"CPU": 1}])
    return tune.PlacementGroupFactory(
        [{"CPU": units, "GPU": units}], strategy="STRICT_PACK", bundle_label_selector=[pools.selector(built.pools)]
    )


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
