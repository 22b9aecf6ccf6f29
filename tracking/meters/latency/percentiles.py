"""Percentiles of latencies, with intervals that assume no distribution. ``sweeps.latency.NEEDED`` says of how many."""

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.latency import NEEDED

INTERVAL = 0.95


@dataclass(frozen=True)
class Percentile:
    """A percentile of some requests.

    Attributes:
        value: Of one of the requests; None where it is not known.
        why: It is not known; empty where it is.
        low: The interval's lower end; None where the interval has no end there, as with few requests.
        high: Its upper end, likewise.
    """

    value: float | None
    why: str = ""
    low: float | None = None
    high: float | None = None


def rank(percent: int, count: int) -> int:
    """The place, from 1, of the smallest of ``count`` observations that at least ``percent`` % do not exceed."""
    # In integers: 0.95 * 100 is 95.00000000000001 in some orders of multiplying.
    return max(1, -(-percent * count // 100))


def estimate(times: Sequence[float | None], percent: int) -> Percentile:
    """A percentile of requests, nearest rank, of all that were made.

    A request without an answer took longer than any that was answered. Leaving it out would make a server look faster
    for refusing those that wait.

    Args:
        times: In any order; None for a request without an answer.
        percent: One of ``sweeps.metrics.PERCENTILES``.
    """
    answered, count = sorted(time for time in times if time is not None), len(times)
    if count < NEEDED[percent]:
        return Percentile(None, f"needs {NEEDED[percent]} requests, and {count} were made")
    place = rank(percent, count)
    if place > len(answered):
        return Percentile(None, f"{count - len(answered)} of {count} requests have no answer, and it is one of them")
    low, high = interval_ranks(percent, count)
    return Percentile(
        answered[place - 1],
        low=answered[low - 1] if low else None,
        high=answered[high - 1] if high and high <= len(answered) else None,
    )


def interval_ranks(percent: int, count: int) -> tuple[int | None, int | None]:
    """The places, from 1, of the two observations that a percentile lies between with a confidence of ``INTERVAL``.

    How many of ``count`` independent observations lie below the percentile is binomial, whatever their distribution is:
    each end is the innermost one that errs with a probability of at most half of what is left (Hahn and Meeker,
    Statistical Intervals, 5.2). None where no observation is far enough out.
    """
    from scipy.stats import binom

    left = (1 - INTERVAL) / 2
    # P(fewer than ``low`` lie below) <= left, and P(``high`` or more lie below) <= left.
    low = int(binom.ppf(left, count, percent / 100))
    while low and binom.cdf(low - 1, count, percent / 100) > left:
        low -= 1
    high = int(binom.isf(left, count, percent / 100)) + 1
    while high <= count and binom.sf(high - 1, count, percent / 100) > left:
        high += 1
    return low or None, high if high <= count else None
