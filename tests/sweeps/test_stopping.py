"""Continuous successive halving: who goes on, whatever was reported."""

import copy
import itertools
import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.stopping import expected_share, first_rung, num_places, stops

STEPS = (5, 10, 15, 20, 40)
losses = st.floats(0.01, 10) | st.sampled_from([1.0, 2.0, math.nan, math.inf])
sweeps = st.lists(st.lists(losses, min_size=1, max_size=len(STEPS)), min_size=1, max_size=12).map(
    lambda curves: {f"t{place}": dict(zip(STEPS, curve, strict=False)) for place, curve in enumerate(curves)}
)
firsts = st.sampled_from([1, 5, 7, 10, 20])
reductions = st.floats(1.01, 10)


def goes_on(curves: dict[str, dict[int, float]], trial: str, first: int, reduction: float) -> bool:
    return not stops(curves, trial, first, reduction)


@given(sweeps, firsts, reductions)
def test_the_best_so_far_at_its_step_is_never_stopped(
    curves: dict[str, dict[int, float]], first: int, reduction: float
) -> None:
    for step in STEPS:
        here = {trial: curve[step] for trial, curve in curves.items() if max(curve) >= step}
        finite = {trial: loss for trial, loss in here.items() if math.isfinite(loss)}
        if finite:
            best = min(finite, key=lambda trial: finite[trial])
            if max(curves[best]) == step:
                assert goes_on(curves, best, first, reduction)


@given(sweeps, firsts, reductions, st.randoms(use_true_random=False))
def test_a_decision_depends_on_nothing_but_the_reports(
    curves: dict[str, dict[int, float]], first: int, reduction: float, draw: random.Random
) -> None:
    before = copy.deepcopy(curves)
    decided = {trial: stops(curves, trial, first, reduction) for trial in curves}
    assert str(curves) == str(before)
    shuffled = list(curves)
    draw.shuffle(shuffled)
    assert {trial: stops({t: curves[t] for t in shuffled}, trial, first, reduction) for trial in curves} == decided


@given(sweeps, firsts, reductions)
def test_only_ranks_count(curves: dict[str, dict[int, float]], first: int, reduction: float) -> None:
    other_scale = {trial: {step: 8 * loss for step, loss in curve.items()} for trial, curve in curves.items()}
    for trial in curves:
        assert stops(curves, trial, first, reduction) == stops(other_scale, trial, first, reduction)


@given(sweeps, firsts, reductions)
def test_nobody_is_stopped_before_the_first_rung(
    curves: dict[str, dict[int, float]], first: int, reduction: float
) -> None:
    for trial, curve in curves.items():
        if max(curve) < first:
            assert goes_on(curves, trial, first, reduction)


@given(sweeps, firsts, reductions)
def test_a_worse_newcomer_stops_nobody_and_a_lower_loss_never_hurts(
    curves: dict[str, dict[int, float]], first: int, reduction: float
) -> None:
    for trial, curve in curves.items():
        if stops(curves, trial, first, reduction) or not math.isfinite(curve[max(curve)]):
            continue
        newcomer = dict.fromkeys(STEPS, math.inf)
        assert goes_on({**curves, "new": newcomer}, trial, first, reduction)
        lower = {**curve, max(curve): curve[max(curve)] / 2}
        assert goes_on({**curves, trial: lower}, trial, first, reduction)


@given(st.permutations(range(1, 13)), st.sampled_from(STEPS), reductions)
def test_of_trials_that_stand_at_one_step_as_many_go_on_as_there_are_places(
    ranks: list[int], step: int, reduction: float
) -> None:
    curves = {f"t{rank}": {step: float(rank)} for rank in ranks}
    places = num_places(len(curves), step, 5, reduction)
    assert sorted(rank for rank in ranks if goes_on(curves, f"t{rank}", 5, reduction)) == list(range(1, places + 1))


def test_places_by_hand() -> None:
    # Of 20 trials a third at step 6, half of that at step 12, and so on, at least one.
    assert [num_places(20, step, 6, 3) for step in (6, 12, 18, 24, 36, 48, 54, 600)] == [7, 4, 3, 2, 2, 1, 1, 1]
    assert num_places(3, 10, 10, 3) == 1  # an exact third, whatever floating point makes of it
    assert first_rung(0.1, 60) == 6
    assert first_rung(0.001, 60) == 1


def test_those_that_were_stopped_at_a_step_count_there_and_slower_ones_do_not() -> None:
    curves: dict[str, dict[int, float]] = {"a": {5: 1.0}, "b": {5: 2.0}, "c": {5: 3.0, 10: 3.0}}
    assert goes_on(curves, "c", 5, 2)  # alone at step 10
    curves["d"] = {5: 4.0, 10: 2.5}
    assert stops(curves, "c", 5, 2)
    assert goes_on(curves, "d", 5, 2)
    assert stops(curves, "b", 5, 2) is False  # the second of four; half of them may go on
    assert stops({**curves, "e": {5: 5.0}}, "e", 5, 2)


def test_a_trial_that_reports_at_other_steps_is_compared_by_its_last_report_before() -> None:
    curves = {"a": {4: 1.0, 8: 0.5}, "b": {5: 2.0}, "c": {6: 0.9, 12: 0.8}}
    assert stops(curves, "b", 4, 3)  # at step 5, a stands at 1.0; c had reported nothing yet
    curves["a"] = {6: 0.1, 8: 0.1}
    assert goes_on(curves, "b", 4, 3)


@pytest.mark.parametrize(("first", "reduction"), [(5, 3.0), (10, 2.0), (40, 3.0)])
def test_the_expected_share_is_about_the_mean_over_all_orders(first: int, reduction: float) -> None:
    shares = []
    for order in itertools.permutations(range(1, 7)):
        curves: dict[str, dict[int, float]] = {}
        for rank in order:
            name = f"t{rank}"
            curves[name] = {}
            for step in STEPS:
                curves[name][step] = float(rank)
                if step == STEPS[-1] or stops(curves, name, first, reduction):
                    break
        shares.append(fmean(max(curve) for curve in curves.values()) / STEPS[-1])
    # Nearly: where few had come, one was stopped that would stand before a later one at a later step.
    assert expected_share(6, STEPS, first, reduction) == pytest.approx(fmean(shares), rel=0.005)
