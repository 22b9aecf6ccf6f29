"""``podium logs``, ``stop`` and ``dashboard``."""

import time
from pathlib import Path
from typing import Annotated

import typer

from launchers import home
from launchers.commands.options import SweepName
from launchers.output import messages, say
from sweeps.errors import InvalidInput, Problem, ServiceUnreachable

PORT = 5000


def logs(
    sweep: SweepName = None,
    trial: Annotated[
        str | None, typer.Option("--trial", "-t", help="A trial's id (or its beginning) or number.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=1)] = 40,
) -> None:
    """Print what a trial's trainer said; of the trial that failed or ran last, when none is given.

    [dim]podium logs
    podium logs commerce-sft --trial 3 -n 200[/]
    """
    from analysis.frame import open_sweep
    from tracking.ledger import State

    state = open_sweep(sweep, home.home())
    ordered = sorted(state.trials.values(), key=lambda one: (one.state is State.FAILED, one.started or 0, one.number))
    if trial is not None:
        ordered = [one for one in ordered if one.id.startswith(trial) or str(one.number) == trial]
    if not ordered:
        known = ", ".join(f"{one.number} ({one.id})" for one in list(state.trials.values())[:10])
        raise InvalidInput(
            Problem("--trial", f"no trial {trial!r} in {state.name}", f"there are {known or 'none yet'}")
        )
    one = ordered[-1]
    path = state.folder / "trials" / one.id / "engine.log"
    say(f"trial {one.number} ({one.id}), {one.state}: {path}")
    if one.error:
        say(one.error)
    if path.exists():
        text = path.read_text(errors="replace").replace("\r", "\n")
        for line in [line for line in text.splitlines() if line.strip()][-lines:]:
            print(line)


def stop(sweep: SweepName = None) -> None:
    """Ask a running sweep to stop: its trials end at their last checkpoint, then the champion is chosen among them.

    [dim]podium stop commerce-sft[/]
    """
    from analysis.frame import open_sweep

    state = open_sweep(sweep, home.home())
    if state.status != "RUNNING":
        say(f"{state.name} is not running: {state.status}")
        return
    (state.folder / "inbox").mkdir(exist_ok=True)
    (state.folder / "inbox" / "stop").touch()
    say(f"asked {state.name} to stop; `podium status {state.name}` shows how far it is")


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
