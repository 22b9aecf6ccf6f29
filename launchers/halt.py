"""Why and how a sweep ends before its last trial: a budget, `podium stop` and `pause`, Ctrl-C, failures alike."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracking.ledger import Ledger, State

PAUSING = ("PAUSED", "INTERRUPTED")  # trials keep their place and nothing is decided; the others decide among what is


class Halt:
    """Why the sweep stops taking new work; None while it goes on."""

    def __init__(self, inbox: Path) -> None:
        self.reason: str | None = None
        self.status = "DONE"
        self.deciding = False  # no trial runs any more: the first Ctrl-C ends what there is at once
        self._inbox = inbox

    @property
    def pauses(self) -> bool:
        """Whether the sweep only pauses: half-done trials wait for `podium resume`, and no champion is chosen."""
        return self.status in PAUSING

    def stop(self, status: str, reason: str) -> None:
        """Stop for this reason; the first one counts."""
        if self.reason is None:
            self.status, self.reason = status, reason

    def look(self) -> None:
        """Take the requests that other commands left in the inbox."""
        for request, status, reason in (
            ("pause", "PAUSED", "paused by `podium pause`"),
            ("stop", "STOPPED", "stopped by `podium stop`"),
        ):
            if (self._inbox / request).exists():
                self.stop(status, reason)
                (self._inbox / request).unlink()


def clear(inbox: Path) -> None:
    """Drop requests that were meant for a session that is over."""
    inbox.mkdir(parents=True, exist_ok=True)
    for request in inbox.iterdir():
        request.unlink()


@contextmanager
def interruptible(halt: Halt, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM, or a closed terminal) ends the sweep in order; the second ends it at once."""

    def handle(number: int, frame: Any) -> None:
        if halt.reason is not None or halt.deciding:
            raise KeyboardInterrupt
        halt.stop("INTERRUPTED", "interrupted")
        say("stopping: trials wait at their last checkpoint; press Ctrl-C again to end at once")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # the terminal is closed; under nohup it does not matter
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def settle(ledger: Ledger, halt: Halt) -> None:
    """Give every trial that is open a state to rest in: where the sweep pauses it waits, otherwise it has stopped."""
    for trial in ledger.read().trials.values():
        if trial.state not in (State.PENDING, State.RUNNING, State.EVALUATING, State.PAUSED):
            continue
        reason = trial.reason or halt.reason or "the sweep ended before it"
        if not halt.pauses:
            ledger.append("state", trial=trial.id, state=State.STOPPED, reason=reason, halted=True)
        elif trial.state is State.RUNNING:
            ledger.append("state", trial=trial.id, state=State.PAUSED, reason=reason)
