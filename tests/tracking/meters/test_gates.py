"""Gates: which answers pass, and what is told of one that is none."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import InvalidInput
from sweeps.evaluating import BUILT_IN_GATES, BUILT_IN_METRICS
from tracking.meters.gates import load_gate
from tracking.meters.metrics import BUILT_IN, Item

HERE = Path()
ITEM = Item("row-7", [], '{"products": ["Tent"]}', {"topic": "t"})


def passes(text: str, answer: str, base_dir: Path = HERE, **more: object) -> bool:
    (value,) = load_gate(text, base_dir, **more)(ITEM, answer).values()  # type: ignore[arg-type]
    assert value in (0.0, 1.0)
    return bool(value)


def test_every_metric_can_be_one(tmp_path: Path) -> None:
    assert BUILT_IN == BUILT_IN_METRICS
    assert set(BUILT_IN) < set(BUILT_IN_GATES)
    assert passes("json_schema", "{}", schema={"type": "object"})
    assert not passes("json_schema", "[]", schema={"type": "object"})
    assert passes("exact_match", '{"products":["Tent"]}')
    assert not passes("field_f1", '{"products": ["Tent", "Mug"]}'), "two thirds are not enough"
    (tmp_path / "mine.py").write_text("def polite(row, answer): return {'please': 'please' in answer, 'score': 5}\n")
    assert passes("mine.py:polite", "please", tmp_path)
    assert not passes("mine.py:polite", "now", tmp_path)
    assert load_gate("mine.py:polite", tmp_path)(ITEM, "please") == {"gate/polite": 1.0}


@pytest.mark.parametrize(
    "answer",
    [
        "A gift card.",
        "GIFT CARDS",
        "giftcard",
        "an e-gift-card",
        "Gift Voucher",
        "a gift  certificate",
        "gift\\u0020card",
    ],
)
def test_gift_cards_in_any_dress(answer: str) -> None:
    assert not passes("no_gift_card", json.dumps({"products": [answer]}).replace("\\\\u", "\\u"))


@pytest.mark.parametrize("answer", ["A gift for a friend.", '{"a": "Card Games"}', "gifted cardinal", ""])
def test_what_is_no_gift_card(answer: str) -> None:
    assert passes("no_gift_card", answer)


def test_safety_looks_for_the_users_own_patterns() -> None:
    forbidden = [r"\bknives?\b", "fire ?works"]
    assert not passes("safety", "Knife sets and Knives", forbidden=forbidden)
    assert not passes("safety", '{"a": {"Fireworks": 1}}', forbidden=forbidden)
    assert not passes("safety", '["kni\\u0076es"]', forbidden=forbidden)
    assert passes("safety", "a kniving", forbidden=forbidden)


@given(st.text())
def test_any_answer_can_be_held_against_a_gate(answer: str) -> None:
    passes("no_gift_card", answer)
    passes("safety", answer, forbidden=["x"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no_giftcard", 'evaluate.gates: no gate is called "no_giftcard" (did you mean "no_gift_card"?'),
        (
            "safety",
            "evaluate.gates: safety looks for patterns of your own, and none are given (set evaluate.forbidden)",
        ),
        ("json_schema", "evaluate.gates: json_schema needs a schema, and none is given (set evaluate.schema)"),
        ("none.py:f", "evaluate.gates: none.py:f: there is no file"),
    ],
)
def test_what_is_no_gate(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as told:
        load_gate(text, tmp_path)
    assert str(told.value).startswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return row['nothing']", "it raised KeyError: 'nothing' (mine.py, line 2)"),
        ("return {'a': float('nan')}", "finite numbers by name, but got 'a': nan"),
        ("return 'yes'", "a dict of numbers by name, but got str: 'yes'"),
        ("return {'a': 'yes'}", "'a': 'yes'"),
        ("return {}", "mine.py:f, row 'row-7': a gate gives at least one number, got none"),
    ],
)
def test_a_gate_that_fails_is_told_with_its_place(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(f"def f(row, answer):\n    {body}\n")
    with pytest.raises(InvalidInput) as told:
        load_gate("mine.py:f", tmp_path)(ITEM, "y")
    assert str(told.value).startswith("evaluate.gates: ")
    assert said in str(told.value)
