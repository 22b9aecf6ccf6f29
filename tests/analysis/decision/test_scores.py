"""Scores are read, checked and laid side by side."""

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.decision.scores import read_scores, side_by_side
from sweeps.errors import InvalidInput
from tracking.meters.quality import QualityResult


def test_what_an_evaluation_writes_is_read(tmp_path: Path) -> None:
    rows = [
        {"id": "one", "metrics": {"quality/score": 4.0, "quality/title": 1.0}},
        {"id": "two", "metrics": {"quality/score": 2.0}},
        {"id": "three", "metrics": {"quality/score": None}},
    ]
    path = tmp_path / "evaluations" / "arm-dev.jsonl"
    QualityResult({}, rows, 3).write_items(path)
    assert read_scores(path, "quality/score") == {"one": 4.0, "two": 2.0, "three": None}
    assert read_scores(path, "quality/title") == {"one": 1.0, "two": None, "three": None}
    with pytest.raises(InvalidInput, match=r"no item has 'quality/scor' \(did you mean \"quality/score\"\?\)"):
        read_scores(path, "quality/scor")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "metrics": {"m": 1}}\n{"id": "b", "met', r"line 2: .*must be an item with id and metrics"),
        ('{"id": "a", "metrics": {"m": 1}}\n' * 2, "line 2: .*must have one line, but 'a' has two"),
        ("[1]\n", "line 1: .*must be an item"),
        ("", "no item has 'm'"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=message):
        read_scores(path, "m")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must be there, but No such file"):
        read_scores(tmp_path / "none.jsonl", "m")


def test_arms_are_laid_side_by_side() -> None:
    table = side_by_side({"a": {"y": 1, "x": 2.0}, "b": {"x": None, "z": math.nan}}, {"x": 7, "y": "7", "z": None})
    assert table.items == ("x", "y", "z")
    np.testing.assert_array_equal(table.values, [[2, 1, math.nan], [math.nan] * 3])
    assert table.groups.tolist() == [0, 0, 1]
    assert table.row("a").tolist()[:2] == [2.0, 1.0]
    assert side_by_side({"a": {"y": 1.0, "x": 2.0}}).groups.tolist() == [0, 1]


def test_every_bad_score_is_told() -> None:
    bad = {"a": {"x": math.inf, "y": "4"}, "b": {"x": True}, "c": {}}
    with pytest.raises(InvalidInput) as caught:
        side_by_side(bad)  # type: ignore[arg-type]
    assert [problem.where for problem in caught.value.problems] == ["a: x", "a: y", "b: x", "c"]
    assert "must be a finite number or missing, but got inf" in str(caught.value)
    assert "an arm must have scores, but has none" in str(caught.value)


def test_other_items_are_another_split() -> None:
    with pytest.raises(InvalidInput, match="scored on the same items, but a and b share none"):
        side_by_side({"a": {"dev-1": 1.0}, "b": {"challenge-1": 1.0}})


def test_an_item_without_a_group_is_told() -> None:
    with pytest.raises(InvalidInput, match="must have a group, but 1 have none, the first is 'y'"):
        side_by_side({"a": {"x": 1.0, "y": 1.0}}, {"x": "g"})
