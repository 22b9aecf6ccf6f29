"""What follows the trials: latency of the best, the sealed challenge set, the champion, its bundle, and the report."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from analysis import ways
from analysis.certificate import settings
from analysis.champion import Choice, choose_on_dev, confirmed, shortlist, with_origin
from analysis.confirmation import dev_score
from analysis.instrument import in_words
from analysis.plain import plain
from analysis.rule import SCORE
from launchers.arms import Arms
from launchers.build import Built
from launchers.challenge import read_challenge
from launchers.contenders import judge_contenders
from launchers.cross_check import CrossCheck
from launchers.driver import Machines
from launchers.evaluators import Evaluators
from launchers.failures import Failures
from launchers.halt import Halt
from launchers.latency import measure_latency
from launchers.run_folder import job_fields
from launchers.serving_costs import record_serving_costs
from launchers.slots import Slots
from sweeps.errors import NoChampion, PodiumError
from tracking.ledger import Ledger
from tracking.meters.judge import identity
from tracking.meters.judge.calibration import promotion_block, read_calibration
from tracking.state import BASE, BASE_SCHEMA, INCUMBENT

Say = Callable[[str], None]
Look = Callable[[], None]


def confirm(built: Built, paths: dict[str, Path], ledger: Ledger, halt: Halt, machines: Machines, say: Say) -> Choice:
    """Measure what the decision still needs, decide, and read the challenge set once. Needs Ray.

    Args:
        machines: What the session's trials ran on.

    Raises:
        NoChampion: No trial qualifies, or none is shown to be better than what there was before; the ledger says why.
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
    standing = _standing(arms, ledger, say) if arms.measurable else ()
    if arms.measurable and any(trial.adapter for trial in ledger.read().trials.values()):
        with _telling(ledger, say):
            instrument = arms.readings()  # which the first evaluation of a trial has taken, if there was one
            jobs = [arms.job(arm, "dev") for arm in standing] + ([instrument] if instrument else [])
            if todo := evaluators.missing(jobs):
                say(f"evaluating on dev: {', '.join(job.arm for job in todo)} …")
                evaluators.run(todo, look)
            judge_contenders(arms, evaluators, ledger, say, look)
            _rescore_the_other_way(built, arms, evaluators, ledger, say, look)

            def follow() -> None:
                record_serving_costs(built, ledger, say)

            latency = built.sweep.spec.evaluate.latency
            measure_latency(latency, arms, standing, evaluators, ledger, say, look, follow)
        for line in in_words(ledger.read()):
            say(line)
    choice = choose_on_dev(ledger.read())
    if choice.champion is None:
        ledger.append("champion", champion=choice.to_dict())
        raise NoChampion("\n".join(choice.why))
    candidate = choice.champion
    on_gpu = built.pools[0].device == "gpu"
    check = None if on_gpu else _cross_check(built, paths, ledger, candidate)
    choice = _decide(built, arms, standing, evaluators, ledger, choice, say, look)
    if check is not None and choice.champion != candidate:
        check.abandon()
        check = None
    if choice.champion is None:
        raise NoChampion("\n".join(choice.why))
    if on_gpu and machines.packs is not None:  # they hold the GPUs
        machines.packs.stop()
    check = check or _cross_check(built, paths, ledger, choice.champion)
    if check is not None:
        say(check.finish(ledger, look))
    return choice


def _decide(
    built: Built,
    arms: Arms,
    standing: tuple[str, ...],
    evaluators: Evaluators,
    ledger: Ledger,
    choice: Choice,
    say: Say,
    look: Look,
) -> Choice:
    """Have the challenge set confirm what dev chose, and write the outcome.

    Where the judge is not calibrated as the sweep asks, nobody is chosen by its scores, and the set stays sealed.
    """
    spec, rule, candidate = built.sweep.spec, choice.rule, choice.champion
    assert candidate is not None, "only what dev has chosen is confirmed"
    blocked = _blocked(built, ledger) if rule.metric == SCORE else None
    if blocked:
        choice = replace(choice, champion=None, ties=(), why=(f"No champion: {blocked}.", *choice.why))
    elif arms.measurable:
        with _telling(ledger, say):
            found = read_challenge(arms, standing, evaluators, ledger, choice, spec.champion.confirm, say, look)
        if isinstance(found, str):
            choice = replace(choice, why=(*choice.why, found))
        else:
            choice = confirmed(choice, plain(found.to_dict()))
            for sentence in found.why if choice.champion else ():  # else they are the error
                say(sentence)
    state = ledger.read()
    choice = with_origin(state, choice)
    if state.starts and choice.champion:
        say(choice.why[0])
    on_dev = dev_score(state, choice.champion or candidate, rule.metric, arms.groups("dev"))
    ledger.append("champion", champion={**choice.to_dict(), "dev_score": plain(on_dev), "blocked": blocked})
    return choice


def _blocked(built: Built, ledger: Ledger) -> str | None:
    """Why the judge's scores may choose nobody yet."""
    judge = built.sweep.spec.evaluate.judge
    if judge is None or judge.calibration.min_kappa is None:
        return None
    found = read_calibration(ledger.folder)
    return promotion_block(found, judge.calibration.min_kappa, identity(judge.model_dump(mode="json")))


def _cross_check(built: Built, paths: dict[str, Path], ledger: Ledger, champion: str) -> CrossCheck | None:
    """Have another engine train the champion's trial again; None where that is not asked for, or was done."""
    engine = built.sweep.spec.champion.cross_check
    state = ledger.read()
    trial, folder = state.trials[champion], state.folder / "trials" / champion
    if engine is None or trial.id in state.cross_checks:
        return None
    trained = settings(state.folder, trial)
    assert trained is not None
    return CrossCheck(engine, job_fields(built, paths, folder, trained), trial)


def _standing(arms: Arms, ledger: Ledger, say: Say) -> tuple[str, ...]:
    """The arms that were there before the sweep: the base, and the incumbent where it can be asked."""
    base = (BASE, BASE_SCHEMA) if arms.guided else (BASE,)
    if not arms.has_incumbent:
        return base
    try:
        arms.job(INCUMBENT, "dev")
    except PodiumError as error:
        ledger.append("note", text=f"the incumbent is not measured: {error}")
        say(f"the incumbent is not measured: {error}")
        return base
    return *base, INCUMBENT


def _rescore_the_other_way(
    built: Built, arms: Arms, evaluators: Evaluators, ledger: Ledger, say: Say, look: Look
) -> None:
    """What guiding changes in the answers of the best, on the dev items that they were chosen by."""
    state = ledger.read()
    best = shortlist(state, built.sweep.spec.serving.rescore)
    # By val/loss a stopped trial may be among them, which no answers are there of.
    answered = [trial for trial in best if any(one.split == "dev" for one in state.trials[trial].evaluations)]
    jobs = [arms.other_way(trial) for trial in answered]
    if todo := evaluators.missing(jobs):
        say(f"the best {len(todo)} on dev again, {'free' if arms.guided else 'guided by the schema'} …")
        evaluators.run(todo, look)
    for line in ways.in_words(ledger.read()):
        say(line)


@contextmanager
def _telling(ledger: Ledger, say: Say) -> Iterator[None]:
    """What could not be measured within is said at its end, and the sweep goes on."""
    before = len(ledger.read().notes)
    yield
    for note in ledger.read().notes[before:]:
        say(note)
