"""``podium submit``, ``resume``, ``retry`` and ``extend``: one way into a sweep, whatever was done of it before.

The run folder's lock decides: who gets it runs a session of the sweep, who does not follows the one that runs.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from analysis.frame import open_sweep
from launchers import home
from launchers.build import Built, build
from launchers.halt import clear
from launchers.join import follow
from launchers.output import say
from launchers.preflight import preflight
from launchers.run_folder import exists, prepare, what_changed, writable_folder
from launchers.session import caught_up, run_session
from launchers.targets import check_target
from sweeps.errors import InvalidInput, PodiumError, Problem
from sweeps.stages import whole_name
from tracking.ledger import Ledger, LedgerLocked, State, SweepState, is_open, read
from tracking.mlflow_view import check

FINISHED_CODES = (0, 3, 6)  # of a sweep that was decided; after any other there is something left to do


def run(built: Built, *, retry: bool = False, stop: bool = False) -> tuple[SweepState, int]:
    """Run what is left of a sweep to its end; return its state and the exit code.

    A sweep of this name that is there and unchanged goes on, or is followed where another process runs it; a changed
    one gets a new version. Nothing that the ledger has is done again. With ``stop`` it ends at once, as after
    ``podium stop``: with a champion among what is there.

    Raises:
        InvalidInput: Before anything starts: the run folder, or a changed YAML while the sweep runs.
        ServiceUnreachable: MLflow, the judge or the object storage does not answer at the start.
    """
    name = built.sweep.spec.name
    folder = writable_folder(name)
    if not (is_open(folder) or _is_over(built, folder)):
        try:
            check_services(built)
        except PodiumError:
            with suppress(OSError):
                folder.rmdir()  # as it was: empty, unless the sweep was there before
            raise
    while True:
        try:
            with Ledger(folder) as ledger:
                clear(folder / "inbox")  # requests that were meant for a session that is over
                paths = prepare(built, ledger)
                if stop:
                    (folder / "inbox" / "stop").touch()
                state = ledger.read()
                failed = num_failed(state)
                if is_finished(state) and not (retry and failed):
                    say(f"sweep {name} is finished and unchanged: nothing is left to run")
                    if failed:
                        say(f"{failed} of its trials failed; `podium retry {whole_name(name)}` runs them again")
                    return caught_up(ledger), state.code
                return run_session(built, ledger, paths, retry=retry)
        except LedgerLocked as error:
            refuse_a_change(built, folder)
            say(f"{error.problems[0].rule}: following it. Ctrl-C leaves it running.")
            state = follow(folder)
            if state.ended is None:
                say("its driver is gone; this process goes on with the sweep")
            elif not (retry and num_failed(state)):
                return state, state.code


def reopen(name: str | None, overrides: Sequence[str] = ()) -> Built:
    """A sweep as it was submitted last, read again from its run folder.

    Args:
        name: Of the sweep; None for the latest.
        overrides: On top of those of its present version.

    Raises:
        InvalidInput: There is no such sweep, or its data are not what they were.
    """
    state = open_sweep(name, home.home())
    before = list(state.facts["overrides"])
    named = {override.partition("=")[0] for override in overrides}
    kept = [override for override in before if override.partition("=")[0] not in named]
    path, base_dir = state.folder / "spec.yaml", Path(state.facts["base_dir"])
    built = build(path, [*kept, *overrides], base_dir=base_dir, yes=True)
    if not overrides and (changed := what_changed(built, state.folder)):
        rule = f"it is not what it was: {'; '.join(changed)}"
        raise InvalidInput(Problem(state.name, rule, "`podium submit` its YAML to make a new version of it"))
    return built


def extended(name: str | None, trials: int) -> Built:
    """A sweep with so many more trials.

    Raises:
        InvalidInput: The search cannot be extended.
    """
    state = open_sweep(name, home.home())
    search = state.spec["search"]
    if search["algorithm"] == "grid":
        rule = f"a grid has all its points, and this one has {search['trials']}"
        raise InvalidInput(Problem(state.name, rule, "widen the space in its YAML and submit that"))
    reopen(state.name)  # which refuses a sweep that is not what it was: extending would train all of it again
    return reopen(state.name, [f"search.trials={search['trials'] + trials}"])


def check_services(built: Built) -> None:
    """Ask everything that the sweep will need, before anything starts.

    Raises:
        InvalidInput: The place of the export, the base on the hub, or a metric is not as it must be.
        ServiceUnreachable: MLflow, the hub, the judge, or the object storage does not answer.
    """
    home.home().mkdir(parents=True, exist_ok=True)
    check(home.tracking_uri())
    check_target(built.sweep.spec.export.to, built.sweep.spec.name)
    preflight(built)


def is_finished(state: SweepState) -> bool:
    """Whether the present version was run and decided. What only waits for a calibrated judge is not."""
    blocked = (state.champion or {}).get("blocked")
    return state.status == "DONE" and state.code in FINISHED_CODES and not blocked


def _is_over(built: Built, folder: Path) -> bool:
    """Whether nothing will be run, and so nothing is needed to run it."""
    return exists(folder) and is_finished(read(folder)) and not what_changed(built, folder)


def num_failed(state: SweepState) -> int:
    """How many trials of the present version failed."""
    return sum(trial.state is State.FAILED for trial in state.trials.values())


def refuse_a_change(built: Built, folder: Path) -> None:
    """A sweep that runs is what it is until it ends.

    Raises:
        InvalidInput: The YAML, the data or anything else that decides results is another.
    """
    if exists(folder) and (changed := what_changed(built, folder)):
        rule = f"this sweep is running, and the YAML is another: {'; '.join(changed)}"
        raise InvalidInput(Problem("name", rule, "wait for its end, `podium stop` it, or choose another name"))
