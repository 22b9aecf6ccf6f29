"""What a session of a sweep has to do, read from the ledger: what is known, what goes on, what only lacks its score."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from launchers import checkpoints
from sweeps.facts import Pool
from sweeps.sweep import Sweep
from sweeps.trial import Trial, make_trial
from tracking.ledger import Ledger, State, SweepState
from tracking.meters.cost import cost_of

UNFINISHED = (State.PENDING, State.RUNNING, State.PAUSED, State.PREEMPTED, State.EVALUATING)


@dataclass(frozen=True)
class Known:
    """A trial of an earlier session: ``score`` by the search's metric; ``open`` while it has not come to its end."""

    trial: Trial
    score: float | None
    open: bool = False


@dataclass(frozen=True)
class Agenda:
    """The start of a session.

    Attributes:
        known: Every trial of the sweep's present version, in the order of their numbers.
        train: Of these, the ones to train or to go on with.
        evaluate: Ids of those that are trained and not evaluated.
        next_number: Of the next new trial, whatever version it belongs to.
    """

    known: tuple[Known, ...]
    train: tuple[Trial, ...]
    evaluate: tuple[str, ...]
    next_number: int


def make_agenda(ledger: Ledger, sweep: Sweep, *, retry: bool) -> Agenda:
    """Read where the last session stopped, and write that its unfinished trials wait again.

    Args:
        ledger: Open for writing.
        sweep: The version that the ledger ends with.
        retry: Take up failed trials too. Those whose evaluation failed are taken up by a new version in any case: it
            may be what mends them.
    """
    state = ledger.read()
    is_new = len(state.sessions) < 2 or state.versions[-1].t > state.sessions[-2].began
    known, train, evaluate = [], [], []
    for one in sorted(state.trials.values(), key=lambda trial: trial.number):
        trial = make_trial(sweep, one.number, one.values, one.repeat)
        write_settings(state.folder, trial)
        trained = one.adapter is not None and checkpoints.latest(state.folder / "trials" / one.id) is None
        failed = one.state is State.FAILED
        takes_up = one.state in UNFINISHED or one.halted or (failed and (retry or (is_new and trained)))
        if takes_up and trained:
            evaluate.append(one.id)
            if one.state is not State.EVALUATING:
                ledger.append("state", trial=one.id, state=State.EVALUATING)
        elif takes_up:
            train.append(trial)
            if one.state is not State.PENDING:
                ledger.append("state", trial=one.id, state=State.PENDING)
        score = None if failed else one.metrics.get(sweep.spec.search.metric)
        known.append(Known(trial, score, open=takes_up and (not trained or score is None)))
    number = max((trial.number for trial in state.every_trial.values()), default=-1) + 1
    return Agenda(tuple(known), tuple(train), tuple(evaluate), number)


def write_settings(folder: Path, trial: Trial) -> None:
    """Keep a trial's settings beside its results. Another version of the sweep may generate its answers otherwise."""
    path = folder / "trials" / trial.id / "trial.yaml"
    text = yaml.safe_dump(trial.settings, sort_keys=False)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def charge_lost_session(ledger: Ledger, state: SweepState) -> None:
    """Charge the trials that ran when a driver was killed, from their start to when it was last heard of.

    Args:
        ledger: Open for writing.
        state: As that driver left it.
    """
    if not state.sessions or state.sessions[-1].ended is not None:
        return
    pools = {name: Pool.model_validate(pool) for name, pool in state.facts.get("pools", {}).items()}
    for trial in state.every_trial.values():
        if trial.state is State.RUNNING and trial.running_since is not None and pools:
            pool = pools.get(trial.pool) or next(iter(pools.values()))
            units = state.recipe["parallel"]["gpus"] if pool.device == "gpu" else 1
            seconds = max(0.0, state.sessions[-1].last - trial.running_since)
            ledger.append("cost", **vars(cost_of("training", pool, seconds * units, trial.id)))
