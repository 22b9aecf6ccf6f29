"""Latency by a clock that the test winds."""

from collections.abc import Sequence
from typing import Any

import pytest

from tracking.meters.latency import NEEDED, measure_latency, needed, percentile
from tracking.meters.metrics import Item

ITEMS = [Item(str(number), [{"role": "user", "content": str(number)}], "") for number in range(3)]


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


def test_needed_is_where_chance_alone_is_too_unlikely() -> None:
    assert NEEDED == {50: 7, 95: 90, 99: 459}
    for percent, count in NEEDED.items():
        assert (percent / 100) ** count <= 0.01 < (percent / 100) ** (count - 1)
    assert needed(95, confidence=0.95) == 59


def test_warm_up_does_not_count_and_items_go_round() -> None:
    fake = Clocked([50.0, 50.0, *[1.0] * 7])
    result = measure_latency(fake.answer, ITEMS, warmup=2, requests=7, clock=fake.clock)
    assert fake.asked == ["0", "1", "0", "1", "2", "0", "1", "2", "0"]
    assert result.metrics["latency/formulation_p50_s"] == pytest.approx(1.0)
    assert result.n == 7
    assert result.detail["mean_s"] == pytest.approx(1.0)
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


def test_percentile_is_the_nearest_rank() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, percent) for percent in (50, 95, 99)] == [50.0, 95.0, 99.0]
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([7.0], 99) == 7.0
    for percent in (50, 95, 99):
        for count in range(1, 200):
            value = percentile(hundred[:count] or [1.0], percent)
            assert sum(one <= value for one in hundred[:count]) * 100 >= percent * min(count, 100)
