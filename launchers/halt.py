"""Why and how a sweep ends before its last trial: a budget, `podium stop`, Ctrl-C."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking.ledger import Ledger, State


class Halt:
    """Why the sweep stops taking new work; None while it goes on."""

    def __init__(self, inbox: Path) -> None:
        self.reason: str | None = None
        self.status = "DONE"
        self._inbox = inbox

    def stop(self, status: str, reason: str) -> None:
        """Stop for this reason; the first one counts."""
        if self.reason is None:
            self.status, self.reason = status, reason

    def look(self) -> None:
        """Take the requests that other commands left in the inbox."""
        request = self._inbox / "stop"
        if request.exists():
            request.unlink()
            self.stop("STOPPED", "stopped by `podium stop`")


@contextmanager
def interruptible(halt: Halt, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the sweep in order; the second ends it at once."""

    def handle(number: int, frame: Any) -> None:
        if halt.reason is not None:
            raise KeyboardInterrupt
        halt.stop("INTERRUPTED", "interrupted")
        say("stopping: trials end at their last checkpoint; press Ctrl-C again to end at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def settle(ledger: Ledger, halt: Halt) -> None:
    """Give every trial that has no end one, so that no run is left open."""
    for trial in ledger.read().trials.values():
        if trial.state in (State.PENDING, State.RUNNING, State.EVALUATING, State.PAUSED):
            reason = halt.reason or "the sweep ended before it"
            ledger.append("state", trial=trial.id, state=State.STOPPED, reason=reason)
