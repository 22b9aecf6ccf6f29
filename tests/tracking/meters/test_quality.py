"""Means over items, and the file of the items."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tracking.meters.judge import RubricJudge, Verdict
from tracking.meters.metrics import Item, exact_match
from tracking.meters.quality import score_answers

ITEMS = [Item(str(number), [], "yes") for number in range(4)]


def by_code(item: Item, answer: str) -> dict[str, float]:
    scores = {"quality/score": 1.0}
    if item.id == "0":
        scores["quality/title"] = 0.5
    return scores


class StillJudge(RubricJudge):
    """Gives its verdicts without asking anyone."""

    def __init__(self) -> None:
        super().__init__("m", "http://127.0.0.1:9", "5 is good")

    def score_many(self, items: Sequence[Item], answers: Sequence[str]) -> list[Verdict]:
        return [Verdict(number, "so") for number in range(len(items))]


def test_means_over_the_items_that_have_the_metric() -> None:
    result = score_answers(ITEMS, ["yes", "no", "yes", "yes"], [exact_match, by_code])
    assert result.metrics == {"quality/exact_match": 0.75, "quality/score": 1.0, "quality/title": 0.5}
    assert (result.n, result.counts) == (4, {"quality/title": 1})


def test_the_judges_score_is_the_one_that_counts() -> None:
    result = score_answers(ITEMS, ["yes"] * 4, [by_code], StillJudge())
    assert result.metrics == {"quality/score": 1.5, "quality/rubric_score": 1.0, "quality/title": 0.5}
    assert result.per_item[3]["judge"] == {"score": 3, "reason": "so"}


def test_no_items_no_metrics() -> None:
    assert score_answers([], [], [exact_match]).metrics == {}


def test_one_answer_an_item() -> None:
    with pytest.raises(AssertionError, match="4 items, but 1 answers"):
        score_answers(ITEMS, ["yes"], [exact_match])


def test_items_are_written_and_read_back(tmp_path: Path) -> None:
    result = score_answers(ITEMS[:2], ["yes", "nö\n"], [exact_match])
    result.write_items(tmp_path / "deep" / "items.jsonl")
    lines = (tmp_path / "deep" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == result.per_item
    assert result.per_item[1]["answer"] == "nö\n"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["items.jsonl"]
