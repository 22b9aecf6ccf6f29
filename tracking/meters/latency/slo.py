"""Whether latencies keep an SLO, and how many requests a second do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.latency import OF_ENDPOINT, Limit, metric_of, of_requests
from tracking.meters.latency.result import Times


@dataclass(frozen=True)
class Verdict:
    """One limit of an SLO against what was measured.

    Attributes:
        metric: By its name; ``limit`` in words, e.g. "<= 2 s".
        value: In seconds; None where it was not measured.
        kept: None where that cannot be said.
        why: It cannot.
    """

    metric: str
    limit: str
    value: float | None
    kept: bool | None
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def verdicts(
    slo: Mapping[str, Limit], metrics: Mapping[str, float | None], missing: Mapping[str, str] | None = None
) -> list[Verdict]:
    """The verdict on every limit, in the SLO's order. What was not measured is neither kept nor broken.

    Args:
        slo: By ``<stage>_p<percentile>``.
        metrics: By name.
        missing: Why a metric has no value, where that is known.
    """
    told = []
    for name, limit in slo.items():
        metric = metric_of(name)
        value = metrics.get(metric)
        why = "" if value is not None else (missing or {}).get(metric, "it was not measured")
        told.append(Verdict(metric, str(limit), value, None if value is None else limit.holds(value), why))
    return told


def good(slo: Mapping[str, Limit], times: Mapping[str, Times]) -> list[bool] | None:
    """For each request, whether it was answered and kept every limit; None where the SLO has none for a request.

    Args:
        slo: As above.
        times: By stage, of the same requests in the same order.
    """
    limits = {stage: limit for stage, limit in of_requests(slo).items() if stage in times}
    if not limits:
        return None
    rows = zip(*(times[stage] for stage in limits), strict=True)
    return [
        all(one is not None and limit.holds(one) for one, limit in zip(row, limits.values(), strict=True))
        for row in rows
    ]


def goodput(slo: Mapping[str, Limit], times: Mapping[str, Times], seconds: float) -> tuple[float | None, str]:
    """Good requests a second (DistServe, arXiv 2401.09670), or None and why there is no such figure.

    Args:
        slo: As above.
        times: As above.
        seconds: From the first arrival to the last answer.
    """
    kept = good(slo, times)
    if kept is None:
        return None, f"the SLO has no limit on {' or '.join(OF_ENDPOINT)}, which a request to an endpoint has"
    if not kept or seconds <= 0:
        return None, "no request was made"
    return sum(kept) / seconds, ""


def attained(found: Sequence[Verdict]) -> bool | None:
    """Whether every limit is kept; None where one cannot be told and none is broken."""
    if any(one.kept is False for one in found):
        return False
    return True if found and all(one.kept for one in found) else None
