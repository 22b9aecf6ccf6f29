"""What serving costs: replicas for the peak, dollars for the month and the request, and what stays unknown."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.pricing import TokenPrice, Traffic
from tests.tracking.meters.test_cost import H100
from tracking.ledger import Evaluation
from tracking.meters.serving_cost import (
    Goodput,
    goodput_of,
    num_replicas,
    of_fleet,
    requests_a_month,
    serving_cost,
)

TRAFFIC = Traffic(peak_rps=50, mean_rps=20, headroom=0.3, gpus_per_replica=2)
PRICE = TokenPrice(input_usd_per_1m=2, output_usd_per_1m=10, source="a list", date="2026-11-01")


def evaluation(split: str, n: int = 100, detail: dict[str, Any] | None = None, **metrics: float | None) -> Evaluation:
    named = {f"latency/{key}": value for key, value in metrics.items()}
    return Evaluation("e", "base", split, n, named, detail=detail or {})


def test_a_fleet_by_hand() -> None:
    found = serving_cost(TRAFFIC, H100, [evaluation("latency", goodput_rps=13.0)])
    assert found.replicas == 5, "50 × 1.3 / 13, not one more by rounding"
    assert found.monthly_usd == pytest.approx(5 * 2 * 3.6 * 730)
    assert found.usd_per_1k_requests == pytest.approx(5 * 2 * 3.6 / (20 * 3.6))
    assert found.utilisation == pytest.approx(20 / 65)
    assert "13 requests/s a replica, n = 100" in found.by


def test_one_request_at_a_time_is_a_goodput_that_says_so() -> None:
    found = goodput_of([evaluation("latency", 8, {"mean_s": 0.5}, goodput_rps=None)])
    assert isinstance(found, Goodput)
    assert (found.rps, found.n) == (2.0, 8)
    assert "one request at a time" in found.how


def test_of_several_stages_the_whole_request_counts() -> None:
    stages = {"formulation": {"mean_s": 0.2}, "ranking": {"mean_s": 0.1}, "agent": {"mean_s": 0.4}}
    found = goodput_of([evaluation("latency", 8, {"stages": stages})])
    assert isinstance(found, Goodput)
    assert found.rps == 2.5


@pytest.mark.parametrize(
    ("evaluations", "why"),
    [
        ([], "neither its goodput nor its latency was measured"),
        ([evaluation("dev", detail={"mean_s": 0.1})], "neither its goodput"),
        ([evaluation("latency", goodput_rps=0.0)], "none is answered within the limits"),
        ([evaluation("latency", detail={"mean_s": 0.1, "num_errors": 3})], "3 of 100 requests have no answer"),
        (
            [
                evaluation(
                    "latency",
                    detail={
                        "rate": 5.0,
                        "stages": {"formulation": {"mean_s": 0.1}},
                        "missing": {"latency/goodput_rps": "the SLO has no limit on formulation or ttft"},
                    },
                    goodput_rps=None,
                )
            ],
            "no latency/goodput_rps: the SLO has no limit on formulation or ttft",
        ),
    ],
)
def test_what_is_not_known_is_missing_with_its_reason(evaluations: list[Evaluation], why: str) -> None:
    found = serving_cost(TRAFFIC, H100, evaluations)
    assert found.metrics == {"cost/monthly_usd": None, "cost/usd_per_1k_requests": None}
    assert found.why is not None
    assert why in found.why


def test_who_is_paid_by_the_token_needs_no_replica() -> None:
    used = {"asked": 10, "tokens_in": 10_000, "tokens_out": 500}
    found = serving_cost(TRAFFIC, H100, [evaluation("dev", detail={"endpoint": used})], PRICE)
    assert found.replicas is None
    assert found.usd_per_1k_requests == pytest.approx(1000 * (1000 * 2 + 50 * 10) / 1e6)
    assert found.monthly_usd == pytest.approx(2.5 * 20 * 3.6 * 730)
    untold = {"asked": 10, "tokens_in": None, "tokens_out": None}
    assert serving_cost(TRAFFIC, H100, [evaluation("dev", detail={"endpoint": untold})], PRICE).why is not None


@given(
    peak=st.floats(0.01, 1e5),
    share=st.floats(0.01, 1),
    headroom=st.floats(0, 4),
    least=st.integers(1, 50),
    goodput=st.floats(0.01, 1e4),
)
def test_the_fleet_holds_the_peak_and_no_replica_is_too_many(
    peak: float, share: float, headroom: float, least: int, goodput: float
) -> None:
    traffic = Traffic(peak_rps=peak, mean_rps=peak * share, headroom=headroom, min_replicas=least)
    replicas, needed = num_replicas(traffic, goodput), peak * (1 + headroom)
    assert replicas >= least
    assert replicas * goodput >= needed * (1 - 1e-6)
    assert replicas == least or (replicas - 1) * goodput < needed * (1 + 1e-6)
    found = of_fleet(traffic, H100, Goodput(goodput, 100, "measured"))
    assert found.monthly_usd is not None
    assert found.usd_per_1k_requests is not None
    assert found.usd_per_1k_requests * requests_a_month(traffic) / 1000 == pytest.approx(found.monthly_usd)
    assert math.isfinite(found.monthly_usd)
