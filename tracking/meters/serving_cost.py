"""What serving costs: replicas for the peak at a measured goodput, their price by the month and by the request.

A fleet is bought for its peak and paid for whole: replicas = ⌈peak × (1 + headroom) / goodput of one⌉, at least
``min_replicas``; a month = replicas × GPUs × price × 730 h. A thousand requests cost what a month does, shared out
over the requests of a month at the mean rate. What is paid by the token has no replicas.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sweeps.facts import Pool
from sweeps.metrics import SERVING
from sweeps.pricing import TokenPrice, Traffic
from tracking.ledger import Evaluation

PER_1K, MONTHLY = SERVING
GOODPUT = "latency/goodput_rps"
SPLIT = "serving"  # of the evaluation that holds these
HOURS_A_MONTH = 730  # 365 days × 24 h / 12, as clouds bill
_ROUNDING = 9  # decimals; 1.3 × 50 / 13 are 5 replicas, and not 6


@dataclass(frozen=True)
class Goodput:
    """Requests a second that one replica answers within the limits; ``how`` it is known, ``n`` requests it rests on."""

    rps: float
    n: int
    how: str


@dataclass(frozen=True)
class ServingCost:
    """What the traffic costs.

    Attributes:
        monthly_usd: None where it cannot be told: then ``why`` says why. ``usd_per_1k_requests`` likewise.
        replicas: None where tokens are paid for. ``utilisation`` likewise: the mean rate over what the fleet can.
        by: What the figures rest on, in words.
        n: Requests that were measured.
    """

    monthly_usd: float | None
    usd_per_1k_requests: float | None
    replicas: int | None = None
    utilisation: float | None = None
    by: str = ""
    n: int = 0
    why: str | None = None

    @property
    def metrics(self) -> dict[str, float | None]:
        """By the names under which they are recorded."""
        return {MONTHLY: self.monthly_usd, PER_1K: self.usd_per_1k_requests}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def requests_a_month(traffic: Traffic) -> float:
    """At the mean rate."""
    return traffic.mean_rps * 3600 * HOURS_A_MONTH


def num_replicas(traffic: Traffic, goodput_rps: float) -> int:
    """Replicas that hold the peak with head room."""
    needed = round(traffic.peak_rps * (1 + traffic.headroom) / goodput_rps, _ROUNDING)
    return max(traffic.min_replicas, math.ceil(needed))


def of_fleet(traffic: Traffic, pool: Pool, goodput: Goodput) -> ServingCost:
    """Serving on machines of ``pool``, every replica as good as the measured one."""
    replicas = num_replicas(traffic, goodput.rps)
    monthly = replicas * traffic.gpus_per_replica * pool.price.usd_per_hour * HOURS_A_MONTH
    return ServingCost(
        monthly,
        monthly / requests_a_month(traffic) * 1000,
        replicas,
        traffic.mean_rps / (replicas * goodput.rps),
        goodput.how,
        goodput.n,
    )


def of_tokens(traffic: Traffic, price: TokenPrice, tokens_in: float, tokens_out: float, n: int) -> ServingCost:
    """Serving that is paid by the token, with the mean tokens of ``n`` requests."""
    usd = price.usd(tokens_in, tokens_out)
    told = f"{tokens_in:.4g} tokens in and {tokens_out:.4g} out a request, mean of {n}; {price.date}: {price.source}"
    return ServingCost(usd * requests_a_month(traffic), usd * 1000, by=told, n=n)


def goodput_of(evaluations: Sequence[Evaluation]) -> Goodput | str:
    """The goodput of one replica as it was measured, or why it is not known.

    Where only the latency of one request at a time is known, a replica answers one after the other: 1 / mean latency.
    That is the least it can, since servers answer many at once. A latency under load is not one of a request at a time,
    and one that some requests have not is no mean of all.
    """
    found = [one for one in evaluations if one.metrics.get(GOODPUT) is not None]
    if found:
        rps, n = found[-1].metrics[GOODPUT] or 0.0, found[-1].n
        if rps <= 0:
            return f"{GOODPUT} is 0 over n = {n} requests: none is answered within the limits, on however many replicas"
        offered = found[-1].detail.get("rate")
        load = f" of {offered:g} that were offered, so at least that" if offered else ""
        return Goodput(rps, n, f"{GOODPUT} {rps:.4g} requests/s a replica{load}, n = {n}")
    timed = [one for one in evaluations if one.split == "latency"]
    if not timed:
        return "neither its goodput nor its latency was measured"
    last = timed[-1]
    if last.detail.get("rate"):
        return f"no {GOODPUT}: {last.detail.get('missing', {}).get(GOODPUT, 'it was not measured')}"
    if lost := last.detail.get("num_errors"):
        return f"{lost} of {last.n} requests have no answer, so its mean latency is not known"
    mean = _mean_s(last.detail)
    if not mean:
        return "neither its goodput nor its latency was measured"
    told = f"one request at a time, mean latency {mean:.4g} s, n = {last.n}: {1 / mean:.4g} requests/s a replica"
    return Goodput(1 / mean, last.n, told)


def serving_cost(
    traffic: Traffic, pool: Pool, evaluations: Sequence[Evaluation], price: TokenPrice | None = None
) -> ServingCost:
    """What serving an arm costs, by its evaluations.

    Args:
        price: Of its tokens, where it is served elsewhere and paid by them.
    """
    if price is not None:
        used = [one.detail["endpoint"] for one in evaluations if _tokens(one.detail.get("endpoint"))]
        if not used:
            return ServingCost(None, None, why="its server told no tokens, or all its answers came from the cache")
        asked = sum(one["asked"] for one in used)
        means = [sum(one[key] for one in used) / asked for key in ("tokens_in", "tokens_out")]
        return of_tokens(traffic, price, means[0], means[1], asked)
    goodput = goodput_of(evaluations)
    return ServingCost(None, None, why=goodput) if isinstance(goodput, str) else of_fleet(traffic, pool, goodput)


def _mean_s(detail: Mapping[str, Any]) -> float | None:
    """The mean latency of a whole request; where only its formulation was timed, of that."""
    stages = detail.get("stages") or {}
    timed = stages.get("agent") or stages.get("formulation") or detail
    mean: float | None = timed.get("mean_s")
    return mean


def _tokens(used: Mapping[str, Any] | None) -> bool:
    """Whether an endpoint was asked, and told what it took."""
    return bool(used and used.get("asked") and None not in (used.get("tokens_in"), used.get("tokens_out")))
