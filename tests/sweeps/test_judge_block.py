"""``evaluate.judge``: a rubric by its levels, a dated price, a panel, and what is wrong with each, in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import InvalidInput
from sweeps.judging import Judge
from sweeps.loading import load_spec

Write = Callable[[str], Path]
HEAD = "name: x\nrecipe: tiny_commerce_sft\nspace: {lora.rank: 'choice(8, 16)'}\nevaluate:\n"
WHOLE = {"model": "m", "endpoint": "http://localhost:1/v1", "rubric": "Five if it helps."}
LEVELS = "{5: best, 4: good, 3: fair, 2: poor, 1: bad, 0: worst}"


def judge_of(write: Write, block: str) -> Judge:
    spec = load_spec(write(f"{HEAD}  judge: {block}\n")).spec
    assert spec is not None
    assert spec.evaluate.judge is not None
    return spec.evaluate.judge


def told(write: Write, block: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load_spec(write(f"{HEAD}  judge: {block}\n"))
    assert {problem.line for problem in caught.value.problems} == {5}
    return [str(problem).removeprefix("line 5: evaluate.judge.") for problem in caught.value.problems]


def test_a_rubric_by_its_levels_is_that_in_words(write: Write) -> None:
    block = f"{{model: m, endpoint: 'http://x', rubric: {{task: ' Is it kind? ', levels: {LEVELS}}}}}"
    assert judge_of(write, block).rubric == "Is it kind?\n5: best\n4: good\n3: fair\n2: poor\n1: bad\n0: worst"
    assert judge_of(write, block.replace("0: worst", "'0': worst")).rubric == judge_of(write, block).rubric


@given(st.sets(st.integers(0, 5)))
def test_levels_that_are_missing_are_named(described: set[int]) -> None:
    rubric = {"task": "t", "levels": {level: f"level {level}" for level in described}}
    missing = [level for level in range(6) if level not in described]
    if not missing:
        assert Judge.model_validate({**WHOLE, "rubric": rubric}).rubric is not None
        return
    which = f"level {missing[0]} is" if len(missing) == 1 else f"levels {', '.join(map(str, missing))} are"
    with pytest.raises(ValueError, match=f"{which} not described"):
        Judge.model_validate({**WHOLE, "rubric": rubric})


@pytest.mark.parametrize(
    ("rubric", "message"),
    [
        ("{task: t, level: {0: a}}", 'rubric: unknown key "level" (did you mean "levels"?)'),
        (f"{{levels: {LEVELS}}}", "rubric: has levels, but no task (write task: and what the answers are judged for)"),
        (f"{{task: t, levels: {LEVELS.replace('4: good', '6: good')}}}", 'rubric: levels are from 0 to 5, but got "6"'),
        (f"{{task: t, levels: {LEVELS.replace('good', '3')}}}", "rubric: level 4 is not described"),
        ("{task: t, levels: [a, b]}", "rubric: levels 0, 1, 2, 3, 4, 5 are not described"),
        ("'Is {{ it }} kind?'", "rubric: a rubric is plain text without {{ }}"),
        ("'  '", "rubric: must not be empty"),
        ("5", "rubric: must be text, but got 5 (put it in quotes)"),
    ],
)
def test_rubrics_that_are_none(write: Write, rubric: str, message: str) -> None:
    [problem] = told(write, f"{{model: m, endpoint: 'http://x', rubric: {rubric}}}")
    assert problem.startswith(message)


def test_all_that_is_missing_is_told(write: Write) -> None:
    assert told(write, "{}") == ["model: is missing", "endpoint: is missing", "rubric: is missing"]


def test_a_price_has_a_date_and_a_source(write: Write) -> None:
    whole = "{model: m, endpoint: 'http://x', rubric: r, price: {input_usd_per_1m: 1, output_usd_per_1m: 2%s}}"
    price = judge_of(write, whole % ", date: 2026-11-25, source: list").price
    assert price is not None
    assert (price.date, price.input_usd_per_1m) == ("2026-11-25", 1.0)
    assert told(write, whole % "") == ["price.source: is missing", "price.date: is missing"]
    assert told(write, whole % ", date: soon, source: ' '") == [
        "price.source: must not be empty",
        'price.date: must be a date, but got "soon" (write it like 2026-11-25)',
    ]
    assert "must be above 0" in told(write, whole.replace(": 1,", ": -1,") % ", date: 2026-11-25, source: s")[0]


def test_a_panel_and_what_it_shares(write: Write) -> None:
    panel = "[{model: a}, {model: b, endpoint: 'http://y', parameters: {seed: 1}}]"
    judge = judge_of(write, f"{{rubric: r, endpoint: 'http://x', panel: {panel}}}")
    assert [(one.model, one.endpoint) for one in judge.panel] == [("a", None), ("b", "http://y")]
    assert judge.model is None
    whole = "[{model: a, endpoint: 'http://x', rubric: r}, {model: b, endpoint: 'http://y', rubric: r}]"
    assert [one.model for one in judge_of(write, whole).panel] == ["a", "b"], "a list of judges is a panel"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "{rubric: r, panel: [{model: a}, {model: b}]}",
            'endpoint: is missing for "a", "b" (write endpoint: for all, or for each)',
        ),
        (
            "{model: m, rubric: r, endpoint: 'http://x', panel: [{model: a}, {model: b}]}",
            "model: must be one of model and panel, but got both (write each model under panel)",
        ),
        (
            "{rubric: r, endpoint: 'http://x', panel: [{model: a}]}",
            "panel: must be two judges or more, but got 1 (one judge is written without panel)",
        ),
        ("{rubric: r, endpoint: 'http://x', panel: [{model: a}, {}]}", "panel[1].model: is missing"),
        (
            "{rubric: r, endpoint: 'http://x', panel: [{model: a}, {model: b, modle: c}]}",
            'panel[1].modle: unknown key "modle" (did you mean "model"?)',
        ),
        (
            "{model: m, rubric: r, endpoint: 'http://x', parameters: {messages: []}}",
            'parameters: "messages" is not a parameter that a judge may have (temperature, seed, …)',
        ),
        (
            "{model: m, rubric: r, endpoint: 'http://x', parameters: {stop: [a]}}",
            'parameters: "stop" must be a plain value',
        ),
        (
            "{model: m, rubric: r, endpoint: 'http://x', calibration: {min_kappa: 2}}",
            "calibration.min_kappa: must be at most 1, but got 2",
        ),
        (
            "{model: m, rubric: r, endpoint: 'http://x', calibration: {min_kapa: 1}}",
            'calibration.min_kapa: unknown key "min_kapa" (did you mean "min_kappa"?)',
        ),
    ],
)
def test_what_is_wrong_is_told_in_its_place(write: Write, block: str, message: str) -> None:
    assert told(write, block) == [message]


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.7, "seed": 3, "stop": None, "reasoning_effort": "low"}])
def test_parameters_are_the_users_own(parameters: dict[str, Any]) -> None:
    assert Judge.model_validate({**WHOLE, "parameters": parameters}).parameters == parameters
    assert Judge.model_validate(WHOLE).parameters == {"temperature": 0.0}
