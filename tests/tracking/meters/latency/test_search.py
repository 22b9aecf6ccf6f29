"""The search for the highest rate that keeps an SLO, against servers whose capacity is known."""

from hypothesis import given
from hypothesis import strategies as st

from tracking.meters.latency.search import CLOSE, next_rate


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4))
def test_it_ends_close_to_the_capacity(capacity: float, start: float) -> None:
    tried = [(start, start <= capacity)]
    while (rate := next_rate(tried)) is not None:
        assert rate not in [one for one, _ in tried]
        tried.append((rate, rate <= capacity))
        assert len(tried) < 40
    best = max(rate for rate, kept in tried if kept)
    assert best <= capacity <= best * CLOSE


@given(st.floats(0.01, 100), st.lists(st.booleans(), min_size=1, max_size=60))
def test_it_ends_whatever_chance_says(start: float, fates: list[bool]) -> None:
    """Rates stay finite and positive, and with noise the interval still closes."""
    tried = [(start, fates[0])]
    for kept in fates[1:]:
        rate = next_rate(tried)
        if rate is None:
            return
        assert 0 < rate < float("inf")
        tried.append((rate, kept))


def test_it_doubles_then_halves_the_distance() -> None:
    assert next_rate([(4, True)]) == 8
    assert next_rate([(4, False)]) == 2
    assert next_rate([(4, True), (16, False)]) == 8
    assert next_rate([(4, True), (4.3, False)]) is None
    assert next_rate([(4, True), (2, False)]) == 8, "a lower rate that chance has broken says nothing"
