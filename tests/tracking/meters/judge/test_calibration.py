"""A judge against people's labels: what is compared, what is refused, and what blocks a promotion."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import InvalidInput
from tests.tracking.meters.judge.sweeps import SETTINGS, Answers, judged_sweep
from tracking.meters.judge import Verdict, identity
from tracking.meters.judge.calibration import calibrate, promotion_block, read_calibration
from tracking.state import SweepState


def answers(scores: list[float | None], prefix: str = "says") -> Answers:
    return {
        f"i{number}": (f"{prefix} {number}", Verdict(score, f"because {number}", judge="m"), None)
        for number, score in enumerate(scores)
    }


def labels(folder: Path, *lines: str, header: str = "item,label") -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> SweepState:
    return judged_sweep(tmp_path, {"t-a": answers([0, 1, 2, 3, 4, 5])})


def problems(sweep: SweepState, path: Path) -> list[str]:
    with pytest.raises(InvalidInput) as error:
        calibrate(sweep, path)
    assert error.value.source in (str(path), "")
    return [str(problem) for problem in error.value.problems]


def test_what_is_compared_and_kept(sweep: SweepState, tmp_path: Path) -> None:
    path = labels(tmp_path, "i0,0", "i1,1", "i2,3", "i3,3", "i4,4", "i5,5.0", header="item,label,who")
    found = calibrate(sweep, path)
    assert (found["n"], found["num_clusters"], found["num_without_verdict"]) == (6, 6, 0)
    assert found["exact"]["value"] == pytest.approx(5 / 6)
    assert found["within_1"]["value"] == 1.0
    assert 0.9 < found["kappa"]["value"] < 1.0
    assert found["kappa"]["low"] <= found["kappa"]["value"] <= found["kappa"]["high"]
    assert found["judge"] == identity(SETTINGS)
    kept = read_calibration(sweep.folder)
    assert kept == json.loads(json.dumps(found))
    assert kept is not None
    assert kept["answers"][2] == {"item": "i2", "arm": "t-a", "label": 3.0, "score": 2}


def test_labels_of_several_arms_and_several_people(tmp_path: Path) -> None:
    sweep = judged_sweep(tmp_path, {"t-a": answers([5, 4]), "t-b": answers([1, 0], "else"), "base": answers([0, 0])})
    path = labels(tmp_path, "i0,t-a,5", "i0,t-a,4", "i0,1,1", "i1,base,0", header="item,arm,label")
    found = calibrate(sweep, path)
    assert (found["n"], found["num_clusters"]) == (4, 2)
    assert [(row["arm"], row["score"]) for row in found["answers"]] == [("t-a", 5), ("t-a", 5), ("t-b", 1), ("base", 0)]


def test_without_an_arm_the_arms_must_have_answered_alike(tmp_path: Path) -> None:
    sweep = judged_sweep(
        tmp_path, {"t-a": answers([5, 4]), "t-b": {**answers([5, 4]), "i1": ("x", Verdict(1.0), None)}}
    )
    assert calibrate(sweep, labels(tmp_path, "i0,5"))["n"] == 1
    [told] = problems(sweep, labels(tmp_path, "i0,5", "i1,4"))
    assert told == "arm: item that different arms answered differently: i1 (add the column arm: t-a, t-b, …)"


def test_labels_for_unknown_items_are_one_error_that_lists_them(sweep: SweepState, tmp_path: Path) -> None:
    unknown = [f"x{number}" for number in range(20)]
    told = problems(sweep, labels(tmp_path, "i0,1", *(f"{item},2" for item in unknown)))
    listed = ", ".join(unknown[:12])
    assert told == [f"item: the judge has scored no such items: {listed} and 8 more (valid: i0, i1, i2, i3, …)"]


def test_an_unknown_arm_is_told_with_the_nearest(sweep: SweepState, tmp_path: Path) -> None:
    told = problems(sweep, labels(tmp_path, "i0,t-b,1", "i99,t-a,1", header="item,arm,label"))
    assert told == [
        "item: the judge has scored no such item: i99 (valid: i0, i1, i2, i3, …)",
        'arm: the judge has scored no such arm: t-b (did you mean "t-a"?)',
    ]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("i0,7",), ['line 2: label: must be a number from 0 to 5, but got "7"']),
        (
            ("i0,good", "i1,nan", "i2,"),
            [
                'line 2: label: must be a number from 0 to 5, but got "good"',
                'line 3: label: must be a number from 0 to 5, but got "nan"',
                'line 4: label: must be a number from 0 to 5, but got ""',
            ],
        ),
        ((",3",), ["line 2: item: is empty"]),
        ((), ["labels: there are none"]),
    ],
)
def test_lines_that_are_wrong_are_told_together(
    sweep: SweepState, tmp_path: Path, lines: tuple[str, ...], told: list[str]
) -> None:
    assert problems(sweep, labels(tmp_path, *lines)) == told


def test_columns_that_are_missing(sweep: SweepState, tmp_path: Path) -> None:
    [told] = problems(sweep, labels(tmp_path, "i0,1", header="id,score"))
    assert "has no column item and no column label, but id, score" in told


@pytest.mark.parametrize("content", [None, b"item,label\ni0,\xff\n"])
def test_a_file_that_cannot_be_read(sweep: SweepState, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    [told] = problems(sweep, path)
    assert "the labels cannot be read" in told


def test_a_spreadsheets_file(sweep: SweepState, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b'\xef\xbb\xbfitem , label,note\r\ni0,0,"two\r\nlines"\r\n i1 , 1 ,\r\n')
    assert calibrate(sweep, path)["exact"]["value"] == 1.0


def test_a_labelled_answer_without_a_verdict_is_counted_apart(tmp_path: Path) -> None:
    sweep = judged_sweep(tmp_path, {"t-a": answers([3, None, 5])})
    found = calibrate(sweep, labels(tmp_path, "i0,3", "i1,0", "i2,5"))
    assert (found["n"], found["num_without_verdict"], found["exact"]["value"]) == (2, 1, 1.0)
    [told] = problems(sweep, labels(tmp_path, "i1,0"))
    assert "none of the labelled answers has a valid verdict" in told


def test_a_sweep_without_a_judge_or_without_verdicts(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the sweep has no judge"):
        calibrate(judged_sweep(tmp_path, {"t-a": answers([1])}, {}, "none"), labels(tmp_path, "i0,1"))
    with pytest.raises(InvalidInput, match="no answer of the dev split has a verdict"):
        calibrate(judged_sweep(tmp_path, {}, name="empty"), labels(tmp_path, "i0,1"))


def test_verdicts_of_a_former_judge_do_not_count(tmp_path: Path) -> None:
    sweep = judged_sweep(tmp_path, {"t-a": answers([1])})
    sweep.spec["evaluate"]["judge"] = {**SETTINGS, "rubric": "Another."}
    with pytest.raises(InvalidInput, match="no answer of the dev split has a verdict of the sweep's judge yet"):
        calibrate(sweep, labels(tmp_path, "i0,1"))
    sweep.spec["evaluate"]["judge"] = {**SETTINGS, "timeout": 9.0, "endpoint": "http://elsewhere"}
    assert calibrate(sweep, labels(tmp_path, "i0,1"))["n"] == 1


def _calibrated(noise: float, tmp_path: Path) -> dict[str, Any]:
    rng = random.Random(1)
    true = [rng.randint(0, 5) for _ in range(100)]
    seen: list[float | None] = [float(min(5, max(0, round(one + rng.gauss(0, noise))))) for one in true]
    sweep = judged_sweep(tmp_path, {"t-a": answers(seen)})
    return calibrate(sweep, labels(tmp_path, *(f"i{number},{label}" for number, label in enumerate(true))))


def test_a_judge_below_the_threshold_promotes_nobody(tmp_path: Path) -> None:
    poor, good = _calibrated(4.0, tmp_path / "poor"), _calibrated(0.5, tmp_path / "good")
    judge = identity(SETTINGS)
    assert promotion_block(good, 0.6, judge) is None
    block = promotion_block(poor, 0.6, judge)
    assert block is not None
    assert f"kappa with people is {poor['kappa']['value']:.2f} (n = 100, 95 % interval" in block
    assert "evaluate.judge.calibration.min_kappa asks for 0.6" in block
    assert promotion_block(poor, None, judge) is None, "nothing was asked for"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in ("poor", "good"):
        (tmp_path / name).mkdir()


def test_what_else_blocks(sweep: SweepState, tmp_path: Path) -> None:
    assert "is not calibrated" in str(promotion_block(None, 0.6))
    found = calibrate(sweep, labels(tmp_path, "i0,0", "i1,1", "i5,5"))
    assert promotion_block(found, 0.6) is None
    other = identity({**SETTINGS, "model": "other"})
    assert "another judge was calibrated" in str(promotion_block(found, 0.6, other))
    same = calibrate(sweep, labels(tmp_path, "i3,3"))
    assert same["kappa"]["value"] is None
    assert "is not defined" in str(promotion_block(same, 0.6)), "agreement on one value shows nothing"


def test_a_damaged_calibration_is_told(sweep: SweepState, tmp_path: Path) -> None:
    assert read_calibration(sweep.folder) is None
    calibrate(sweep, labels(tmp_path, "i0,0"))
    path = sweep.folder / "calibration.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(InvalidInput, match=r"is damaged \(`podium judge calibrate` writes it again\)"):
        read_calibration(sweep.folder)
