"""What follows the trials: latency of the best, the sealed challenge set, the champion, its bundle, and the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.certificate import settings
from analysis.champion import Choice, choose, default_trial, median_trial, shortlist
from launchers.arms import BASE, BASE_SCHEMA, Arms
from launchers.build import Built
from launchers.cross_check import CrossCheck
from launchers.driver import Machines
from launchers.evaluators import Evaluators
from launchers.failures import Failures
from launchers.halt import Halt
from launchers.run_folder import job_fields
from launchers.slots import Slots
from sweeps.errors import NoChampion
from tracking.ledger import Ledger

Say = Callable[[str], None]
Look = Callable[[], None]


def confirm(built: Built, paths: dict[str, Path], ledger: Ledger, halt: Halt, machines: Machines, say: Say) -> Choice:
    """Measure what the decision still needs, decide, and read the challenge set once. Needs Ray.

    Args:
        machines: What the session's trials ran on.

    Raises:
        NoChampion: No trial qualifies; the ledger says why for each.
    """
    arms = Arms(built, ledger, paths)

    def look() -> None:
        """Somebody may ask for a pause now too; to stop is what this does."""
        halt.look()
        if halt.pauses:
            raise KeyboardInterrupt

    failures = Failures(built.sweep.spec.give_up_after, halt)
    evaluators = Evaluators(
        ledger, arms, Slots(machines.capacity), lambda trial, metrics: None, failures, machines.packs
    )
    if arms.measurable and any(trial.adapter for trial in ledger.read().trials.values()):
        if todo := evaluators.missing([arms.job(BASE, "dev")]):
            say("evaluating the untouched base on dev …")
            evaluators.run(todo, look)
        _measure_latency(built, arms, evaluators, ledger, say, look)
    choice = choose(ledger.read())
    ledger.append("champion", champion=choice.to_dict())
    if choice.champion is None:
        raise NoChampion("\n".join(choice.why))
    on_gpu = built.pools[0].device == "gpu"
    check = None if on_gpu else _cross_check(built, paths, ledger, choice)
    if arms.measurable:
        _read_challenge(arms, evaluators, ledger, choice, say, look)
    if on_gpu:  # the packs hold the GPUs
        if machines.packs is not None:
            machines.packs.stop()
        check = _cross_check(built, paths, ledger, choice)
    if check is not None:
        say(check.finish(ledger, look))
    return choice


def _cross_check(built: Built, paths: dict[str, Path], ledger: Ledger, choice: Choice) -> CrossCheck | None:
    """Have another engine train the champion's trial again, while the challenge set is read."""
    engine = built.sweep.spec.champion.cross_check
    state = ledger.read()
    assert choice.champion is not None
    trial, folder = state.trials[choice.champion], state.folder / "trials" / choice.champion
    if engine is None or trial.id in state.cross_checks:
        return None
    trained = settings(state.folder, trial)
    assert trained is not None
    return CrossCheck(engine, job_fields(built, paths, folder, trained), trial)


def _measure_latency(built: Built, arms: Arms, evaluators: Evaluators, ledger: Ledger, say: Say, look: Look) -> None:
    evaluate = built.sweep.spec.evaluate
    state = ledger.read()
    top = shortlist(state, evaluate.latency_top)
    if not top or evaluate.latency_requests == 0:
        return
    requests = evaluate.latency_requests
    jobs = [arms.job(BASE, "dev"), *(_trial_job(arms, ledger, trial, "dev") for trial in top)]
    if todo := evaluators.missing(jobs, lambda job: evaluators.latency_id(job, requests)):
        arms_told = f"{len(todo)} of the base and the best {len(top)}"
        say(f"latency, alone on the machine: {arms_told}, {requests} requests each …")
        evaluators.measure_latency(todo, requests, look)


def _read_challenge(arms: Arms, evaluators: Evaluators, ledger: Ledger, choice: Choice, say: Say, look: Look) -> None:
    state = ledger.read()
    top = choice.ranking[: arms.confirm_top]
    trials = [default_trial(state), median_trial(state, choice.rule), choice.champion, *top]
    chosen = list(dict.fromkeys(trial for trial in trials if trial and state.trials[trial].adapter))
    jobs = [arms.job(BASE, "challenge")]
    if arms.schema is not None:
        jobs.append(arms.job(BASE_SCHEMA, "challenge"))
    jobs += [_trial_job(arms, ledger, trial, "challenge") for trial in chosen]
    todo = evaluators.missing(jobs)
    if not todo:
        return
    if any(evaluation.split == "challenge" for evaluation in state.evaluations()):
        # After an interruption, or for a champion that came with more trials. The latter weakens the seal: say so.
        say(f"the challenge set is read again, for {len(todo)} arms that it has not judged …")
        ledger.append("note", text=f"the challenge set was read again, for {', '.join(job.arm for job in todo)}")
    else:
        say(f"the sealed challenge set, read once: {len(todo)} arms …")
    evaluators.run(todo, look)


def _trial_job(arms: Arms, ledger: Ledger, trial: str, split: str) -> Any:
    adapter = ledger.read().trials[trial].adapter
    assert adapter is not None
    return arms.job(trial, split, ledger.folder / adapter)
