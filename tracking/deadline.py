"""A limit on the wall-clock of a call into a library that has its own ideas about retrying."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def call_within(limit_s: float, function: Callable[[], T]) -> T:
    """The value of ``function()``, or its exception, if it comes within ``limit_s`` seconds.

    The call runs in a daemon thread: one that is given up goes on in the background, but never keeps the process alive.

    Raises:
        TimeoutError: It did not come in time.
    """
    values: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            values.append(function())
        except BaseException as error:  # handed to the caller's thread below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="call_within")
    thread.start()
    thread.join(limit_s)
    if errors:
        raise errors[0]
    if values:
        return values[0]
    raise TimeoutError(f"no answer within {limit_s:g} s")
