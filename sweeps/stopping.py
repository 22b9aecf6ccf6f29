"""Continuous successive halving: which trials end early, as pure functions of what trials have reported.

Successive halving lets the best 1/η of the trials pass a rung, and its rungs lie a factor η apart: of all that started,
the share that trains beyond a rung is inversely proportional to the rung's step. Here the same holds at every report,
not at a few rungs alone. Of n trials that have come to the first rung, at step g, the best

    max(1, ⌈n · g / (η · s)⌉)

may go on from step s. A trial is compared with what the others reported at the same step, those that were stopped there
included; all of them were as far in their schedules. Like ASHA (https://arxiv.org/abs/1810.05934) it waits for nobody.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

Curve = Mapping[int, float]
"""What a trial reported, by step; less is better."""


def first_rung(grace: float, max_steps: int) -> int:
    """The step from which on trials may be stopped; ``grace`` is a share of their steps."""
    return max(1, round(grace * max_steps))


def num_places(num_trials: int, step: float, first: float, reduction: float) -> int:
    """How many of the trials that have come to the first rung may go on from a step.

    Args:
        num_trials: n above; ``step``, ``first`` and ``reduction`` are s, g and η.
    """
    return max(1, math.ceil(num_trials * first / (reduction * step) - 1e-9))


def stops(curves: Mapping[str, Curve], trial: str, first: int, reduction: float) -> bool:
    """Whether a trial ends at its last report. The best so far at its step never does.

    Args:
        curves: Of every trial that has reported, this one among them.
        trial: A key of ``curves``.
        first: The step of the first rung.
        reduction: At the first rung the best 1/``reduction`` go on.
    """
    own = curves[trial]
    step = max(own)
    if step < first:
        return False
    num_started = sum(max(curve) >= first for curve in curves.values())
    num_ahead = sum(_loss_at(curve, step) < _finite(own[step]) for name, curve in curves.items() if name != trial)
    return num_ahead >= num_places(num_started, step, first, reduction)


def expected_share(num_trials: int, reports: Sequence[int], first: int, reduction: float) -> float:
    """The share of all steps that is trained, if trials come one by one and their order never changes between reports.

    The i-th trial then goes on from a report with the probability ``num_places(i, …) / i``. In measured sweeps of 20
    trials the order did change, and the share was lower by some 2 points.

    Args:
        num_trials: Of the sweep.
        reports: The steps at which trials report, ascending; the last one is theirs.
        first: The step of the first rung.
        reduction: As for :func:`stops`.
    """
    checks = [report for report in reports if report >= first]
    num_counted = min(num_trials, 1000)  # the share hardly changes any more
    steps = float(checks[0])
    for here, following in pairwise(checks):
        passing = sum(num_places(i, here, first, reduction) / i for i in range(1, num_counted + 1)) / num_counted
        steps += passing * (following - here)
    return steps / reports[-1]


def _loss_at(curve: Curve, step: int) -> float:
    """What a trial last reported up to this step; infinite where it has not come so far."""
    if step in curve:
        return _finite(curve[step])
    before = [known for known in curve if known < step]
    return _finite(curve[max(before)]) if before and max(curve) > step else math.inf


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
