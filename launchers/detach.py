"""Running a command of Podium in the background: a process of its own that outlives the terminal."""

import os
import subprocess
import sys
import time
from pathlib import Path

from launchers import home
from launchers.build import Built
from launchers.output import messages, say
from launchers.submit import refuse_a_change
from sweeps.errors import InvalidInput, PodiumError, Problem
from tracking.ledger import FILE_NAME, SweepState, is_open, read

LOOK_S = 0.2
START_LIMIT_S = 120.0


def detach(built: Built, arguments: list[str], *, retry: bool = False, whole: str | None = None) -> int:
    """Start ``podium ARGUMENTS`` in the background; return when it has taken the sweep up, or has ended.

    Args:
        built: The sweep; of a staged one, the stage that is to run first.
        arguments: Of the command.
        retry: Whether failed trials are to be run again.
        whole: The name of the staged sweep that it is of.

    Returns:
        The exit code: 0 when it runs; its own, with what it said, when it has ended already.

    Raises:
        InvalidInput: The sweep runs, and is another, or is to be retried.
        PodiumError: It neither takes the sweep up nor ends. It is ended then.
    """
    name = whole or built.sweep.spec.name
    folder = home.run_folder(built.sweep.spec.name)
    if is_open(folder):
        refuse_a_change(built, folder)
        if retry:
            raise InvalidInput(Problem(name, "it is running", "retry it when it has ended"))
        _tell(name, home.run_folder(name), _wait_for_session(folder, 0))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    sessions = len(_state(folder).sessions) if (folder / FILE_NAME).exists() else 0
    log = home.run_folder(name) / home.DRIVER_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        begun = file.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "launchers.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "COLUMNS": "160"},
            start_new_session=True,  # a terminal that is closed, or its Ctrl-C, does not reach it
        )
    try:
        state = _wait_for_session(folder, sessions, process)
    except BaseException:  # also Ctrl-C: what has not been announced must not stay
        process.terminate()
        raise
    code = process.poll()
    if code is None and state is not None:
        if state.sessions[-1].pid != process.pid:
            process.terminate()  # another one was quicker
        _tell(name, home.run_folder(name), state)
        return 0
    with log.open("rb") as file:
        file.seek(begun)
        messages.print(file.read().decode(errors="replace").rstrip(), markup=False, soft_wrap=True)
    return process.wait()


def _wait_for_session(
    folder: Path, sessions: int, process: "subprocess.Popen[bytes] | None" = None
) -> SweepState | None:
    """The state once the sweep has more sessions than so many; None when the process that should begin one ended."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if (folder / FILE_NAME).exists():
            state = _state(folder)
            if len(state.sessions) > sessions:
                return state
        if process is not None and process.poll() is not None:
            return None
        time.sleep(LOOK_S)
    raise PodiumError(f"the sweep did not start within {START_LIMIT_S:.0f} s; see {folder / home.DRIVER_LOG}")


def _state(folder: Path) -> SweepState:
    """The state, also in the moment when the first line is still being written."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return read(folder)
        except PodiumError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)


def _tell(name: str, folder: Path, state: SweepState | None) -> None:
    assert state is not None, "only a process that was watched can have ended"
    pid = state.sessions[-1].pid
    say(f"sweep {name} runs in the background as process {pid}; it writes {folder / home.DRIVER_LOG}")
    say(f"  podium status {name} --watch   how far it is")
    say(f"  podium logs {name} -f          what its trial says")
    say(f"  podium pause {name}            set it down; `podium resume {name}` goes on")
    say(f"  podium stop {name}             end it with a champion among what is there")
