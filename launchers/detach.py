"""Running a command of Podium in the background: a process of its own that outlives the terminal."""

import os
import subprocess
import sys
import time
from pathlib import Path

from launchers import home
from launchers.output import messages, say
from sweeps.errors import PodiumError
from tracking.ledger import FILE_NAME, SweepState, is_open, read

LOG = "driver.log"
LOOK_S = 0.2
START_LIMIT_S = 120.0


def detach(name: str, arguments: list[str]) -> int:
    """Start ``podium ARGUMENTS`` in the background; return when it has taken the sweep up, or has ended.

    Returns:
        The exit code: 0 when it runs; its own, with what it said, when it has ended already.

    Raises:
        PodiumError: It neither takes the sweep up nor ends. It is ended then.
    """
    folder = home.run_folder(name)
    if is_open(folder):
        _tell(name, folder, read(folder).sessions[-1].pid)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    sessions = len(_state(folder).sessions) if (folder / FILE_NAME).exists() else 0
    log = folder / LOG
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
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            with log.open("rb") as file:
                file.seek(begun)
                messages.print(file.read().decode(errors="replace").rstrip(), markup=False, soft_wrap=True)
            return code
        if (folder / FILE_NAME).exists() and len(_state(folder).sessions) > sessions:
            _tell(name, folder, process.pid)
            return 0
        time.sleep(LOOK_S)
    process.terminate()
    raise PodiumError(f"the sweep did not start within {START_LIMIT_S:.0f} s; see {log}")


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


def _tell(name: str, folder: Path, pid: int) -> None:
    say(f"sweep {name} runs in the background as process {pid}; it writes {folder / LOG}")
    say(f"  podium status {name} --watch   how far it is")
    say(f"  podium logs {name} -f          what its trial says")
    say(f"  podium pause {name}            set it down; `podium resume {name}` goes on")
    say(f"  podium stop {name}             end it with a champion among what is there")
