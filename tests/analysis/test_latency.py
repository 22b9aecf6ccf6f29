"""Latencies as tables, from a ledger and the grid beside it, in the command and in the report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.champion import choose
from analysis.claims import check_page
from analysis.figures import scene
from analysis.latency import kept, notes, read_grid, stages, timed, write_grid
from analysis.latency_figures import stage_bars
from analysis.measured import change, measured
from analysis.report import render
from tests.analysis.synthetic import SPEC, synthetic
from tests.launchers.running import podium
from tracking.ledger import Evaluation, Ledger, SweepState

LIMITED = {**SPEC, "evaluate": {"metrics": ["shopping"], "latency": {"slo": {"agent_p95": "< 1.5s", "ttft_p50": "1s"}}}}
GRID: dict[str, Any] = {
    "t": 1.0,
    "slo": {"formulation_p95": "<= 0.3 s"},
    "rate": 4.0,
    "searched": True,
    "points": [
        {
            "tp": 2,
            "accelerator": "H100",
            "price": {"usd_per_hour": 3.85, "date": "2026-09-25", "source": "a list"},
            "goodput_rps": 7.0,
            "goodput_rps_per_unit": 3.5,
            "usd_per_1k_good": 0.3056,
            "why": "",
            "runs": [{"kept": True, "rate": 8.0, "metrics": {"latency/formulation_p95_s": 1.9}}],
        },
        {
            "tp": 8,
            "accelerator": "B200",
            "price": {"usd_per_hour": 7.15, "date": "2026-09-25", "source": "a list"},
            "goodput_rps": None,
            "goodput_rps_per_unit": None,
            "usd_per_1k_good": None,
            "why": "no node has 8 × B200: the largest has 4",
            "runs": [],
        },
    ],
}


def base_latency(n: int = 90, **detail: Any) -> Evaluation:
    metrics = {"latency/agent_p95_s": 2.0, "latency/formulation_p95_s": 1.5, "latency/formulation_p99_s": None}
    why = {"latency/formulation_p99_s": "needs 459 requests, and 90 were made"}
    intervals = {"latency/formulation_p95_s": [1.4, None]}
    detail = {"load": "one request at a time", "missing": why, "intervals": intervals, **detail}
    return Evaluation("l", "base", "latency", n, metrics, detail=detail)


@pytest.fixture
def state(tmp_path: Path) -> SweepState:
    made = synthetic(tmp_path, spec=LIMITED)
    made.arms["base"].append(base_latency())
    return made


def test_base_and_champion_come_first_each_stage_by_itself(state: SweepState) -> None:
    choice = choose(state)
    assert choice.champion is not None
    assert list(timed(state, choice))[:2] == ["base", choice.champion]
    rows = stages(state, choice)
    assert [(row["label"], row["stage"]) for row in rows[:2]] == [
        ("Base model", "formulation"),
        ("Base model", "agent"),
    ]
    assert (rows[0]["p95"], rows[0]["p95_low"], rows[0]["p95_high"], rows[0]["p99"]) == (1.5, 1.4, None, None)
    assert rows[0]["why"] == "needs 459 requests, and 90 were made"
    assert rows[2]["label"].startswith("Champion, trial ")
    assert rows[2]["stage"] == "agent"


def test_verdicts_are_on_every_limit(state: SweepState) -> None:
    found = [row for row in kept(state, choose(state)) if row["arm"] == "base"]
    assert [(row["metric"], row["limit"], row["kept"]) for row in found] == [
        ("latency/agent_p95_s", "< 1.5 s", False),
        ("latency/ttft_p50_s", "<= 1 s", None),
    ]
    assert found[1]["why"] == "it was not measured"


def test_requests_without_an_answer_and_answers_that_nobody_can_read_are_told(state: SweepState) -> None:
    assert notes(state, choose(state)) == []
    state.arms["base"][-1] = base_latency(num_errors=2, searched_own_words=7)
    told = notes(state, choose(state))
    assert [one["arm"] for one in told] == ["base", "base"]
    assert told[0]["text"].startswith("Base model: 2 of 90 requests have no answer")
    assert "answers to 7 items could not be read" in told[1]["text"]
    page = render(state, choose(state))
    assert "answers to 7 items could not be read" in page
    assert check_page(page) == []


def test_no_percentage_is_taken_between_two_loads(state: SweepState) -> None:
    choice = choose(state)
    trial = str(choice.champion)
    ours, theirs = (measured(state, arm, "latency/agent_p95_s") for arm in (trial, "base"))
    assert ours is not None
    assert theirs is not None
    assert change(ours, theirs)[0] is not None
    state.arms["base"][-1] = base_latency(rate=5.0)
    loaded = measured(state, "base", "latency/agent_p95_s")
    assert loaded is not None
    assert change(ours, loaded)[0] is None


def drawn(state: SweepState) -> Any:
    return stage_bars(scene(state, choose(state)))


def test_the_stages_are_stacked_and_the_slowest_marked(state: SweepState) -> None:
    seconds = {"formulation": 0.6, "retrieval": 0.2, "ranking": 0.1}
    metrics: dict[str, float | None] = {f"latency/{stage}_p50_s": value for stage, value in seconds.items()}
    metrics |= {"latency/agent_p50_s": 0.8, "latency/agent_p95_s": 1.4}
    state.arms["base"][-1] = replace(base_latency(), metrics=metrics)
    figure = drawn(state)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [(bar.name, bar.x[0], bar.y[0]) for bar in bars] == [
        (stage, value, "Base model") for stage, value in seconds.items()
    ]
    assert len({bar.marker.color for bar in bars}) == 3
    [whisker] = [trace for trace in figure.data if trace.type == "scatter"]
    assert list(whisker.x) == pytest.approx([0.9, 1.4])
    assert whisker.name == "95th percentile of the agent"
    assert [shape.x0 for shape in figure.layout.shapes] == [1.5], "the SLO on the agent; that on ttft has no bar"
    assert figure.layout.annotations[0].text == "SLO: agent p95 < 1.5 s"


def test_an_slo_that_lies_far_off_is_told_at_the_edge(state: SweepState) -> None:
    metrics: dict[str, float | None] = {"latency/formulation_p50_s": 0.1, "latency/agent_p50_s": 0.1}
    state.arms["base"][-1] = replace(base_latency(), metrics=metrics)
    figure = drawn(state)
    assert not figure.layout.shapes
    assert figure.layout.annotations[0].text == "SLO: agent p95 < 1.5 s →"
    assert not [trace for trace in figure.data if trace.type == "scatter"], "no p95, no whisker"


def test_arms_under_other_loads_say_so(state: SweepState) -> None:
    metrics: dict[str, float | None] = {"latency/formulation_p50_s": 0.1}
    state.arms["base"][-1] = replace(base_latency(load="open loop, 5 requests a second"), metrics=metrics)
    champion = str(choose(state).champion)
    [one] = [one for one in state.trials[champion].evaluations if one.split == "latency"]
    one.metrics.update(metrics)
    one.detail["load"] = "one request at a time"
    names = drawn(state).data[0].y
    assert "open loop" in names[0]
    assert names[1].startswith("<b>Champion, trial ")
    assert "one request at a time" in names[1]


def test_nothing_is_drawn_without_a_median(state: SweepState) -> None:
    assert drawn(state) is None


def test_the_report_has_stages_verdicts_and_grid(state: SweepState) -> None:
    assert read_grid(state) is None
    write_grid(state, GRID)
    page = render(state, choose(state))
    section = page[page.index('id="latency"') :].split("</section>")[0]
    for words in ("1.5 (1.4 to …)", "broken", "kept", "H100", "no node has 8 × B200", "3.85, 2026-09-25"):
        assert words in section, words
    assert "Champion, trial" in section
    assert ">Trial " not in section, "the others are for the command"
    assert check_page(page) == []


def test_the_command_shows_the_same(state: SweepState, tmp_path: Path) -> None:
    write_grid(state, GRID)
    with Ledger(state.folder) as ledger:
        unread = {"searched_own_words": 1}
        ledger.append("evaluation", id="m", arm="base", split="latency", n=90, metrics={}, detail=unread)
    told = podium(tmp_path, "latency", "-o", "json", probe=True)
    assert told.returncode == 0, told.stderr
    content = json.loads(told.stdout)
    assert {row["label"].split(",")[0] for row in content["stages"]} >= {"Champion"}
    assert content["grid"]["points"][1]["why"] == "no node has 8 × B200: the largest has 4"
    assert told.stderr.rsplit("LOADED ", 1)[1].strip() == "[]"
    table = podium(tmp_path, "latency").stdout
    words_of_all = ("stage by stage", "latency/agent_p95_s", "H100", "the highest rate that keeps it")
    for words in (*words_of_all, "Base model: answers to 1 item could not be read"):
        assert words in table
    assert podium(tmp_path, "latency", "-o", "csv").stdout.startswith("arm,label,stage,n,p50,")


def test_a_sweep_in_which_nobody_was_timed_has_no_section(tmp_path: Path) -> None:
    state = synthetic(tmp_path)
    for trial in state.trials.values():
        trial.evaluations = [one for one in trial.evaluations if one.split != "latency"]
    assert 'id="latency"' not in render(state, choose(state))
