"""How far a long command is: one line that changes on a terminal, a line from time to time elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launchers.output import messages, say

EVERY_S = 30.0  # between two lines where there is no terminal


@contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Within, what is told is shown as progress on stderr."""
    if messages.is_terminal:
        with messages.status("") as status:
            yield lambda text: status.update(f"{text} …")
        return
    last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_S:
            last = time.monotonic()
            say(f"{text} …")

    yield tell
