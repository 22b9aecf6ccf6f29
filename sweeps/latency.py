"""The block of a sweep YAML that says how latency is measured, and what it must keep to."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from sweeps.errors import nearest
from sweeps.fields import Amount, Block, Count, Names, broken_rule, duration_s, empty_block
from sweeps.grammar import quote
from sweeps.metrics import PERCENTILES, STAGES

LIMITS = tuple(f"{stage}_p{percent}" for stage in STAGES for percent in PERCENTILES)
OF_ENDPOINT = ("formulation", "ttft")  # what a single request to an endpoint has

CONFIDENCE = 0.99


def needed(percentile: int, confidence: float = CONFIDENCE) -> int:
    """Requests needed before a percentile can be stated with the given confidence.

    If a share above ``1 - q`` of requests overran a limit, ``n`` requests would all stay within it with a probability
    below ``q**n``. So ``n = ceil(ln(1 - confidence) / ln(q))`` requests without an overrun are what it takes: 7 for
    p50, 90 for p95, 459 for p99 at a confidence of 99 % (the success-run theorem: a binomial test with no failures).
    """
    return math.ceil(math.log(1 - confidence) / math.log(percentile / 100))


NEEDED = {percentile: needed(percentile) for percentile in PERCENTILES}

_PER_S = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER = r"(\d+\.?\d*|\.\d+)"


def of_requests(slo: Mapping[str, "Limit"]) -> dict[str, "Limit"]:
    """What one request to an endpoint must keep, by stage: for each, the tightest of its limits."""
    found: dict[str, Limit] = {}
    for name, limit in slo.items():
        stage = name.rpartition("_p")[0]
        if stage in OF_ENDPOINT and (stage not in found or limit.seconds < found[stage].seconds):
            found[stage] = limit
    return found


def metric_of(limit: str) -> str:
    """The metric that a limit of an SLO is on: ``agent_p95`` bounds ``latency/agent_p95_s``."""
    return f"latency/{limit}_s"


def rate_per_s(value: Any) -> Any:
    """``5/s``, ``300/min``, ``5`` or a number of requests a second, in requests a second."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(rf"\s*{_NUMBER}\s*(?:/\s*([a-z]+)\s*)?", value)
    if match is None or (match[2] or "s") not in _PER_S:
        way = "write 5/s, 300/min or a number of requests a second"
        raise broken_rule(f"must be a rate, but got {quote(value)}", way)
    return float(match[1]) / _PER_S[match[2] or "s"]


class Limit(Block):
    """One limit of an SLO, written ``2s``, ``"<= 2s"`` or ``"< 800ms"``: a time without a unit is none.

    Attributes:
        op: ``2s`` alone is ``<=``.
        seconds: The bound.
    """

    op: Literal["<", "<="] = "<="
    seconds: Amount

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return value
        op, text = re.fullmatch(r"\s*(<=|<)?(.*)", str(value), re.DOTALL).groups()  # type: ignore[union-attr]
        try:
            seconds = duration_s(text)
        except PydanticCustomError:
            seconds = 0.0
        if seconds <= 0:
            rule = f"must be a time above 0 with its unit, but got {quote(value)}"
            raise broken_rule(rule, 'write 800ms, 2s or 1m, alone or as "< 2s"')
        return {"op": op or "<=", "seconds": seconds}

    def holds(self, seconds: float) -> bool:
        """Whether a time keeps to it."""
        return seconds < self.seconds if self.op == "<" else seconds <= self.seconds

    def __str__(self) -> str:
        return f"{self.op} {self.seconds:g} s"


def _limit_name(value: str) -> str:
    if value not in LIMITS:
        of = "a stage and a percentile, such as agent_p95 or formulation_p99"
        raise broken_rule(f"must be named by {of}, but got {quote(value)}", nearest(value, LIMITS))
    return value


LimitName = Annotated[str, AfterValidator(_limit_name)]


def _parallel(value: Any) -> Any:
    """One number is a list of one; lists are held as tuples."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, int) else value


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise broken_rule(f"must ascend, but got {', '.join(map(str, values))}", "write [1, 2, 4]")
    return values


class Latency(Block):
    """How latency is measured, alone on its machine, after the last trial.

    Attributes:
        top: How many of the best trials are timed, beside the base and the incumbent; 0 times nobody.
        requests: Requests that count, for each arm; a percentile that needs more stays null.
        warmup: Requests made first that do not count.
        rate: Requests a second that arrive whether or not earlier ones are answered (open loop, Poisson), for arms
            that are served; None asks them one at a time.
        slo: Limits, by stage and percentile.
        tp: Tensor-parallel sizes that ``podium latency`` serves the champion with.
        accelerators: The kinds of GPU that it does so on, by the pools' names; none for those of the sweep.
    """

    top: Annotated[int, Field(ge=0)] = 3
    requests: Count = 100
    warmup: Annotated[int, Field(ge=0)] = 1
    rate: Annotated[Amount | None, BeforeValidator(rate_per_s)] = None
    slo: Annotated[dict[LimitName, Limit], BeforeValidator(empty_block)] = Field(default_factory=dict)
    tp: Annotated[
        tuple[Count, ...], BeforeValidator(_parallel), AfterValidator(_ascending), Field(min_length=1, strict=False)
    ] = (1,)
    accelerators: Names = ()

    def never_measured(self, metric: str) -> tuple[str, str] | None:
        """Why no trial would have a metric of latency, and the way out; None where one may."""
        match = re.fullmatch(r"latency/\w+_p(\d+)_s", metric)
        if match is None:
            return None
        if self.top == 0:
            return "is measured of nobody, since evaluate.latency.top is 0", "let the best few be timed: top: 3"
        least = NEEDED[int(match[1])]
        if self.requests < least:
            rule = f"needs {least} requests, and evaluate.latency.requests is {self.requests}"
            return rule, f"write latency: {{requests: {least}}}"
        return None
