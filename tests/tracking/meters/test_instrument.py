"""Readings of instruments that see everything, nothing, or a part; and that each planted answer is paid for once."""

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.commerce.task import rows
from sweeps.evaluating import BUILT_IN_DEFECTS, Defects
from tests.tracking.meters.judging import JudgeServer
from tracking.meters.defects import load_defect
from tracking.meters.gates import load_gate
from tracking.meters.instrument import CLEAN, Reading, Readings, take_readings, wilson
from tracking.meters.judge import judge_of
from tracking.meters.metrics import Item, exact_match, field_f1
from tracking.meters.quality import TooMuchMissing
from tracking.meters.shopping import shopping

HERE = Path()


def item_of(number: int, row: dict[str, Any]) -> Item:
    reference = json.dumps(row["messages"][-1]["content"], ensure_ascii=False, separators=(",", ":"))
    rest = {key: value for key, value in row.items() if key != "messages"}
    return Item(str(number), row["messages"][:-1], reference, rest)


ITEMS = [item_of(number, row) for number, row in enumerate(rows(30, seed=4))]
TEXTS = [Item(str(number), [], f"Order {number} is on its way to you.") for number in range(10)]


def read(items: list[Item], plant: tuple[str, ...] = BUILT_IN_DEFECTS, base_dir: Path = HERE, **more: Any) -> Readings:
    settings = Defects(plant=plant, **more.pop("settings", {}))
    return take_readings(items, [load_defect(name, base_dir) for name in plant], settings, **more)


def by_defect(readings: Readings, scorer: str = "code") -> dict[str, Reading]:
    return {one.defect: one for one in readings.readings if one.scorer == scorer}


def test_the_rubric_sees_every_defect_of_the_demo_and_nothing_else() -> None:
    readings = read(ITEMS, metrics=[shopping])
    found = by_defect(readings)
    assert (found[CLEAN].n, found[CLEAN].found, found[CLEAN].limit) == (30, 0, 0.02)
    for name in BUILT_IN_DEFECTS:
        one = found[name]
        if name == "truncation":
            assert one.skipped == "applies to no row: it needs answers in plain text; broken_json cuts JSON"
            assert (one.n, one.rate, one.low) == (0, None, None)
        else:
            assert one.rate == 1.0, name
            assert one.skipped is None
    assert found["swapped_gender"].n < found["gift_card"].n == 30
    assert readings.metrics["defect/false_alarms"] == 0.0
    assert readings.metrics["defect/padding_detected"] == 1.0
    assert "defect/truncation_detected" not in readings.metrics
    planted = [record for record in readings.planted if record["defect"] == "gift_card"]
    assert set(planted[0]) == {"id", "defect", "answer", "metrics", "found"}


def test_an_instrument_that_is_blind_to_one_defect_shows_it() -> None:
    with JudgeServer(
        lambda answer, right: 5 if "We hope" in answer or len(answer) > len(right) else 5 * (answer == right)
    ) as server:
        readings = read(
            ITEMS[:12],
            ("missing_category", "padding"),
            metrics=[shopping],
            judge=judge_of(server.settings, None),
        )
    judged, code = by_defect(readings, "judge"), by_defect(readings, "code")
    assert (judged["missing_category"].rate, judged["padding"].rate) == (1.0, 0.0)
    assert (code["missing_category"].rate, code["padding"].rate) == (1.0, 1.0)
    assert readings.metrics["defect/padding_detected"] == 0.0, "the judge's score is the one that counts"
    assert readings.metrics["judge/missing"] == 0.0


def test_false_alarms_and_levels_are_as_the_sweep_sets_them() -> None:
    opinion = lambda answer, right: 4 if answer == right else 3  # noqa: E731
    with JudgeServer(opinion) as server:
        judge = judge_of(server.settings, None)
        strict = by_defect(read(ITEMS[:5], ("gift_card",), metrics=[], judge=judge), "judge")
        mild = {"clean": 4.0, "drop": 2.0}
        lenient = by_defect(read(ITEMS[:5], ("gift_card",), metrics=[], judge=judge, settings=mild), "judge")
    assert (strict[CLEAN].rate, strict["gift_card"].rate) == (1.0, 1.0)
    assert (lenient[CLEAN].rate, lenient["gift_card"].rate) == (0.0, 0.0)


