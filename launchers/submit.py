"""``podium submit``: a sweep from its YAML to a champion that is exported and verified."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from analysis.champion import Choice
from launchers import home
from launchers.build import Built, build
from launchers.bundles import make_bundle
from launchers.cluster import ray_cluster
from launchers.driver import tune_trials
from launchers.finish import confirm
from launchers.halt import Halt, interruptible, settle
from launchers.live import Follower, Lines, Screen
from launchers.output import say
from launchers.run_folder import open_folder, prepare
from sweeps.errors import NoChampion, VerificationFailed
from tracking.ledger import Ledger, State, SweepState
from tracking.mlflow_view import MlflowView, check, register_champion

LOOK_S = 0.5
SYNC_S = 5.0
EXIT = {"INTERRUPTED": 130, "BUDGET": 4}
SOME_FAILED = 3


def submit(path: Path, overrides: Sequence[str]) -> tuple[SweepState, int]:
    """Run a sweep to its end; return its state and the exit code.

    Raises:
        InvalidInput: Before anything starts: the YAML, the pools, the data.
        ServiceUnreachable: MLflow or the judge does not answer at the start.
    """
    started = time.time()
    built = build(path, overrides)
    spec = built.sweep.spec
    tracking_uri = home.tracking_uri()
    home.home().mkdir(parents=True, exist_ok=True)
    check(tracking_uri)
    _probe_judge(built)
    folder = open_folder(spec.name)
    say(
        f"sweep {spec.name}: {spec.search.trials} trials of {built.sweep.facts.name} "
        f"on {', '.join(spec.pools)}; {folder}"
    )
    halt = Halt(folder / "inbox")
    code = 0
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(folder))
        paths = prepare(built, folder, ledger)
        view = MlflowView(tracking_uri)
        ledger.append("mlflow", tracking_uri=view.sync(ledger.read())["tracking_uri"])
        try:
            # Ray sets a handler of its own for SIGTERM when it starts, so ours comes after it.
            with ray_cluster(say) as nodes, interruptible(halt, say):
                with ExitStack() as views:
                    views.enter_context(Follower(folder, SYNC_S, view.sync))
                    display = Screen if sys.stderr.isatty() and sys.stdout.isatty() else Lines
                    look = views.enter_context(display(spec.search.trials))
                    views.enter_context(Follower(folder, LOOK_S, look))
                    capacity = tune_trials(built, paths, ledger, halt, say, nodes)
                say(f"{len(ledger.read().trials)} trials after {_minutes(started)}")
                if halt.status != "INTERRUPTED":
                    code = _decide(built, paths, ledger, view, tracking_uri, capacity)
        except NoChampion as error:
            say(str(error))
            code = error.exit_code
        except KeyboardInterrupt:
            halt.stop("INTERRUPTED", "interrupted")
        except Exception as error:
            halt.stop("FAILED", f"{type(error).__name__}: {error}")
            raise
        finally:
            settle(ledger, halt)
            ledger.append("end", status=halt.status, reason=halt.reason)
            _write_report(ledger.read(), folder)
            view.sync(ledger.read())
        state = ledger.read()
    say(f"{state.status}{f' ({state.reason})' if state.reason else ''} after {_minutes(started)}")
    failed = any(trial.state is State.FAILED for trial in state.trials.values())
    codes = [EXIT.get(halt.status, 0), code, SOME_FAILED if failed else 0]
    return state, next((code for code in (130, 7, 6, 4, 3) if code in codes), 0)


def _decide(built: Built, paths: dict[str, Path], ledger: Ledger, view: MlflowView, uri: str, capacity: int) -> int:
    """Champion, bundle, verification, registration; returns the exit code of the part that fell short."""
    choice = confirm(built, paths, ledger, capacity, say)
    bundle = bundle_target(built)
    try:
        made = make_bundle(ledger.read(), choice, bundle, merge=built.sweep.spec.export.merge, say=say)
    except VerificationFailed as error:
        say(f"error: {error}")
        return error.exit_code
    view.sync(ledger.read())
    version = _register(ledger.read(), choice, view, uri, bundle)
    ledger.append("export", export={**made, "registered": version})
    return 0


def bundle_target(built: Built) -> Path:
    """Where the champion's bundle goes."""
    to = built.sweep.spec.export.to
    return Path(to).expanduser().resolve() if to else home.bundle_folder(built.sweep.spec.name)


def _register(state: SweepState, choice: Choice, view: MlflowView, uri: str, bundle: Path) -> str | None:
    from sweeps.errors import ServiceUnreachable

    assert choice.champion is not None
    run_id = view.run_ids().get(choice.champion)
    if run_id is None:
        say("not registered: MLflow has no run of the champion")
        return None
    try:
        version = register_champion(uri, bundle, run_id, state.name, tags={"podium.trial": choice.champion})
    except ServiceUnreachable as error:
        say(f"not registered: {error}")
        return None
    say(f"registered in MLflow as {state.name} version {version}, alias champion")
    return version


def _probe_judge(built: Built) -> None:
    judge = built.sweep.spec.evaluate.judge
    if judge is not None:
        from tracking.meters.judge import RubricJudge

        RubricJudge(judge.model, judge.endpoint, judge.rubric, api_key_env=judge.api_key_env).probe()


def _write_report(state: SweepState, folder: Path) -> None:
    from analysis.report import write_report

    if any(trial.reports for trial in state.trials.values()):
        write_report(state, folder / "report.html")


def _minutes(started: float) -> str:
    seconds = round(time.time() - started)
    return f"{seconds // 60} min {seconds % 60} s"
