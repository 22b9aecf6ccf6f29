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

# Several, because a process that gives itself a title, as Ray's do, writes it over the first of what is in /proc.
MARKS = tuple(f"PODIUM_DRIVER_{number}" for number in range(8))
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
    os.environ.update(dict.fromkeys(MARKS, token))
    try:
        yield
    finally:
        for mark in MARKS:
            del os.environ[mark]
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait()


def end_marked(token: str) -> None:
    """End every process with this mark, and those that they start meanwhile."""
    marked = {f"{mark}={token}".encode() for mark in MARKS}
    deadline = time.monotonic() + LIMIT_S
    clean = 0
    # A process shows no environment in the moment in which it becomes another program: so look more than once.
    while clean < CLEAN_LOOKS and time.monotonic() < deadline:
        found = [int(entry.parent.name) for entry in Path("/proc").glob("[0-9]*/environ") if _has(entry, marked)]
        clean = 0 if found else clean + 1
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # it has ended meanwhile
        time.sleep(0.1)


def _has(environ: Path, marked: set[bytes]) -> bool:
    try:
        return not marked.isdisjoint(environ.read_bytes().split(b"\0"))
    except OSError:
        return False  # it has ended, or is another user's


if __name__ == "__main__":
    sys.stdin.read()  # comes to its end when the driver closes it, or ends
    end_marked(sys.argv[1])
