"""All that ``podium doctor SWEEP`` looks at, and the mending of it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from launchers.doctor import sweep_ledger, sweep_mlflow, sweep_results, sweep_trials
from launchers.doctor.check import Check, Checked, Outcome, mend, run
from sweeps.errors import PodiumError
from tracking.ledger import is_open, read

ROUNDS = 4  # closing a sweep changes what MLflow should say, and without its duplicates a run can be compared

Run = Callable[[Iterable[Check]], Iterable[Checked]]


def examine(folder: Path, run_checks: Run = run) -> list[Checked]:
    """Everything about the sweep in a run folder; where its ledger cannot be read, that alone. Changes nothing."""
    checked = _look(folder, run_checks)
    # What a driver is at work on is not for anybody else to mend, and may be put right by itself.
    return [replace(one, finding=replace(one.finding, mend=None)) for one in checked] if is_open(folder) else checked


def _look(folder: Path, run_checks: Run) -> list[Checked]:
    first = list(run_checks([sweep_ledger.check(folder)]))
    try:
        state = read(folder)
    except (PodiumError, AssertionError, LookupError, TypeError, ValueError):
        return first
    # MLflow last: it is to say what the rest says once that is mended.
    checks = [*sweep_trials.checks(state), *sweep_results.checks(state), *sweep_mlflow.checks(state)]
    return [*first, *run_checks(checks)]


def mend_all(folder: Path, checked: list[Checked], run_checks: Run = run) -> tuple[list[Checked], list[Checked]]:
    """Put right what can be put right, and look again, until nothing changes any more.

    Returns:
        What was done, or could not be; and what the last look saw.
    """
    every: list[Checked] = []
    for _ in range(ROUNDS):
        done = [mend(one) for one in checked if one.finding.mend is not None]
        every += done
        if not any(one.finding.outcome is Outcome.MENDED for one in done):
            break
        checked = examine(folder, run_checks)
    return every, checked
