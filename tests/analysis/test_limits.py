import math

import pytest

from analysis.champion import choose
from analysis.frame import frame
from analysis.limits import under_limits
from analysis.rule import Rule
from tracking.ledger import SweepState

LATENCY = "latency/agent_p95_s"


def test_a_loose_limit_chooses_among_the_measured_and_a_tight_one_nobody(state: SweepState) -> None:
    measured = frame(state)[LATENCY].dropna()
    found = under_limits(state, LATENCY, [measured.max(), measured.min() / 2])
    loose, none = found.to_dict("records")
    assert loose["champion"] in measured.index
    assert loose[LATENCY] == measured[loose["champion"]]
    assert (none["champion"], none["qualify"]) == (None, 0)
    assert math.isnan(none["objective"])


def test_a_tighter_limit_never_lets_more_in_nor_chooses_better(state: SweepState) -> None:
    limits = sorted(frame(state)[LATENCY].dropna(), reverse=True)
    found = under_limits(state, LATENCY, limits)
    assert found["limit"].tolist() == limits
    assert found["qualify"].is_monotonic_decreasing
    assert found["objective"].dropna().is_monotonic_decreasing
    assert found["qualify"].nunique() > 1, "the limits of this sweep tell trials apart"


def test_a_share_is_bounded_from_below(state: SweepState) -> None:
    [row] = under_limits(state, "quality/json_valid", [0.0]).to_dict("records")
    assert row["champion"] == choose(state).champion
    assert under_limits(state, "quality/json_valid", [1.1])["champion"].tolist() == [None]


def test_another_rule_than_the_sweeps_own(state: SweepState) -> None:
    costs = frame(state)["cost/usd"]
    rule = Rule("cost/usd", "min")
    found = under_limits(state, "val/loss", [10.0, -1.0], rule)
    assert found["champion"].tolist() == [costs.idxmin(), None]
    assert found["objective"].tolist()[0] == costs.min()


@pytest.mark.parametrize("metric", [LATENCY, "cost/usd"])
def test_no_limits_give_an_empty_table(state: SweepState, metric: str) -> None:
    found = under_limits(state, metric, [])
    assert found.empty
    assert list(found.columns) == ["limit", "qualify", "champion", "number", "objective", metric]
