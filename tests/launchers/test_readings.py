"""Scoring as a worker does it: gates and readings of the instrument from a job, what the ledger shows, the cache."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.frame import arms
from analysis.instrument import in_words, readings
from launchers.bundle_worker import rescore_with
from launchers.evaluation import EvaluationJob, items_of, read_instrument, scored
from recipes.commerce.task import PROPOSAL_SCHEMA, rows
from recipes.compose import compose, typed
from sweeps.evaluating import Defects
from tests.tracking.meters.judging import JudgeServer
from tracking.ledger import FORMAT, Ledger, SweepState
from tracking.state import DEFECTS


@pytest.fixture
def job(tmp_path: Path) -> EvaluationJob:
    """Of the demo's rows, scored by its rubric."""
    split = tmp_path / "dev.jsonl"
    lines = []
    for row in rows(25, seed=9):
        *prompt, last = row["messages"]
        content = json.dumps(last["content"], separators=(",", ":"))
        lines.append(json.dumps({**row, "messages": [*prompt, {**last, "content": content}]}) + "\n")
    split.write_text("".join(lines), encoding="utf-8")
    return EvaluationJob(
        id="e1",
        arm=DEFECTS,
        base="",
        base_settings={},
        adapter=None,
        schema=None,
        split="dev",
        rows=str(split),
        limit=20,
        metrics=("shopping",),
        metric_schema=PROPOSAL_SCHEMA,
        base_dir=str(tmp_path),
        judge=None,
        max_new_tokens=8,
        batch_size=8,
        device="cpu",
        threads=1,
        out=str(tmp_path / "evaluations" / "defects-dev.jsonl"),
        gates=("json_schema", "no_gift_card"),
        judge_cache=str(tmp_path / "cache" / "judge"),
        defects=Defects().model_dump(mode="json"),
    )


def state_of(folder: Path, *evaluations: dict[str, Any]) -> SweepState:
    with Ledger(folder) as ledger:
        ledger.append("sweep", name="shoes", format=FORMAT, spec={}, recipe={}, facts={})
        for evaluation in evaluations:
            ledger.append("evaluation", **evaluation)
        return ledger.read()


def test_readings_stand_in_the_ledger_and_are_no_arm(job: EvaluationJob, tmp_path: Path) -> None:
    assert not job.of_trial
    assert not job.needs_machine
    result = read_instrument(job)
    state = state_of(tmp_path / "run", result)
    table = readings(state)
    assert list(table["defect"][:3]) == ["clean", "swapped_gender", "gift_card"]
    assert set(table["scorer"]) == {"code"}
    clean, gift_card = table.iloc[0], table.iloc[2]
    assert (clean["n"], clean["rate"], clean["limit"], clean["met"]) == (20, 0.0, 0.02, True)
    assert (gift_card["n"], gift_card["rate"], gift_card["met"]) == (20, 1.0, True)
    assert 0.8 < gift_card["low"] < 0.95 < gift_card["high"]
    skipped = table[table["defect"] == "truncation"].iloc[0]
    assert (skipped["n"], str(skipped["met"])) == (0, "<NA>")
    assert "plain text" in skipped["skipped"]
    assert in_words(state) == [
        "scored by code: 7 of 7 planted defects are found often enough; 0 false alarms in 20 clean answers"
    ]
    assert arms(state).empty
    assert state.arms[DEFECTS][0].metrics["defect/gift_card_detected"] == 1.0
    lines = [json.loads(line) for line in Path(job.out).read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 20 * 7 + sum(table[table["defect"] == "swapped_gender"]["n"])
    assert {line["found"]["code"] for line in lines if line["defect"] == "padding"} == {True}


def test_a_sweep_without_readings_has_an_empty_table(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    assert readings(state).empty
    assert in_words(state) == []


def test_a_judge_is_paid_once_for_answers_and_for_readings(job: EvaluationJob, tmp_path: Path) -> None:
    with JudgeServer(lambda answer, right: 5 * (answer == right)) as server:
        judged = replace(job, judge=server.settings)
        first = read_instrument(judged)
        asked = len(server.judged)
        assert asked < 20 * 8, "what a gate catches is not paid for"
        again = read_instrument(judged)
        # Another arm that gives the right answers, some of them in vain: the clean answers are known.
        arm = replace(judged, arm="base", id="e2", out=str(tmp_path / "evaluations" / "base-dev.jsonl"))
        items = items_of(arm)
        answers = [*(item.reference for item in items[:18]), '{"proposal": []}', "Gift card!"]
        result = scored(arm, items, answers, 0.0)
        assert len(server.judged) == asked
    assert first["metrics"] | again["metrics"] == again["metrics"] | {"judge/cached": 1.0, "judge/tokens": 0}
    assert result["metrics"]["quality/score"] == 4.5
    assert (result["metrics"]["gate/json_schema"], result["metrics"]["gate/no_gift_card"]) == (0.9, 0.95)
    assert result["detail"]["gates"] == ["json_schema", "no_gift_card"]
    assert result["detail"]["schema"] == PROPOSAL_SCHEMA
    state = state_of(tmp_path / "run", first)
    assert list(dict.fromkeys(readings(state)["scorer"])) == ["judge", "code"]
    assert len(in_words(state)) == 2


def test_what_an_instrument_does_not_see_is_said(job: EvaluationJob, tmp_path: Path) -> None:
    with JudgeServer(lambda answer, right: 4 if len(answer) < len(right) else 5) as server:
        result = read_instrument(replace(job, judge=server.settings, metrics=(), gates=()))
    (line,) = in_words(state_of(tmp_path / "run", result))
    assert line.startswith("scored by judge: 4 of 7 planted defects are found often enough, ")
    assert "padding in 0 of 20" in line


def test_missing_values_are_counted_in_the_detail(job: EvaluationJob, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(row, answer): return {'f': 1 / (answer != 'no')}\n")
    arm = replace(job, arm="base", metrics=("mine.py:f",), gates=(), max_missing=0.05)
    items = items_of(arm)
    detail = scored(arm, items, ["no", *["yes"] * 19], 0.0)["detail"]
    assert (detail["missing_values"], detail["counts"]) == ({"quality/f": 1}, {"quality/f": 19})
    assert detail["errors"][0]["count"] == 1
    assert "missing_values" not in scored(arm, items, ["yes"] * 20, 0.0)["detail"]


def test_a_bundle_is_verified_with_the_gates_that_scored_it(job: EvaluationJob) -> None:
    arm = replace(job, arm="base")
    items = items_of(arm)
    right = [item.reference for item in items]
    answers = [*right[:18], right[18].replace(items[18].row["request"]["occasion"], "a gift card"), "no JSON"]
    result = scored(arm, items, answers, 0.0)
    assert result["metrics"]["quality/score"] == 4.5
    proof = {"metrics": {"quality/score": {"detail": result["detail"]}}, "base_dir": job.base_dir}
    again = rescore_with("", typed(compose("tiny_commerce_sft")), proof)
    assert again is not None
    stored = [json.loads(line) for line in Path(arm.out).read_text(encoding="utf-8").splitlines()]
    assert stored[18]["gate"] == {"failed": ["no_gift_card"], "without": 5.0}, "only the text names one"
    assert again.score(stored, answers) == result["metrics"]
