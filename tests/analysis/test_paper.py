"""The paper's numbers against each other, and a sweep's beside them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.champion import choose
from analysis.claims import check
from analysis.latency import write_grid
from analysis.paper import Row, Stated, paper_table, source, stated
from analysis.paper_checks import Check, checks, implied, span
from tests.analysis.synthetic import synthetic
from tracking.ledger import Ledger, SweepState, read


def check_of(words: str, **changed: str) -> Check:
    """The check whose statement has ``words``, with some of the paper's numbers changed."""
    numbers = stated()
    for name, value in changed.items():
        numbers[name] = replace(numbers[name], value=value)
    found = [check for check in checks(numbers) if words in check.statement]
    assert len(found) == 1
    return found[0]


def middle(ends: tuple[float, float]) -> float:
    return sum(ends) / 2


def test_the_quality_gain_over_nft_holds() -> None:
    check = check_of("better than NFT")
    assert check.holds
    assert check.arithmetic == "2.49 / 2.03 = +22.7 %"
    assert not check_of("better than NFT", sft_over_nft="24").holds


def test_the_agents_gain_is_retrievals() -> None:
    check = check_of("agent latency falls")
    assert check.holds
    assert "0.579 × 3.8 / 4.5 = 48.9 %" in check.arithmetic
    assert not check_of("agent latency falls", agent_cut="55.0").holds


def test_2_30_s_is_not_below_2_s() -> None:
    check = check_of("sub-2-second")
    assert not check.holds
    assert "4.5 s × (1 − 0.489) = 2.30 s" in check.arithmetic
    assert "1.60 s" in check.finding
    assert check_of("sub-2-second", agent_s="3.8").holds


def test_figure_6_has_one_baseline_and_figure_9_another() -> None:
    of = stated()
    assert middle(implied(of["nft_quality"], of["nft_quality_loss"])) == pytest.approx(3.18, abs=0.005)
    assert middle(implied(of["sft_quality"], of["sft_quality_loss"])) == pytest.approx(3.18, abs=0.005)
    assert middle(implied(of["nft_quality"], of["dpo_nft_quality_loss"])) == pytest.approx(3.37, abs=0.005)
    assert check_of("one base model").holds
    assert not check_of("below the base model (figure 9)").holds
    assert check_of("below the base model (figure 9)", dpo_nft_quality_loss="36.1").holds


def test_figure_7_has_reductions_called_increases() -> None:
    assert not check_of("TP=4 to TP=1 adds").holds
    assert check_of("TP=4 to TP=1 adds").arithmetic == "+50 % one way is −33.3 % the other way"
    assert not check_of("increases from TP=4").holds
    assert "+3.7 % on B200" in check_of("increases from TP=4").arithmetic
    assert check_of("reductions from TP=1").holds
    assert "27.7 % on B200" in check_of("reductions from TP=1").arithmetic
    assert not check_of("reductions from TP=1", b200_tp="35").holds


def test_words_that_say_the_opposite() -> None:
    assert not check_of("retrieval latency up").holds
    assert "6.0 s" in check_of("retrieval latency up").arithmetic
    assert not check_of("decrease to").holds
    assert "0.69" in check_of("decrease to").arithmetic
    assert not check_of("+17.9%").holds


def test_all_other_statements_hold() -> None:
    assert [check.holds for check in checks()].count(True) == 6
    assert check_of("over 50 %").holds
    assert not check_of("over 50 %", retrieval_s="2.0").holds
    assert check_of("are figure 6's").holds
    assert not check_of("are figure 6's", cost_cut="46.5").holds


def test_numbers_stand_for_all_that_are_rounded_to_them() -> None:
    assert Stated("23", "%", "", "").span == pytest.approx((0.225, 0.235))
    assert Stated("2.03", "0–5", "", "").span == pytest.approx((2.025, 2.035))
    assert span(lambda a, b: a / b, Stated("1", "", "", ""), Stated("2", "", "", "")) == pytest.approx((0.2, 1.0))


def test_every_number_has_its_words_and_its_place() -> None:
    for name, number in stated().items():
        assert number.value in number.words or name == "target_s", name
        assert number.where.startswith(("section", "figure", "abstract")), name
    assert source()["source"].startswith("arXiv:")


# The table -----------------------------------------------------------------------------------------


