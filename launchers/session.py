"""One driver's session with a sweep: trials, evaluation, champion, bundle, report, from wherever the ledger stands."""

import os
import platform
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from launchers import home
from launchers.allocation import DECISION, charge_idle, charge_lost_session, charge_work
from launchers.build import Built
from launchers.bundles import make_bundle
from launchers.cluster import ClusterLost, ray_cluster
from launchers.driver import Machines, tune_trials
from launchers.finish import confirm
from launchers.halt import Halt, interruptible, settle
from launchers.live import Follower, Lines, Screen
from launchers.output import say
from launchers.targets import keep_ledger
from sweeps.errors import InvalidInput, NoChampion, PodiumError, ServiceUnreachable, VerificationFailed
from sweeps.stages import whole_name
from tracking.ledger import Ledger, LedgerBroken, State, SweepState
from tracking.mlflow_registry import register_champion
from tracking.mlflow_view import MlflowView

LOOK_S = 0.5
SYNC_S = 5.0
RAY_LOG = "ray.log"
RAY_RESTARTS = 3  # of one session; after that something is wrong with the machine
EXIT = {"INTERRUPTED": 130, "BUDGET": 4}
SOME_FAILED = 3
ORDER = (130, 2, 5, 7, 6, 4, 3, 1)  # when several codes apply


def run_session(built: Built, ledger: Ledger, paths: dict[str, Path], *, retry: bool) -> tuple[SweepState, int]:
    """Run what the ledger lacks of the sweep; return its state and the exit code.

    Args:
        built: The version of the sweep that the ledger ends with.
        ledger: Open for writing.
        paths: The rows of the four splits.
        retry: Take up failed trials too.
    """
    started, folder, uri = time.time(), ledger.folder, home.tracking_uri()
    halt, codes = Halt(folder / "inbox"), list[int]()
    shutil.rmtree(folder / "ray", ignore_errors=True)  # Tune's own records of a session that is over
    before = ledger.read()
    _announce(built, before, folder)
    ledger.append("begin", host=platform.node(), pid=os.getpid())
    charge_lost_session(ledger, before)
    view = MlflowView(uri)
    try:
        written = view.sync(ledger.read())
        ledger.append("mlflow", tracking_uri=written["tracking_uri"])
        for restart in range(RAY_RESTARTS + 1):
            try:
                # What was to be retried is retried once: after the first start the ledger has it as waiting.
                codes = [_run_on_ray(built, paths, ledger, view, halt, retry=retry and restart == 0)]
                break
            except ClusterLost as error:
                if halt.pauses:
                    break  # whoever ends the whole process group at once, as `timeout` and Slurm do, ends Ray as well
                if restart == RAY_RESTARTS:
                    raise
                say(f"{error}: starting it again, trials go on from their last checkpoints")
                ledger.append("note", text=f"{error}; it was started again")
    except (NoChampion, ServiceUnreachable) as error:
        say(f"error: {error}" if isinstance(error, ServiceUnreachable) else str(error))
        codes.append(error.exit_code)
        if isinstance(error, ServiceUnreachable):
            halt.stop("FAILED", str(error))
    except KeyboardInterrupt:
        if not halt.pauses:
            halt.status, halt.reason = "INTERRUPTED", "interrupted"
    except LedgerBroken:
        raise  # what is on the disk is whole, and nothing more can be written
    except Exception as error:
        halt.stop("FAILED", str(error) if isinstance(error, PodiumError) else f"{type(error).__name__}: {error}")
        _close(ledger, view, halt, error.exit_code if isinstance(error, PodiumError) else 1)
        raise
    codes.append(EXIT.get(halt.status, 0))
    if any(trial.state is State.FAILED for trial in ledger.read().trials.values()):
        codes.append(SOME_FAILED)
    code = next((code for code in ORDER if code in codes), 0)
    state = _close(ledger, view, halt, code)
    say(f"{state.status}{f' ({state.reason})' if state.reason else ''} after {_minutes(started)}")
    if state.status not in ("DONE", "FAILED"):
        say(f"`podium resume {whole_name(state.name)}` goes on from here")
    return state, code


def _run_on_ray(
    built: Built, paths: dict[str, Path], ledger: Ledger, view: MlflowView, halt: Halt, *, retry: bool
) -> int:
    """Everything that needs Ray: the trials, their evaluation, the decision. Returns the decision's exit code."""
    display = Screen if sys.stderr.isatty() and sys.stdout.isatty() else Lines
    # Ray sets a handler of its own for SIGTERM when it starts, so ours comes after it.
    with ray_cluster(say, ledger.folder / RAY_LOG) as nodes, interruptible(halt, say):
        with ExitStack() as views:
            views.enter_context(Follower(ledger.folder, SYNC_S, view.sync))
            look = views.enter_context(display(built.sweep.spec.search.num_trials))
            views.enter_context(Follower(ledger.folder, LOOK_S, look))
            machines = tune_trials(built, paths, ledger, halt, say, nodes, retry=retry)
        if halt.reason:
            say(halt.reason)
        say(f"{len(ledger.read().drawn)} trials are there")
        if halt.pauses:
            return 0
        halt.deciding = True
        return _decide(built, paths, ledger, view, halt, machines)


