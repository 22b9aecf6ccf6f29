"""Latency of formulating an answer: one request at a time, by the wall clock, on a machine that does nothing else."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracking.meters.metrics import Item

CONFIDENCE = 0.99


def needed(percentile: int, confidence: float = CONFIDENCE) -> int:
    """Requests needed before a percentile can be stated with the given confidence.

    If a share above ``1 - q`` of requests overran a limit, ``n`` requests would all stay within it with a probability
    below ``q**n``. So ``n = ceil(ln(1 - confidence) / ln(q))`` requests without an overrun are what it takes: 7 for
    p50, 90 for p95, 459 for p99 at a confidence of 99 % (the success-run theorem: a binomial test with no failures).
    """
    return math.ceil(math.log(1 - confidence) / math.log(percentile / 100))


NEEDED = {percentile: needed(percentile) for percentile in (50, 95, 99)}


@dataclass(frozen=True)
class LatencyResult:
    """``metrics`` by the design's names in seconds, each None where ``n`` requests are too few for it."""

    metrics: dict[str, float | None]
    n: int
    detail: dict[str, Any] = field(default_factory=dict)  # mean, min and max in seconds; warm-up; requests needed


def measure_latency(
    answer: Callable[[Sequence[list[dict[str, Any]]]], Any],
    items: Sequence[Item],
    warmup: int = 1,
    requests: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyResult:
    """Time ``answer``, called with the messages of one item at a time, in the items' order, round and round if need be.

    Args:
        answer: Takes a batch of conversations, here always of one; what it returns is not looked at.
        items: At least one.
        warmup: Requests made first that do not count.
        requests: Requests that count; None for one per item.
        clock: Seconds, from anywhere.
    """
    assert items, "a latency needs something to ask"
    total = len(items) if requests is None else requests
    for number in range(warmup):
        answer([items[number % len(items)].messages])
    seconds = []
    for number in range(total):
        messages = items[number % len(items)].messages
        start = clock()
        answer([messages])
        seconds.append(clock() - start)
    seconds.sort()
    metrics = {f"latency/formulation_p{p}_s": percentile(seconds, p) if total >= NEEDED[p] else None for p in NEEDED}
    detail: dict[str, Any] = {"warmup": warmup, "needed": {f"p{p}": count for p, count in NEEDED.items()}}
    if seconds:
        detail |= {"mean_s": sum(seconds) / total, "min_s": seconds[0], "max_s": seconds[-1]}
    return LatencyResult(metrics, total, detail)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest observation that at least ``percent`` % do not exceed (nearest rank); ``ordered`` ascends."""
    # In integers: 0.95 * 100 is 95.00000000000001 in some orders of multiplying.
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
