"""What a measurement of latency gives, by the names of the metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeps.latency import NEEDED
from sweeps.metrics import PERCENTILES
from tracking.meters.latency.percentiles import INTERVAL, estimate

Times = Sequence[float | None]
"""Seconds of each request that counts; None for one without an answer."""


@dataclass(frozen=True)
class LatencyResult:
    """``metrics`` by the design's names, seconds; each None where it is not known, and ``detail["missing"]`` says why.

    ``n`` is the number of requests that count, those without an answer among them.
    """

    metrics: dict[str, float | None]
    n: int
    detail: dict[str, Any] = field(default_factory=dict)


def result_of(times: Mapping[str, Times], errors: Sequence[str] = (), **detail: Any) -> LatencyResult:
    """The percentiles of every stage, with their intervals.

    Args:
        times: By stage, of the same requests in the same order.
        errors: Why a request has no answer, for each that has none.
        detail: What else must be known to read the figures.
    """
    metrics: dict[str, float | None] = {}
    intervals: dict[str, list[float | None]] = {}
    missing: dict[str, str] = {}
    stages: dict[str, dict[str, float]] = {}
    for stage, seconds in times.items():
        for percent in PERCENTILES:
            name, found = f"latency/{stage}_p{percent}_s", estimate(seconds, percent)
            metrics[name] = found.value
            if found.value is None:
                missing[name] = found.why
            else:
                intervals[name] = [found.low, found.high]
        if there := [one for one in seconds if one is not None]:
            stages[stage] = {"mean_s": sum(there) / len(there), "min_s": min(there), "max_s": max(there)}
    n = max((len(seconds) for seconds in times.values()), default=0)
    told = {
        **detail,
        "stages": stages,
        "intervals": intervals,
        "confidence": INTERVAL,
        "needed": {f"p{percent}": count for percent, count in NEEDED.items()},
        "num_errors": len(errors),
        **({"missing": missing} if missing else {}),
        **({"errors": dict(Counter(errors).most_common(5))} if errors else {}),
    }
    return LatencyResult(metrics, n, told)
