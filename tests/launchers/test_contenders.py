"""Who goes on to more items, whichever side of the metric is looked for."""

import pytest

from analysis.decision.halving import Round, next_round
from launchers.contenders import more_is_better
from sweeps.fields import Mode

ITEMS = ("x", "y")


@pytest.mark.parametrize(("mode", "best"), [("max", "many"), ("min", "few")])
def test_the_best_go_on(mode: Mode, best: str) -> None:
    scores: dict[str, dict[str, float | None]] = {"many": {"x": 4.0}, "few": {"x": 1.0}, "missing": {"x": None}}
    taking_part = {arm: more_is_better(of_arm, mode) for arm, of_arm in scores.items()}
    following = next_round((Round(3, 1), Round(1, 2)), taking_part, ITEMS)
    assert following is not None
    assert (following.arms, following.items) == ((best,), ("y",))
