"""Limits in words, verdicts on them, and goodput."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.latency import Latency, Limit, of_requests
from tracking.meters.latency.slo import attained, good, goodput, verdicts


def slo(**limits: str) -> dict[str, Limit]:
    return Latency.model_validate({"slo": limits}).slo


@pytest.mark.parametrize(
    ("text", "op", "seconds"),
    [("2s", "<=", 2.0), ("< 2s", "<", 2.0), ("<=800ms", "<=", 0.8), ("1.5 m", "<=", 90.0), (" .5s ", "<=", 0.5)],
)
def test_a_limit_has_its_unit(text: str, op: str, seconds: float) -> None:
    limit = slo(agent_p95=text)["agent_p95"]
    assert limit.op == op
    assert limit.seconds == pytest.approx(seconds)
    assert Latency.model_validate(Latency(slo={"agent_p95": limit}).model_dump(mode="json")).slo["agent_p95"] == limit


@pytest.mark.parametrize("text", ["2", "2 parsecs", "2 S", "fast", "", "-1s", "0s", "> 2s", "2s 3s", "nans"])
def test_what_is_no_limit_is_told_with_its_value(text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        slo(agent_p95=text)
    (error,) = caught.value.errors()
    assert f'"{text}"' in error["ctx"]["rule"] or text == ""
    assert "2s" in error["ctx"]["hint"]


def test_a_verdict_is_on_the_absolute_figure_and_none_without_one() -> None:
    limits = slo(agent_p95="< 2s", formulation_p50="100ms", retrieval_p99="1s")
    metrics = {"latency/agent_p95_s": 2.0, "latency/formulation_p50_s": 0.1, "latency/retrieval_p99_s": None}
    found = verdicts(limits, metrics, {"latency/retrieval_p99_s": "needs 459 requests, and 100 were made"})
    assert [one.kept for one in found] == [False, True, None]
    assert found[0].limit == "< 2 s"
    assert found[2].why == "needs 459 requests, and 100 were made"
    assert attained(found) is False
    assert attained(found[1:2]) is True
    assert attained(found[1:]) is None
    assert attained([]) is None


def test_goodput_counts_requests_that_keep_every_limit() -> None:
    limits = slo(formulation_p50="1s", formulation_p95="2s", ttft_p95="100ms", agent_p95="1ms")
    assert {stage: limit.seconds for stage, limit in of_requests(limits).items()} == {"formulation": 1.0, "ttft": 0.1}
    times = {"formulation": [0.5, 1.0, 1.5, None, 0.2], "ttft": [0.1, 0.05, 0.05, None, 0.2]}
    assert good(limits, times) == [True, True, False, False, False]
    assert goodput(limits, times, 10.0) == (0.2, "")
    rate, why = goodput(slo(agent_p95="2s"), times, 10.0)
    assert rate is None
    assert "no limit on formulation or ttft" in why


@given(st.lists(st.one_of(st.none(), st.floats(0, 5)), min_size=1), st.floats(0.01, 5), st.floats(0.01, 5))
def test_a_looser_limit_loses_no_good_request(times: list[float | None], one: float, other: float) -> None:
    def kept(seconds: float) -> list[bool]:
        found = good({"formulation_p95": Limit(seconds=seconds)}, {"formulation": times})
        assert found is not None
        return found

    tight, loose = kept(min(one, other)), kept(max(one, other))
    assert all(second or not first for first, second in zip(tight, loose, strict=True))
