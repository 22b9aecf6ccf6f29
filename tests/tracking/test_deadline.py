"""A limit on a call's wall-clock."""

import threading
import time

import pytest

from tracking.deadline import call_within


def test_the_value_or_the_exception_comes_through() -> None:
    assert call_within(5, lambda: "value") == "value"
    assert call_within(5, lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        call_within(5, lambda: 1 / 0)


def test_a_call_that_does_not_come_back_is_given_up() -> None:
    released = threading.Event()
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        call_within(0.05, lambda: released.wait(20))
    assert time.monotonic() - start < 5
    released.set()
