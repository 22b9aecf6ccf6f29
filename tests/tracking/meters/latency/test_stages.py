"""Latency by a clock that the test winds."""

from collections.abc import Sequence
from typing import Any

import pytest

from sweeps.errors import ServiceUnreachable
from tracking.meters.latency.result import LatencyResult
from tracking.meters.latency.stages import FORMULATION, GIVE_UP, measure_stages
from tracking.meters.metrics import Item

ITEMS = [Item(str(number), [{"role": "user", "content": str(number)}], "") for number in range(3)]


def measure_latency(answer: Any, items: Sequence[Item], **more: Any) -> LatencyResult:
    """Of the formulation alone."""
    return measure_stages({FORMULATION: lambda item, _: answer([item.messages])}, items, **more)


class Clocked:
    """Answers the n-th request in ``seconds[n]`` by its own clock."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        self.now = 100.0
        self.asked: list[str] = []

    def answer(self, batch: Sequence[list[dict[str, Any]]]) -> None:
        assert len(batch) == 1, "one request at a time"
        self.now += self.seconds[len(self.asked)]
        self.asked.append(batch[0][0]["content"])

    def clock(self) -> float:
        return self.now


def test_warm_up_does_not_count_and_items_go_round() -> None:
    fake = Clocked([50.0, 50.0, *[1.0] * 7])
    result = measure_latency(fake.answer, ITEMS, warmup=2, requests=7, clock=fake.clock)
    assert fake.asked == ["0", "1", "0", "1", "2", "0", "1", "2", "0"]
    assert result.metrics["latency/formulation_p50_s"] == pytest.approx(1.0)
    assert result.n == 7
    assert result.detail["stages"]["formulation"]["mean_s"] == pytest.approx(1.0)
    assert result.detail["warmup"] == 2


@pytest.mark.parametrize(("requests", "known"), [(0, 0), (6, 0), (7, 1), (89, 1), (90, 2), (458, 2), (459, 3)])
def test_a_percentile_without_enough_requests_is_unknown(requests: int, known: int) -> None:
    fake = Clocked([0.01] * (requests + 1))
    result = measure_latency(fake.answer, ITEMS, requests=requests, clock=fake.clock)
    assert set(result.metrics) == {f"latency/formulation_p{p}_s" for p in (50, 95, 99)}
    assert [value is not None for value in result.metrics.values()] == [True] * known + [False] * (3 - known)


def test_one_request_an_item_by_default() -> None:
    fake = Clocked([1.0] * 4)
    assert measure_latency(fake.answer, ITEMS, clock=fake.clock).n == 3


def test_stages_are_timed_apart_and_the_agent_by_request() -> None:
    """A request that is slow in one stage is seldom slow in the other: the sum's percentile is not theirs added."""
    fake = Clocked([])
    formulation, ranking = [1.0, 9.0] * 4, [9.0, 1.0] * 4
    given: list[Any] = []

    def stage(name: str, seconds: list[float]) -> Any:
        def take(item: Item, before: Any) -> str:
            fake.now += seconds.pop(0)
            given.append(before)
            return f"{name} of {item.id}"

        return take

    stages = {"formulation": stage("formulation", formulation), "ranking": stage("ranking", ranking)}
    result = measure_stages(stages, ITEMS, warmup=1, requests=7, clock=fake.clock)
    assert given[:4] == [None, "formulation of 0", None, "formulation of 0"]
    assert result.metrics["latency/formulation_p50_s"] == pytest.approx(9.0)
    assert result.metrics["latency/agent_p50_s"] == pytest.approx(10.0)
    assert result.detail["stages"]["agent"]["max_s"] == pytest.approx(10.0)
    assert {name.split("/")[1].split("_")[0] for name in result.metrics} == {"formulation", "ranking", "agent"}


def test_a_formulation_alone_is_no_agent() -> None:
    result = measure_latency(Clocked([0.1] * 8).answer, ITEMS, requests=7)
    assert not any("agent" in name for name in result.metrics)


def test_a_request_without_an_answer_counts_as_slower_than_all_others() -> None:
    fake = Clocked([1.0] * 100)

    def answer(batch: Sequence[list[dict[str, Any]]]) -> None:
        fake.answer(batch)
        if len(fake.asked) % 10 == 0:
            raise ServiceUnreachable("it answers 500")

    result = measure_latency(answer, ITEMS, warmup=0, requests=100, clock=fake.clock)
    assert (result.n, result.detail["num_errors"], result.detail["errors"]) == (100, 10, {"it answers 500": 10})
    assert result.metrics["latency/formulation_p50_s"] == pytest.approx(1.0)
    assert result.metrics["latency/formulation_p95_s"] is None
    assert "10 of 100 requests have no answer" in result.detail["missing"]["latency/formulation_p95_s"]


def test_what_was_measured_before_an_endpoint_died_is_kept() -> None:
    fake = Clocked([1.0] * 100)

    def answer(batch: Sequence[list[dict[str, Any]]]) -> None:
        fake.answer(batch)
        if len(fake.asked) > 50:
            raise ServiceUnreachable("it does not answer")

    result = measure_latency(answer, ITEMS, warmup=0, requests=100, clock=fake.clock)
    assert len(fake.asked) == result.n == 50 + GIVE_UP
    assert result.metrics["latency/formulation_p50_s"] == pytest.approx(1.0)
    assert result.detail["stopped"] == f"after {GIVE_UP} requests in a row without an answer"


def test_nothing_is_measured_of_what_never_answered() -> None:
    def answer(batch: Sequence[list[dict[str, Any]]]) -> None:
        raise ServiceUnreachable("it does not answer")

    result = measure_latency(answer, ITEMS, warmup=1, requests=100)
    assert result.n == GIVE_UP - 1
    assert set(result.metrics.values()) == {None}
    assert result.detail["stages"] == {}
