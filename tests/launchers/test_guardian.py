"""What a driver has started ends with it, in whichever way the driver ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.kills import wait_until
from tests.launchers.running import ROOT

# Starts a process out of reach of signals to its group, under the guardian, and then ends as it is told.
DRIVER = """
import os, signal, subprocess, sys, time
from launchers.guardian import guarded
with guarded():
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2]], start_new_session=True, stdout=subprocess.DEVNULL)
    while not open(f"/proc/{child.pid}/cmdline").read().startswith("titled"):
        time.sleep(0.1)
    print(child.pid, flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""
# With a title of its own, as Ray's processes have, which must not hide it.
SLEEPS = "import ray, time; ray._raylet.setproctitle('titled'); time.sleep(60)"


def runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes() != b""  # a zombie has none
    except OSError:
        return False


@pytest.mark.parametrize("end", ["in order", "killed"])
def test_nothing_is_left_of_a_driver(end: str) -> None:
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, end, SLEEPS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert driver.returncode == (0 if end == "in order" else -9), driver.stderr
    child = int(driver.stdout)
    if end == "in order":
        assert not runs(child), "it waits for that"
    wait_until(lambda: not runs(child), 20, "the end of what it started")
