"""When trial after trial fails the same way, the set-up is to blame: the sweep stops itself and says so."""

import re

from launchers.halt import Halt


class Failures:
    """Counts failures alike in a row, and halts the sweep at ``limit`` of them."""

    def __init__(self, limit: int, halt: Halt) -> None:
        self._limit, self._halt = limit, halt
        self._last = ""
        self._count = 0

    def failed(self, message: str) -> None:
        """A trial or its evaluation has failed for good."""
        alike = signature(message)
        self._count = self._count + 1 if alike == self._last else 1
        self._last = alike
        if self._count >= self._limit:
            said = message.strip().splitlines()[-1]
            hint = "mend the cause, then `podium retry` runs the failed ones again"
            self._halt.stop("FAILED", f"{self._count} trials in a row failed the same way: {said} ({hint})")

    def succeeded(self) -> None:
        """A trial has come to its end: what failed before was its own."""
        self._count = 0


def signature(message: str) -> str:
    """What two messages share that differ only in numbers, ids and paths."""
    last = message.strip().splitlines()[-1] if message.strip() else ""
    return re.sub(r"/\S+|\b[0-9a-f]{6,}\b|\d+", "#", last)
