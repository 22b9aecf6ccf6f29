"""What a session of a sweep has to do, read from the ledger: what is known, what goes on, what only lacks its score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from launchers import checkpoints
from recipes.files import write_whole
from sweeps.sweep import Sweep
from sweeps.trial import Trial, make_trial
from tracking.ledger import Ledger, State, SweepState, TrialState
from tracking.meters.cost import trial_cost

UNFINISHED = (State.PENDING, State.RUNNING, State.PAUSED, State.PREEMPTED, State.EVALUATING)


@dataclass(frozen=True)
class Known:
    """A trial of an earlier session: what is known of it, None where it failed; ``open`` while it has not ended."""

    trial: Trial
    metrics: Mapping[str, float | None] | None
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


def make_agenda(ledger: Ledger, sweep: Sweep, refused: Callable[[Trial], str | None], *, retry: bool) -> Agenda:
    """Read where the last session stopped, and write that its unfinished trials wait again.

    Args:
        ledger: Open for writing.
        sweep: The version that the ledger ends with.
        refused: Why a trial is not to be trained; None where it is. A new version may think otherwise than the last.
        retry: Take up failed trials too. Those whose evaluation failed are taken up by a new version in any case: it
            may be what mends them.
    """
    state = ledger.read()
    is_new = len(state.sessions) < 2 or state.versions[-1].t > state.sessions[-2].began
    known, train, evaluate = [], [], []
    for one in sorted(state.drawn.values(), key=lambda trial: trial.number):
        trial = make_trial(sweep, one.number, one.values, one.repeat)
        write_settings(state.folder, trial)
        trained = one.adapter is not None and checkpoints.latest(state.folder / "trials" / one.id) is None
        failed = one.state is State.FAILED
        was_refused = one.state is State.STOPPED and one.adapter is None  # of halted ones others have no adapter
        takes_up = one.state in UNFINISHED or one.halted or was_refused or (failed and (retry or (is_new and trained)))
        reason = refused(trial) if takes_up and not trained else None
        if takes_up and trained:
            evaluate.append(one.id)
            if one.state is not State.EVALUATING:
                ledger.append("state", trial=one.id, state=State.EVALUATING)
        elif reason is not None:
            takes_up = False
            if one.reason != reason or one.halted or one.state is not State.STOPPED:
                ledger.append("state", trial=one.id, state=State.STOPPED, reason=reason, halted=False)
        elif takes_up:
            train.append(trial)
            if one.state is not State.PENDING:
                ledger.append("state", trial=one.id, state=State.PENDING)
        metrics = None if failed else measured(state, one)
        known.append(Known(trial, metrics, open=takes_up))
    number = max((trial.number for trial in state.every_trial.values() if trial.stage is None), default=-1) + 1
    return Agenda(tuple(known), tuple(train), tuple(evaluate), number)


def measured(state: SweepState, trial: TrialState) -> dict[str, float | None]:
    """All that is known of a trial so far, what it has cost among it."""
    return {**trial.metrics, **trial_cost(state, trial.id)}


def write_settings(folder: Path, trial: Trial) -> None:
    """Keep a trial's settings beside its results. Another version of the sweep may generate its answers otherwise."""
    path = folder / "trials" / trial.id / "trial.yaml"
    text = yaml.safe_dump(trial.settings, sort_keys=False)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    write_whole(path, [text])
