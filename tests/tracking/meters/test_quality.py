"""Means over items, gates before a judge is paid, values that are missing, and the file of the items."""

import json
from pathlib import Path

import pytest

from sweeps.errors import InvalidInput, Problem
from tests.tracking.meters.judging import JudgeServer
from tracking.meters.gates import load_gate
from tracking.meters.judge import judge_of
from tracking.meters.metrics import Item, exact_match, load_metric
from tracking.meters.quality import TooMuchMissing, score_answers

ITEMS = [Item(str(number), [{"role": "user", "content": f"Question {number}"}], "yes") for number in range(4)]
ANSWERS = ["yes", "no", "a gift card", "yes"]


def by_code(item: Item, answer: str) -> dict[str, float]:
    scores = {"quality/score": 3.0}
    if item.id == "0":
        scores["quality/title"] = 0.5
    return scores


def fails_on_no(item: Item, answer: str) -> dict[str, float]:
    if answer == "no":
        raise InvalidInput(Problem("evaluate.metrics", f"row {item.id!r}: cannot read 'no'"))
    return {"quality/kind": 1.0, "quality/score": 4.0}


def test_means_over_the_items_that_have_the_metric() -> None:
    result = score_answers(ITEMS, ["yes", "no", "yes", "yes"], [exact_match, by_code])
    assert result.metrics == {"quality/exact_match": 0.75, "quality/score": 3.0, "quality/title": 0.5}
    assert (result.n, result.counts, result.missing, result.errors) == (4, {"quality/title": 1}, {}, [])


def test_the_judges_score_is_the_one_that_counts() -> None:
    with JudgeServer(lambda answer, right: 5 if answer == right else 1) as server:
        result = score_answers(ITEMS, ANSWERS, [by_code], judge_of(server.settings, None))
    assert result.metrics["quality/score"] == 3.0
    assert result.metrics["quality/rubric_score"] == 3.0
    assert result.metrics["judge/missing"] == 0.0
    assert (result.per_item[1]["judge"]["score"], result.per_item[1]["judge"]["reason"]) == (1.0, "So.")


def test_what_fails_a_gate_is_not_paid_for_and_has_the_lowest_score(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def polite(row, answer): return {'polite': answer != 'no'}\n")
    gates = [load_gate("no_gift_card", tmp_path), load_gate("mine.py:polite", tmp_path)]
    with JudgeServer(lambda answer, right: 4) as server:
        result = score_answers(ITEMS, ANSWERS, [by_code], judge_of(server.settings, None), gates)
        assert server.judged.count("yes") == len(server.judged) == 2
    assert result.metrics["quality/score"] == 2.0, "0 for two of four"
    assert (result.metrics["gate/no_gift_card"], result.metrics["gate/polite"]) == (0.75, 0.75)
    assert result.metrics["quality/rubric_score"] == 3.0, "what code measured stays"
    assert [record.get("gate") for record in result.per_item] == [
        None,
        {"failed": ["polite"]},
        {"failed": ["no_gift_card"]},
        None,
    ]
    assert ["judge" in record for record in result.per_item] == [True, False, False, True]


def test_a_gate_without_a_judge_keeps_the_score_that_it_replaced(tmp_path: Path) -> None:
    result = score_answers(ITEMS, ANSWERS, [by_code], gates=[load_gate("no_gift_card", tmp_path)])
    assert result.metrics["quality/score"] == 2.25
    assert result.per_item[2]["gate"] == {"failed": ["no_gift_card"], "without": 3.0}
    no_score = score_answers(ITEMS, ANSWERS, [exact_match], gates=[load_gate("no_gift_card", tmp_path)])
    assert no_score.metrics == {"gate/no_gift_card": 0.75, "quality/exact_match": 0.5}


def test_a_gate_that_cannot_tell_pays_nothing_and_scores_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def safe(row, answer):\n    return {'safe': 1 / (answer != 'no')}\n")
    with JudgeServer(lambda answer, right: 4) as server:
        judge, gates = judge_of(server.settings, None), [load_gate("mine.py:safe", tmp_path)]
        result = score_answers(ITEMS, ANSWERS, [], judge, gates, max_missing=0.5)
        assert "no" not in server.judged
    assert (result.metrics["gate/safe"], result.metrics["quality/score"]) == (1.0, 4.0)
    assert result.per_item[1]["metrics"] == {"gate/safe": None, "quality/score": None}
    assert "ZeroDivisionError" in result.per_item[1]["errors"][0]
    assert result.counts == {"gate/safe": 3, "quality/score": 3}


def test_a_value_that_could_not_be_had_is_missing_and_no_zero() -> None:
    result = score_answers(ITEMS, ANSWERS, [fails_on_no, exact_match], max_missing=0.3)
    assert result.metrics == {"quality/kind": 1.0, "quality/score": 4.0, "quality/exact_match": 0.5}
    assert result.missing == {"quality/kind": 1, "quality/score": 1}
    assert result.counts == {"quality/kind": 3, "quality/score": 3}
    assert result.errors == [{"count": 1, "first": "evaluate.metrics: row '1': cannot read 'no'"}]
    assert result.per_item[1]["metrics"] == {"quality/kind": None, "quality/score": None, "quality/exact_match": 0.0}
    assert result.per_item[1]["errors"] == ["evaluate.metrics: row '1': cannot read 'no'"]
    assert "errors" not in result.per_item[0]


@pytest.mark.parametrize(
    ("returned", "said"), [("float('nan')", "'f': nan"), ("'high'", "'f': 'high'"), ("1 / 0", "ZeroDivisionError")]
)
def test_a_users_own_that_fails_on_one_row_loses_that_row(tmp_path: Path, returned: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(
        f"def f(row, answer):\n    return {{'f': {returned} if row['id'] == '2' else 1}}\n"
    )
    result = score_answers(ITEMS, ANSWERS, [load_metric("mine.py:f", tmp_path)], max_missing=0.25)
    assert result.metrics == {"quality/f": 1.0}
    assert result.per_item[2]["metrics"] == {"quality/f": None}
    assert said in result.per_item[2]["errors"][0]


def test_too_much_missing_is_an_error_before_anybody_is_paid() -> None:
    said = r"row '1': cannot read 'no'; so 1 of 4 values are missing, at most 20% may be \(evaluate\.max_missing\)"
    with JudgeServer(lambda answer, right: 4) as server:
        with pytest.raises(TooMuchMissing, match=said):
            score_answers(ITEMS, ANSWERS, [fails_on_no], judge_of(server.settings, None), max_missing=0.2)
        assert server.judged == []
    with pytest.raises(TooMuchMissing, match="at most 0%"):
        score_answers(ITEMS, ANSWERS, [fails_on_no])


def test_a_verdict_that_did_not_come_is_missing_and_the_others_are_kept(tmp_path: Path) -> None:
    with JudgeServer(lambda answer, right: "I like it." if answer == "no" else 4) as server:
        judge = judge_of(server.settings, tmp_path)
        result = score_answers(ITEMS, ANSWERS, [], judge, max_missing=0.25)
        assert (result.metrics["quality/score"], result.missing) == (4.0, {"quality/score": 1})
        assert "I like it." in result.per_item[1]["errors"][0]
        asked = len(server.judged)
        with pytest.raises(TooMuchMissing, match="1 of 4 values are missing"):
            score_answers(ITEMS, ANSWERS, [], judge_of(server.settings, tmp_path))
        assert set(server.judged[asked:]) == {"no"}, "what was paid for is not asked again"


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
