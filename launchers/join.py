"""Following a sweep that another process runs."""

import sys
import time
from pathlib import Path

from launchers.live import Follower, Lines, Screen
from sweeps.errors import PodiumError
from tracking.ledger import SweepState, is_open, read

LOOK_S = 0.5


def follow(folder: Path) -> SweepState:
    """Show the sweep until its driver lets go of the run folder; return where it stands then."""
    num_trials = _num_trials(folder)
    display = Screen if sys.stderr.isatty() and sys.stdout.isatty() else Lines
    with display(num_trials) as look, Follower(folder, LOOK_S, look):
        while is_open(folder):
            time.sleep(LOOK_S)
    return read(folder)


def _num_trials(folder: Path) -> int:
    """Of the sweep; its first line may still be on its way."""
    while True:
        try:
            search = read(folder).spec["search"]
            return int(search["trials"] * search["seeds"])
        except PodiumError:
            if not is_open(folder):
                raise
            time.sleep(0.1)
