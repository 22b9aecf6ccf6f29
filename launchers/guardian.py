"""Ends whatever a driver has started, when the driver is gone, however it went.

Ray, its workers and the training processes inherit a mark in their environment. A small process of its own, out of
reach of signals to the driver's group, waits for the driver's end and then ends everything that bears the mark. Ray has
reapers of its own, but they leave its agents running for a minute and more, and a worker for as long as it is busy.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = "PODIUM_DRIVER"
# Ray's processes give themselves titles, for which setproctitle takes the room of their environment in /proc, with the
# mark, unless it is told not to.
KEEP_ENVIRONMENT = "SPT_NOENV"
LIMIT_S = 10.0
CLEAN_LOOKS = 5  # in a row, a tenth of a second apart


@contextmanager
def guarded() -> Iterator[None]:
    """What is started within this ends with it, at the latest when this process ends."""
    token = uuid.uuid4().hex
    guardian = subprocess.Popen(
        [sys.executable, __file__, token],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.environ |= {MARK: token, KEEP_ENVIRONMENT: "1"}
    try:
        yield
    finally:
        del os.environ[MARK]
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait()


def end_marked(token: str) -> None:
    """End every process with this mark, and those that they start meanwhile."""
    mark = f"{MARK}={token}".encode()
    deadline = time.monotonic() + LIMIT_S
    clean = 0
    # A process shows no environment in the moment in which it becomes another program: so look more than once.
    while clean < CLEAN_LOOKS and time.monotonic() < deadline:
        found = [int(entry.parent.name) for entry in Path("/proc").glob("[0-9]*/environ") if _has(entry, mark)]
        clean = 0 if found else clean + 1
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # it has ended meanwhile
        time.sleep(0.1)


def _has(environ: Path, mark: bytes) -> bool:
    try:
        return mark in environ.read_bytes().split(b"\0")
    except OSError:
        return False  # it has ended, or is another user's


if __name__ == "__main__":
    sys.stdin.read()  # comes to its end when the driver closes it, or ends
    end_marked(sys.argv[1])