def _announce(built: Built, state: SweepState, folder: Path) -> None:
    spec = built.sweep.spec
    where = f"{built.sweep.facts.name} on {', '.join(spec.pools)}; {folder}"
    if not state.sessions:
        say(f"sweep {spec.name}: {spec.search.num_trials} trials of {where}")
        return
    version = state.versions[-1]
    if version.changes and version.t > state.sessions[-1].began:
        say(f"sweep {spec.name}, version {version.number}: {'; '.join(version.changes)}")
        say(f"{len(state.drawn)} of its trials were run before and stay; {len(state.history)} are no points of it")
    over = (State.DONE, State.STOPPED, State.FAILED)
    ended = sum(trial.state in over and not trial.halted for trial in state.drawn.values())
    going = len(state.drawn) - ended
    going_on = f", {going} go on from where they are" if going else ""
    say(f"sweep {spec.name} goes on: {ended} of {spec.search.num_trials} trials have ended{going_on}; {where}")


def _decide(
    built: Built, paths: dict[str, Path], ledger: Ledger, view: MlflowView, halt: Halt, machines: Machines
) -> int:
    """Champion, bundle, verification, registration; returns the exit code of the part that fell short."""
    choice = confirm(built, paths, ledger, halt, machines, say)
    if built.place is not None and not built.place.is_last:
        for sentence in choice.why[:1]:
            say(sentence)
        return 0  # its adapter stays where it is: the bundle is the last stage's
    spec = built.sweep.spec
    to = spec.export.to or str(home.bundle_folder(spec.name))
    assert choice.champion is not None
    began, on_cpu = time.time(), built.pools[0].device == "cpu"
    try:
        made = make_bundle(ledger.read(), choice, to, merge=spec.export.merge, say=say, keep=spec.export.keep)
    except (VerificationFailed, ServiceUnreachable, InvalidInput) as error:
        say(f"error: {error}")  # the champion stays chosen; the same submit again exports it
        return error.exit_code
    finally:  # with a core of the driver's machine, whatever the trials trained on
        charge_work(ledger, "evaluation", "export", time.time() - began, choice.champion, int(on_cpu))
    view.sync(ledger.read())
    version = _register(ledger.read(), choice.champion, view, Path(made["folder"]))
    ledger.append("export", export={**made, "registered": version})
    return 0


def _register(state: SweepState, champion: str, view: MlflowView, bundle: Path) -> str | None:
    run_id = view.run_ids().get(champion)
    if run_id is None:
        say("not registered: MLflow has no run of the champion")
        return None
    try:
        version = register_champion(view.tracking_uri, bundle, run_id, state.name, tags={"podium.trial": champion})
    except ServiceUnreachable as error:
        say(f"not registered: {error}")
        return None
    say(f"registered in MLflow as {state.name} version {version}, alias champion")
    return version


def caught_up(ledger: Ledger) -> SweepState:
    """Bring MLflow up to date with a finished sweep, the registered champion with it; return the sweep's state."""
    view = MlflowView(home.tracking_uri())
    state = ledger.read()
    _sync(view, state)
    last = state.exports[-1] if state.exports else None
    is_registered = "/" not in state.name  # an earlier stage's champion is not
    if is_registered and last is not None and last.get("registered") is None and Path(last["folder"]).is_dir():
        version = _register(state, last["trial"], view, Path(last["folder"]))
        if version is not None:
            ledger.append("export", export={**last, "registered": version})
    return ledger.read()


def _close(ledger: Ledger, view: MlflowView, halt: Halt, code: int) -> SweepState:
    """Leave nothing open: every trial has a state to rest in, the ledger an end, MLflow no run that runs."""
    settle(ledger, halt)
    charge_idle(ledger, DECISION)
    ledger.append("end", status=halt.status, reason=halt.reason, code=code)
    state = ledger.read()
    _report(state)
    _sync(view, state)
    try:
        keep_ledger(state, state.spec["export"]["to"])
    except PodiumError as error:
        say(f"no copy of the ledger was kept in object storage: {error}")
    return state


def _report(state: SweepState) -> None:
    if not any(trial.reports or trial.stage for trial in state.trials.values()):
        return
    from analysis.report import write_report

    try:
        write_report(state, state.folder / "report.html")
    except (OSError, InvalidInput) as error:
        say(f"the report could not be written: {error}")
    except AssertionError as error:  # our mistake, which costs nobody a sweep; `podium report` ends with it
        say(str(error))


def _sync(view: MlflowView, state: SweepState) -> None:
    result = view.sync(state)
    if not result["ok"]:
        say(f"MLflow at {result['tracking_uri']} is not up to date: {result['error']}")
        say(f"`podium doctor {state.name} --fix` brings it up to date when it answers again")


def _minutes(started: float) -> str:
    seconds = round(time.time() - started)
    return f"{seconds // 60} min {seconds % 60} s"
