"""What there was before a sweep, in its tables: the base, the incumbent, and which of the two is the baseline."""

from pathlib import Path
from typing import Any

import pytest

from analysis.champion import choose
from analysis.comparison import baseline, comparison, standing
from analysis.leaderboard import leaderboard
from tests.analysis.synthetic import FACTS, SPEC, synthetic
from tracking.ledger import FORMAT, Ledger, SweepState, read


def spec_with(incumbent: dict[str, Any] | None) -> dict[str, Any]:
    return {**SPEC, "evaluate": {"metrics": ["shopping"], "incumbent": incumbent}}


def swept(home: Path, incumbent: dict[str, Any] | None, *splits: str) -> SweepState:
    """A sweep with an incumbent that was measured on these splits."""
    state = synthetic(home, spec=spec_with(incumbent))
    with Ledger(state.folder) as ledger:
        for split in splits:
            metrics = {"latency/agent_p95_s": 0.7} if split == "latency" else {"quality/score": 3.5}
            ledger.append("evaluation", id=f"i-{split}", arm="incumbent", split=split, n=40, metrics=metrics)
    return read(state.folder)


@pytest.mark.parametrize(
    ("incumbent", "splits", "expected"),
    [
        (None, (), "base"),
        ({"name": None}, ("dev", "challenge"), "incumbent"),
        ({"name": None}, (), "incumbent"),
        (None, ("dev",), "base"),
    ],
    ids=["none", "measured", "not measured", "of an earlier version"],
)
def test_the_baseline_is_the_incumbent_where_the_sweep_has_one(
    home: Path, incumbent: dict[str, Any] | None, splits: tuple[str, ...], expected: str
) -> None:
    state = swept(home, incumbent, *splits)
    assert baseline(state) == expected
    assert ("incumbent" in standing(state)) == (expected == "incumbent")
    roles = list(comparison(state, choose(state))["role"])
    assert ("incumbent" in roles) == (expected == "incumbent")


def test_a_sweep_from_before_there_were_incumbents(state: SweepState) -> None:
    assert "evaluate" not in state.spec
    assert baseline(state) == "base"


def test_it_stands_in_every_table_with_its_own_n(home: Path) -> None:
    state = swept(home, {"name": "shop-7"}, "dev", "challenge", "latency")
    table = comparison(state, choose(state)).set_index("role")
    assert list(table.index) == ["base", "base+schema", "incumbent", "default", "median", "champion"]
    assert table.loc["incumbent", "label"] == "Incumbent, shop-7"
    assert (table.loc["incumbent", "n"], table.loc["base", "n"]) == (40, 48)
    board = leaderboard(state)
    arms = {arm["arm"]: arm for arm in board.to_dict()["arms"]}
    assert set(arms) == {"base", "base+schema", "incumbent"}
    told = {"label": "Incumbent, shop-7", "n": 40, "quality/score": 3.5, "latency/agent_p95_s": 0.7}
    assert arms["incumbent"] == {"arm": "incumbent", **told}
    assert "incumbent" not in set(board.table["id"]), "it is not ranked"


def test_one_that_could_not_be_measured_is_shown_as_that(home: Path) -> None:
    state = swept(home, {"name": None})
    table = comparison(state, choose(state)).set_index("role")
    assert table.loc["incumbent", "n"] == 0
    assert table.loc["incumbent"].isna()["quality/score"]
    assert {arm["arm"] for arm in leaderboard(state).arms} == {"base", "base+schema"}


@pytest.mark.parametrize(("digest", "stays"), [("one", True), ("another", False), (None, False)])
def test_what_was_measured_of_another_incumbent_counts_no_more(home: Path, digest: str | None, stays: bool) -> None:
    state = synthetic(home)
    event = {"name": "shop", "format": FORMAT, "spec": spec_with({"name": None}), "recipe": {}}
    with Ledger(state.folder) as ledger:
        ledger.append("sweep", **event, facts={**FACTS, "incumbent": "one"}, changes=["evaluate.incumbent"])
        ledger.append("evaluation", id="i-dev", arm="incumbent", split="dev", n=40, metrics={"quality/score": 3.5})
        ledger.append("sweep", **event, facts={**FACTS, "incumbent": digest}, changes=["search.trials: 20 → 40"])
    state = read(state.folder)
    assert bool(state.arms.get("incumbent")) == stays
    assert [one.id for one in state.superseded.get("incumbent", ())] == ([] if stays else ["i-dev"])
    assert state.arms["base"], "the base is the same"
