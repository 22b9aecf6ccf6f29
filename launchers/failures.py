"""When trial after trial fails the same way, the set-up is to blame: the sweep stops itself and says so."""

import re

from launchers.halt import Halt

TRAINING, EVALUATION = "training", "evaluation"


class Failures:
    """Counts failures alike in a row, of training and of evaluation apart, and halts the sweep at ``limit`` of them."""

    def __init__(self, limit: int, halt: Halt) -> None:
        self._limit, self._halt = limit, halt
        self._rows: dict[str, tuple[str, int]] = {}  # by stage: what they have in common, and how many

    def failed(self, stage: str, message: str) -> None:
        """A trial's training, or its evaluation, has failed for good."""
        alike = signature(message)
        last, count = self._rows.get(stage, ("", 0))
        count = count + 1 if alike == last else 1
        self._rows[stage] = (alike, count)
        if count >= self._limit:
            said = message.strip().splitlines()[-1]
            hint = "mend the cause, then `podium retry` runs the failed ones again, or `podium submit` what you changed"
            self._halt.stop("FAILED", f"{count} trials in a row failed the same way: {said} ({hint})")

    def succeeded(self, stage: str) -> None:
        """One has come to its end: what failed before was its own."""
        self._rows.pop(stage, None)


def signature(message: str) -> str:
    """What two messages share that differ only in numbers, ids and paths."""
    last = message.strip().splitlines()[-1] if message.strip() else ""
    return re.sub(r"/\S+|\b[0-9a-f]{6,}\b|\d+", "#", last)
