"""Percentiles: of which request, with which interval, and when there is none."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from sweeps.latency import NEEDED, needed
from tracking.meters.latency.percentiles import INTERVAL, estimate, interval_ranks, rank

PERCENTS = st.sampled_from([50, 95, 99])
TIMES = st.lists(st.one_of(st.none(), st.floats(0, 1e4)), min_size=0, max_size=600)


def test_needed_is_where_chance_alone_is_too_unlikely() -> None:
    assert NEEDED == {50: 7, 95: 90, 99: 459}
    for percent, count in NEEDED.items():
        assert (percent / 100) ** count <= 0.01 < (percent / 100) ** (count - 1)
    assert needed(95, confidence=0.95) == 59


@given(PERCENTS, st.integers(1, 2000))
def test_the_rank_is_the_first_that_enough_do_not_exceed(percent: int, count: int) -> None:
    place = rank(percent, count)
    assert place * 100 >= percent * count > (place - 1) * 100


@given(TIMES, PERCENTS)
def test_an_estimate_is_a_time_that_was_seen_between_the_ends_of_its_interval(
    times: list[float | None], percent: int
) -> None:
    found = estimate(times, percent)
    if found.value is None:
        answered = sum(time is not None for time in times)
        assert found.why
        assert len(times) < needed(percent) or answered * 100 < percent * len(times)
        return
    assert found.value in times
    within = sum(time is not None and time <= found.value for time in times)
    assert within * 100 >= percent * len(times), "of all requests, those without an answer among them"
    assert found.low is None or found.low <= found.value
    assert found.high is None or found.high >= found.value


@given(TIMES, PERCENTS)
def test_losing_an_answer_makes_no_percentile_better(times: list[float | None], percent: int) -> None:
    before = estimate(times, percent)
    if before.value is None or all(time is None for time in times):
        return
    slowest = max(time for time in times if time is not None)
    lost = [None if time == slowest else time for time in times]
    after = estimate(lost, percent)
    assert after.value is None or after.value >= before.value


@given(PERCENTS, st.integers(1, 3000))
def test_an_interval_covers_as_often_as_it_says_and_no_narrower_one_does(percent: int, count: int) -> None:
    low, high = interval_ranks(percent, count)
    below = binom(count, percent / 100)  # how many observations lie below the true percentile
    left = (1 - INTERVAL) / 2
    if low is not None:
        assert below.cdf(low - 1) <= left + 1e-12
    assert below.cdf(low or 0) > left - 1e-12, "one further in errs too often"
    if high is not None:
        assert below.sf(high - 1) <= left + 1e-12
        assert below.sf(high - 2) > left - 1e-12
    else:
        assert below.sf(count - 1) > left, "no observation is far enough out"


def test_an_interval_of_a_known_case() -> None:
    # The table of Hahn and Meeker: the median of 20 lies between the 6th and the 15th with 95.9 %.
    assert interval_ranks(50, 20) == (6, 15)
    assert interval_ranks(95, 71)[1] is None, "the largest of 71 may well lie below p95"
    assert interval_ranks(95, 72)[1] == 72


@pytest.mark.parametrize("percent", [50, 95])
def test_intervals_hold_the_truth_whatever_the_distribution(percent: int) -> None:
    draw = random.Random(0)
    truth = {50: 1.0, 95: 1.0}[percent]  # an exponential whose percentile is 1
    rate = {50: 0.693147, 95: 2.995732}[percent]
    hits = 0
    for _ in range(400):
        found = estimate([draw.expovariate(rate) for _ in range(200)], percent)
        low, high = found.low or 0.0, found.high or float("inf")
        hits += low <= truth <= high
    assert hits >= 0.92 * 400, "95 % nominal"