def test_what_a_gate_catches_is_found_and_not_paid_for() -> None:
    gates = [load_gate("no_gift_card", HERE)]
    with JudgeServer(lambda answer, right: 5) as server:
        readings = read(
            ITEMS[:6], ("gift_card", "padding"), metrics=[], judge=judge_of(server.settings, None), gates=gates
        )
        assert len(server.judged) == 12
        assert not any("ift" in answer and "ard" in answer for answer in server.judged)
    found = by_defect(readings, "judge")
    assert (found["gift_card"].rate, found["padding"].rate) == (1.0, 0.0)


def test_a_gate_that_stops_clean_answers_is_a_false_alarm_and_finds_nothing() -> None:
    gates = [load_gate("safety", HERE, forbidden=["proposal"])]
    found = by_defect(read(ITEMS[:6], ("gift_card",), metrics=[shopping], gates=gates))
    assert (found[CLEAN].rate, found["gift_card"].rate) == (1.0, 0.0)


def test_each_planted_answer_is_paid_for_once(tmp_path: Path) -> None:
    with JudgeServer(lambda answer, right: 5 * (answer == right)) as server:
        first = read(ITEMS[:5], metrics=[], judge=judge_of(server.settings, tmp_path))
        asked = len(server.judged)
        again = read(ITEMS[:5], metrics=[], judge=judge_of(server.settings, tmp_path))
        assert len(server.judged) == asked > 20
    assert first.readings == again.readings
    assert again.metrics["judge/cached"] == 1.0


def test_data_that_are_not_the_demos_get_what_applies_and_say_what_does_not() -> None:
    found = by_defect(read(TEXTS, metrics=[exact_match]))
    assert {name for name, one in found.items() if one.skipped} == {
        "swapped_gender",
        "gift_card",
        "missing_category",
        "invented_product",
        "broken_json",
        "missing_element",
    }
    assert "demo's data" in str(found["gift_card"].skipped)
    assert (found["padding"].rate, found["truncation"].rate, found[CLEAN].rate) == (1.0, 1.0, 0.0)


def test_a_share_counts_five_levels() -> None:
    small = [Item("1", [], '{"a": 1, "b": 2, "c": [1, 2]}')]
    large = [Item("1", [], json.dumps({"a": list(range(40))}))]
    assert by_defect(read(small, ("missing_element",), metrics=[field_f1]))["missing_element"].found == 0
    assert by_defect(read(small, ("broken_json",), metrics=[field_f1]))["broken_json"].found == 1
    lenient = {"drop": 0.05}
    assert by_defect(read(large, ("missing_element",), metrics=[field_f1], settings=lenient))["missing_element"].found


def test_nothing_that_scores_gives_no_readings() -> None:
    readings = read(TEXTS, metrics=[lambda item, answer: {"quality/words": 3.0}])
    assert (readings.readings, readings.metrics) == ([], {})


def test_what_cannot_be_scored_is_counted_apart(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import json\ndef f(row, answer):\n    json.loads(answer)\n    return {'score': 5}\n"
    )
    from tracking.meters.metrics import load_metric

    metric = load_metric("mine.py:f", tmp_path)
    readings = read(ITEMS[:5], ("broken_json", "padding"), metrics=[metric])
    found = by_defect(readings)
    assert (found["broken_json"].n, found["broken_json"].missing, found["broken_json"].rate) == (0, 5, None)
    assert (found["padding"].n, found["padding"].missing) == (5, 0)
    assert readings.metrics["defect/broken_json_detected"] is None
    assert readings.errors[0]["count"] == 5
    assert "JSONDecodeError" in readings.errors[0]["first"]


def test_a_users_own_defect_may_fail_in_a_few_rows(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(row, answer):\n    return answer + ' Bye.' if row['id'] != '3' else 3\n")
    readings = read(TEXTS, ("mine.py:f",), tmp_path, metrics=[exact_match], max_missing=0.1)
    assert by_defect(readings)["f"].n == 9
    assert "row '3': a defect returns the changed answer" in readings.errors[0]["first"]
    with pytest.raises(TooMuchMissing, match="so it fails in 1 of 10 rows"):
        read(TEXTS, ("mine.py:f",), tmp_path, metrics=[exact_match])


def test_wilson() -> None:
    assert wilson(0, 0) == (None, None)
    low, high = wilson(95, 100)
    assert (round(low or 0, 4), round(high or 0, 4)) == (0.8882, 0.9785)
    assert wilson(100, 100)[1] == 1.0
