"""Where a judge and somebody else are furthest apart."""

from pathlib import Path

from tests.tracking.meters.judge.sweeps import judged_sweep
from tracking.meters.judge import Comparison, Verdict
from tracking.meters.judge.calibration import calibrate
from tracking.meters.judge.disagreements import EXCERPT, worst
from tracking.meters.judge.judged import Pair, judged, read_pairs, write_pairs


def test_with_people_with_code_and_within_a_panel(tmp_path: Path) -> None:
    apart = Verdict(3.0, "", panel=(Verdict(5.0, "kind", judge="x"), Verdict(1.0, "cold", judge="y")))
    near = Verdict(3.5, "", panel=(Verdict(4.0, "ok", judge="x"), Verdict(3.0, "meh", judge="y")))
    alone = Verdict(2.0, "", panel=(Verdict(2.0, "hm", judge="x"), Verdict(None, error="gone", judge="y")))
    sweep = judged_sweep(
        tmp_path, {"t-a": {"i0": ("a", near, 0.5), "i1": ("b\n" * 300, apart, 3.0), "i2": ("c", alone, 2.5)}}
    )
    path = tmp_path / "labels.csv"
    path.write_text("item,label\ni0,4\ni1,0\ni2,2\n")
    found = worst(judged(sweep), [], calibrate(sweep, path), top=10)
    assert [(one.kind, one.item, one.gap) for one in found] == [
        ("human", "i1", 3.0),
        ("human", "i0", 0.5),
        ("panel", "i1", 4.0),
        ("panel", "i0", 1.0),
        ("metric", "i0", 3.0),
        ("metric", "i2", 0.5),
    ]
    first = found[0]
    assert (first.judge, first.other, first.reasons) == ("5 / 1", 0.0, ("x: kind", "y: cold"))
    assert len(first.answer) == EXCERPT
    assert first.answer.endswith("…")
    assert [one.item for one in worst(judged(sweep), [], None, top=1, kinds=("panel", "human"))] == ["i1"]


def test_flips_are_read_back(tmp_path: Path) -> None:
    sweep = judged_sweep(tmp_path, {"t-a": {"i0": ("a", Verdict(3.0), None)}})
    comparisons = [
        Comparison("tie", True, ("first is kinder", "first is shorter")),
        Comparison("a", False, ("a", "a")),
        Comparison(None, error="none"),
    ]
    told = [Pair(f"i{number}", "t-a", "base", "yes", "no", one) for number, one in enumerate(comparisons)]
    write_pairs(sweep.folder, "dev", told)
    pairs = read_pairs(sweep.folder, "dev")
    assert read_pairs(sweep.folder, "challenge") == []
    assert [(pair.item, pair.comparison.winner) for pair in pairs] == [("i0", "tie"), ("i1", "a"), ("i2", None)]
    [found] = worst(judged(sweep), pairs, None, top=5)
    assert (found.kind, found.item, found.arm, found.answer) == ("flip", "i0", "t-a ↔ base", "yes ↔ no")
    assert found.reasons == ("first is kinder", "first is shorter")