def with_incumbent(home: Path, **changed: Any) -> SweepState:
    """The synthetic sweep with an incumbent, and a base that is not at 0."""
    state = synthetic(home)
    with Ledger(state.folder) as ledger:
        for arm, score in (("base", 2.03), ("incumbent", 3.18)):
            fields = {
                "n": 48,
                "metrics": {"quality/score": score, "e2e/score": 2.0},
                **(changed if arm == "incumbent" else {}),
            }
            ledger.append("evaluation", id=f"{arm}-again", arm=arm, split="challenge", **fields)
            latency = {"latency/agent_p50_s": 4.5, "latency/retrieval_p50_s": 3.8}
            ledger.append("evaluation", id=f"{arm}-latency", arm=arm, split="latency", n=90, metrics=latency)
            ledger.append(
                "evaluation", id=f"{arm}-serving", arm=arm, split="serving", n=90, metrics={"cost/monthly_usd": 900.0}
            )
        champion = str(choose(state).champion)
        latency = {"latency/agent_p50_s": 2.3, "latency/retrieval_p50_s": 1.6}
        monthly = {"cost/monthly_usd": 450.0}
        ledger.append("evaluation", id="c-latency", arm=champion, split="latency", n=90, metrics=latency)
        ledger.append("evaluation", id="c-serving", arm=champion, split="serving", n=90, metrics=monthly)
        [before] = [one for one in state.trials[champion].evaluations if one.split == "challenge"]
        found = {**before.metrics, "e2e/score": 3.5}
        ledger.append("evaluation", id="c-again", arm=champion, split="challenge", n=48, metrics=found)
    return read(state.folder)


def row(state: SweepState, figure: str, measure: str) -> Row:
    found = [row for row in paper_table(state) if row.figure == f"Figure {figure}" and row.measure == measure]
    assert len(found) == 1
    return found[0]


def test_a_sweep_stands_in_the_papers_layout(home: Path) -> None:
    state = with_incumbent(home)
    base = row(state, "6 (a)", "quality score")
    assert str(base.change) == "−36.2 % against incumbent on challenge, n = 48 (3.18 → 2.03)"
    assert base.paper_change is not None
    assert base.paper_change.words == "quality score decrease 36.2%"
    for measure, said in (
        ("agent latency", "(4.5 → 2.3 s)"),
        ("retrieval latency", "(3.8 → 1.6 s)"),
        ("GPU cost", "(900 → 450 US$ a month)"),
        ("quality score", "(3.18 → "),
    ):
        champion = row(state, "6 (b)", measure).change
        assert champion is not None, measure
        assert said in str(champion)
    over_base = row(state, "6, in section 4.3", "E2E score").change
    assert "on challenge, n = 48 (2 → 3.5)" in str(over_base)
    over_base = row(state, "6, in section 4.3", "quality score").change
    assert over_base is not None
    assert over_base.baseline is not None
    assert over_base.baseline.arm == "base"


def test_every_change_of_a_figure_has_one_baseline(home: Path) -> None:
    rows = paper_table(with_incumbent(home))
    for figure in {row.figure for row in rows}:
        assert check([row.change for row in rows if row.figure == figure and row.change]) == []


def test_what_was_not_measured_is_none_and_says_why(state: SweepState) -> None:
    nft = row(state, "6 (a)", "quality score")
    assert (str(nft.ours), nft.change, nft.why) == ("0 on challenge, n = 48", None, "incumbent was not measured")
    assert row(state, "6 (a)", "GPU cost").why == "base was not measured"
    assert row(state, "7, by GPU", "latency at TP=1").why == "the champion on B200 was not measured"
    assert row(state, "9, DPO", "quality score").why == "no sweep measures this"
    assert "nothing is a percentage of that" in row(state, "6, in section 4.3", "quality score").why


def test_figure_7_is_the_grid_of_servers_at_one_rate(home: Path) -> None:
    state = synthetic(home)
    seconds = {("H100", 1): 0.5, ("H100", 4): 0.25, ("B200", 1): 0.4, ("B200", 2): None}
    points = [
        {"accelerator": kind, "tp": tp, "runs": [_run(4.0, value), _run(8.0, 9.9)]}
        for (kind, tp), value in seconds.items()
    ]
    write_grid(state, {"slo": {}, "points": [*points, {"accelerator": "B200", "tp": 4, "runs": []}]})
    by_gpu = row(state, "7, by GPU", "latency at TP=1")
    told = "against the champion on H100 at the same TP on latency requests at 4/s, n = 100 (0.5 → 0.4 s)"
    assert str(by_gpu.change) == f"−20.0 % {told}"
    assert (by_gpu.paper_change or by_gpu.value) is not None
    assert str(row(state, "7, by TP", "latency on H100").change).startswith("−50.0 % against the champion at TP=1 on")
    for measure in ("latency at TP=2", "latency at TP=4"):
        assert row(state, "7, by GPU", measure).why == "the champion on B200 was not measured"


def _run(rate: float, median_s: float | None) -> dict[str, Any]:
    return {"rate": rate, "n": 100, "metrics": {"latency/formulation_p50_s": median_s}}


@pytest.mark.parametrize("changed", [{"n": 40}, {"detail": {"counts": {"quality/score": 47}}}], ids=str)
def test_other_items_are_not_compared(home: Path, changed: dict[str, Any]) -> None:
    nft = row(with_incumbent(home, **changed), "6 (a)", "quality score")
    assert (nft.change, nft.why) == (None, "base and incumbent were measured on other items")


def test_a_sweep_without_a_champion_has_a_table(home: Path) -> None:
    state = synthetic(home, num_trials=0)
    assert row(state, "6 (b)", "quality score").ours is None
