"""When the other engine reports; that it agrees is shown by the contract suite and by a whole sweep."""

from hypothesis import given
from hypothesis import strategies as st

from launchers.cross_check import REPORTS, spread


@given(every=st.integers(1, 50), reports=st.integers(1, 200), more=st.integers(0, 500))
def test_reports_are_few_and_the_last_is_among_them(every: int, reports: int, more: int) -> None:
    last = every * reports
    step = spread(every, last, last + more)
    assert step % every == 0
    assert last // step <= REPORTS
    assert more == 0 or last % step == 0


def test_a_short_last_stretch_ends_with_a_report_anyway() -> None:
    assert spread(15, 60, 60) == 15
    assert spread(6, 60, 60) == 18
    assert spread(7, 60, 60) == 21
    assert spread(6, 30, 60) == 30
