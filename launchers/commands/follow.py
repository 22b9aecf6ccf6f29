"""``podium logs``, ``stop``, ``pause`` and ``dashboard``."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from launchers import home
from launchers.commands.options import SweepName, TrialName
from launchers.output import messages, say
from recipes.engines.protocol import LOG_NAME
from sweeps.errors import InvalidInput, Problem, ServiceUnreachable
from sweeps.stages import whole_name
from tracking.ledger import FILE_NAME, State, SweepState, is_open, read
from tracking.state import meant

PORT = 5000
FOLLOW_S = 0.3


def logs(
    sweep: SweepName = None,
    trial: TrialName = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=1)] = 40,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until the trial has ended.")] = False,
    driver: Annotated[bool, typer.Option("--driver", help="Of a detached sweep's driver instead of a trial.")] = False,
) -> None:
    """Print what a trial's trainer said; of the trial that failed or ran last, when none is given.

    [dim]podium logs
    podium logs commerce-sft --trial 3 -n 200
    podium logs commerce-sft --driver -f[/]
    """
    state = _at_work(sweep)
    if driver:
        path = home.run_folder(whole_name(state.name)) / home.DRIVER_LOG
        if not path.exists():
            say(f"{state.name} was never run in the background: its driver wrote to a terminal")
            return
        place = _print_tail(path, lines)
        if follow:
            _follow(path, place, lambda: not is_open(state.folder))
        return
    ordered = sorted(state.drawn.values(), key=lambda one: (one.state is State.FAILED, one.started or 0, one.number))
    if trial is not None:
        ordered = meant((one for one in state.every_trial.values() if one.stage is None), trial)
        if len(ordered) > 1:
            few = ", ".join(f"{one.number} ({one.id})" for one in ordered)
            raise InvalidInput(Problem("--trial", f"{trial!r} may be any of {few}", "give the whole id"))
    if not ordered and trial is None:
        if follow and is_open(state.folder):
            say(f"no trial of {state.name} has started yet: waiting for the first")
            while is_open(state.folder) and not read(state.folder).drawn:
                time.sleep(FOLLOW_S)
            logs(state.name, None, lines, follow, driver)
        else:
            say(f"no trial of {state.name} has started yet")
        return
    if not ordered:
        known = ", ".join(f"{one.number} ({one.id})" for one in list(state.drawn.values())[:10])
        raise InvalidInput(
            Problem("--trial", f"no trial {trial!r} in {state.name}", f"there are {known or 'none yet'}")
        )
    one = ordered[-1]
    path = state.folder / "trials" / one.id / LOG_NAME
    say(f"trial {one.number} ({one.id}), {one.state}: {path}")
    if one.error:
        say(one.error)
    place = _print_tail(path, lines)
    if follow:
        _follow(path, place, lambda: _has_ended(state.folder, one.id))


def _at_work(sweep: str | None) -> SweepState:
    """The sweep; of a staged one that is named as a whole, the stage that runs, or else the last that has begun."""
    from analysis.frame import list_sweeps, open_sweep
    from launchers.walk import running_stage

    names = list_sweeps(home.home())
    name = sweep or next(iter(names), None)
    running = running_stage(name) if name in names and name is not None else None
    return read(running) if running is not None and (running / FILE_NAME).is_file() else open_sweep(name, home.home())


def _print_tail(path: Path, lines: int) -> int:
    """The last lines of a file; returns how many bytes it had."""
    content = path.read_bytes() if path.exists() else b""
    text = content.decode(errors="replace").replace("\r", "\n")
    for line in [line for line in text.splitlines() if line.strip()][-lines:]:
        print(line)
    return len(content)


def _follow(path: Path, place: int, ended: Callable[[], bool]) -> None:
    """Print what is added to a file beyond ``place`` until nothing more can come."""
    while True:
        last = ended()  # asked first, so that what was written before the end is read after it
        if path.exists():
            with path.open("rb") as file:
                file.seek(place)
                added = file.read()
            place += len(added)
            print(added.decode(errors="replace").replace("\r", "\n"), end="", flush=True)
        if last:
            return
        time.sleep(FOLLOW_S)


def _has_ended(folder: Path, trial: str) -> bool:
    return not is_open(folder) or read(folder).every_trial[trial].state not in (State.PENDING, State.RUNNING)


def stop(sweep: SweepName = None) -> None:
    """Ask a running sweep to stop: its trials end at their last checkpoint, then the champion is chosen among them.

    Of a sweep in stages, those after the present one train nothing then; with SWEEP/STAGE that stage alone is stopped.

    [dim]podium stop commerce-sft[/]
    """
    _request("stop", sweep)


def pause(sweep: SweepName = None) -> None:
    """Ask a running sweep to set everything down: its trials wait at their last checkpoint for `podium resume`.

    [dim]podium pause commerce-sft[/]
    """
    _request("pause", sweep)


def _request(request: str, sweep: str | None) -> None:
    """Leave a request in the inbox of the driver, who alone writes the ledger."""
    state = _at_work(sweep)
    if not is_open(state.folder):
        if state.status == "DONE":
            say(f"{state.name} is not running: it is done")
            return
        where = "its driver is gone" if state.status == "RUNNING" else state.status
        say(f"{state.name} is not running: {where}; `podium resume {whole_name(state.name)}` goes on with it")
        return
    whole = whole_name(state.name)
    folders = [state.folder]
    if request == "stop" and sweep != state.name and whole != state.name:
        folders.append(home.run_folder(whole))  # the stages after this one end at once, too
    for folder in folders:
        (folder / "inbox").mkdir(exist_ok=True)
        (folder / "inbox" / request).touch()
    say(f"asked {state.name} to {request}; `podium status {whole} --watch` shows how far it is")


def dashboard(
    port: Annotated[int, typer.Option(help="Port on this machine.", min=1, max=65535)] = PORT,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
) -> None:
    """Open MLflow on this machine; Ctrl-C ends it.

    [dim]podium dashboard --port 5001[/]
    """
    import os
    import signal
    import socket
    import subprocess
    import sys
    import webbrowser

    uri = home.tracking_uri()
    if uri.startswith("http"):
        say(f"MLflow runs at {uri}")
        return
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise InvalidInput(Problem("PODIUM_HOME", f"no sweep was run in {home.home()} yet", "`podium submit` runs one"))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InvalidInput(Problem("--port", f"port {port} is in use", f"try --port {port + 1}")) from None
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", uri, "--serve-artifacts", "--workers", "1"]
    command += ["--artifacts-destination", str(home.home() / "artifacts")]
    log = (home.home() / "dashboard.log").open("wb")
    server = subprocess.Popen(
        command, stdout=log, stderr=log, env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    )
    address = f"http://127.0.0.1:{port}"
    # However it is asked to end, also in the background where a shell ignores Ctrl-C, the server ends with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        _wait_for(address, server)
        messages.print(f"MLflow: {address} (Ctrl-C ends it)", soft_wrap=True)
        if open_browser:
            webbrowser.open(address)
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()
        log.close()


def _wait_for(address: str, server: "object", limit_s: float = 60.0) -> None:
    import urllib.request

    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except OSError:
            if getattr(server, "poll")() is not None:  # noqa: B009
                break
            time.sleep(0.3)
    raise ServiceUnreachable(f"MLflow did not start at {address}; see {home.home() / 'dashboard.log'}")
