"""The Pareto front."""

import math

from hypothesis import given
from hypothesis import strategies as st

from analysis.decision.front import Direction, front

AXES: dict[str, Direction] = {"quality": "max", "latency": "min", "cost": "min"}
value = st.one_of(st.none(), st.just(math.nan), st.sampled_from([0.0, 1.0, 2.0]))
points = st.dictionaries(st.text(max_size=3), st.fixed_dictionaries(dict.fromkeys(AXES, value)), max_size=7)


def test_worse_on_all_axes_is_off_the_front() -> None:
    arms = {
        "good": {"quality": 4.0, "latency": 1.0, "cost": 2.0},
        "cheap": {"quality": 3.0, "latency": 1.0, "cost": 1.0},
        "worse": {"quality": 3.0, "latency": 1.5, "cost": 2.0},
        "same as good": {"quality": 4.0, "latency": 1.0, "cost": 2.0},
    }
    assert front(arms, AXES) == ("good", "cheap", "same as good")


def test_what_was_not_measured_is_not_worse() -> None:
    arms: dict[str, dict[str, float | None]] = {
        "measured": {"quality": 4.0, "latency": 1.0, "cost": 1.0},
        "no latency": {"quality": 3.0, "latency": None, "cost": 1.0},
        "none either": {"quality": 2.0, "cost": 1.0},
        "nan": {"quality": 4.0, "latency": math.nan, "cost": 0.5},
    }
    assert front(arms, AXES) == ("measured", "nan")
    del arms["nan"]
    assert front(arms, AXES) == ("measured", "no latency")


@given(points)
def test_the_front_is_not_empty_and_keeps_the_best_of_each_axis(arms: dict[str, dict[str, float | None]]) -> None:
    found = front(arms, AXES)
    assert bool(found) == bool(arms)
    assert found == tuple(name for name in arms if name in found)
    best = [point["quality"] for point in arms.values() if point["quality"] is not None]
    best = [one for one in best if not math.isnan(one)]
    if best:
        assert max(best) in [arms[name]["quality"] for name in found]
    assert front({name: arms[name] for name in found}, AXES) == found
