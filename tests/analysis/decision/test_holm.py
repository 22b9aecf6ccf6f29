"""Holm's correction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.decision.holm import adjusted, joint_level

p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8)


def test_holms_own_steps() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.5, 0.9]) == [1.0, 1.0]
    assert adjusted([0.02]) == [0.02]
    assert adjusted([]) == []


def test_a_comparison_without_a_verdict_is_still_one_of_the_family() -> None:
    assert adjusted([0.01, None]) == [0.02, None]


@given(p_values)
def test_never_below_the_raw_value_never_above_bonferroni_and_in_its_order(values: list[float | None]) -> None:
    found = adjusted(values)
    for p, corrected in zip(values, found, strict=True):
        assert (p is None) == (corrected is None)
        if p is not None and corrected is not None:
            assert p <= corrected <= min(1.0, len(values) * p) + 1e-12
    told = [(p, q) for p, q in zip(values, found, strict=True) if p is not None and q is not None]
    assert [q for _, q in sorted(told)] == sorted(q for _, q in told)


def test_joint_intervals_are_drawn_wider() -> None:
    assert joint_level(0.95, 1) == 0.95
    assert joint_level(0.95, 5) == pytest.approx(0.99)
    assert joint_level(0.95, 0) == 0.95
