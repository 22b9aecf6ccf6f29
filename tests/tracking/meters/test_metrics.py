"""The built-in metrics, and loading a user's own."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import InvalidInput
from tracking.meters.metrics import (
    Item,
    NotJsonError,
    canonical,
    exact_match,
    field_f1,
    json_schema,
    load_metric,
    parse_json,
)


def item(reference: str, **row: Any) -> Item:
    return Item("row-7", [{"role": "user", "content": "?"}], reference, row)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ('{"a": 1, "b": [1, 2]}', ' {"b":[1,2],"a":1.0}\n', 1.0),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', 0.0),
        ('{"a": 1}', '{"a": true}', 0.0),
        ('{"a": "1"}', '{"a": 1}', 0.0),
        ("plain text", "  plain text\n", 1.0),
        ("plain text", '"plain text"', 0.0),
        ('{"a": 1}', '{"a": 1', 0.0),
        ('{"a": 1}', "", 0.0),
        ('{"a": 1}', '{"a": NaN}', 0.0),
    ],
)
def test_exact_match(reference: str, answer: str, expected: float) -> None:
    assert exact_match(item(reference), answer) == {"quality/exact_match": expected}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [('{"n": 3}', 1.0), ('{"n": "3"}', 0.0), ("{}", 0.0), ('{"n": 3', 0.0), ("", 0.0), ("[" * 100_000, 0.0)],
)
def test_json_schema(answer: str, expected: float) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    assert json_schema(schema)(item(""), answer) == {"quality/json_valid": expected}


def test_a_schema_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="not a JSON schema: 'integr' is not valid"):
        json_schema({"type": "integr"})


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', 1.0),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0.5),
        ('{"a": 1, "b": 2}', '{"a": 1}', 2 / 3),
        ('{"a": [1, 2, 2]}', '{"a": [2, 1, 2]}', 1.0),
        ('{"a": [1, 2, 2]}', '{"a": [1, 2]}', 0.8),  # a value counts as often as it occurs
        ('{"a": {"b": 1}}', '{"b": 1}', 0.0),
        ('{"a": []}', '{"a": []}', 1.0),
        ("{}", "{}", 1.0),
        ('{"a": 1}', "not JSON", 0.0),
    ],
)
def test_field_f1(reference: str, answer: str, expected: float) -> None:
    assert field_f1(item(reference), answer) == {"quality/field_f1": pytest.approx(expected)}


def test_field_f1_needs_json_to_compare_with() -> None:
    with pytest.raises(InvalidInput, match="row 'row-7' is none"):
        field_f1(item("plain text"), "{}")


@given(JSON, JSON)
def test_equal_values_and_only_they_match(one: Any, other: Any) -> None:
    text = json.dumps(one, indent=2)
    assert exact_match(item(text), json.dumps(one))["quality/exact_match"] == 1
    assert field_f1(item(text), json.dumps(one))["quality/field_f1"] == 1
    forward = field_f1(item(text), json.dumps(other))["quality/field_f1"]
    assert forward == field_f1(item(json.dumps(other)), text)["quality/field_f1"]
    assert 0 <= forward <= 1
    assert (canonical(one) == canonical(other)) == bool(
        exact_match(item(text), json.dumps(other))["quality/exact_match"]
    )


@given(st.text())
def test_any_answer_can_be_scored(answer: str) -> None:
    for metric in (exact_match, field_f1, json_schema({"type": "object"})):
        assert all(0 <= value <= 1 for value in metric(item("{}"), answer).values())


def test_parse_json_says_why() -> None:
    with pytest.raises(NotJsonError, match="Infinity is no JSON"):
        parse_json("[-Infinity]")


def test_built_ins_by_name(tmp_path: Path) -> None:
    assert load_metric("exact_match", tmp_path) is exact_match
    assert load_metric("field_f1", tmp_path) is field_f1
    assert load_metric("shopping", tmp_path).__name__ == "shopping"
    assert load_metric("json_schema", tmp_path, {"type": "object"})(item(""), "{}") == {"quality/json_valid": 1.0}
    with pytest.raises(InvalidInput, match="json_schema needs a schema"):
        load_metric("json_schema", tmp_path)
    with pytest.raises(InvalidInput, match='did you mean "exact_match"'):
        load_metric("exakt_match", tmp_path)
    with pytest.raises(InvalidInput, match=r"write file\.py:function"):
        load_metric("mine.py", tmp_path)


def test_a_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Helper:\n    x: int\n"
        "def length(row, answer):\n"
        "    right = row['reference'] == 'yes' and row['id'] == 'row-7' and row['topic'] == 't'\n"
        "    return {'length': len(answer), 'e2e/right': right}\n"
    )
    metric = load_metric("mine.py:length", tmp_path)
    assert metric(item("yes", topic="t"), "four") == {"quality/length": 4.0, "e2e/right": 1.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("none.py:f", "there is no file"),
        ("mine.py:lenght", 'did you mean "length"'),
        ("broken.py:f", r"broken\.py cannot be loaded: ZeroDivisionError.*broken\.py, line 2"),
        ("syntax.py:f", r"syntax\.py cannot be loaded: SyntaxError"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.py").write_text("def length(row, answer): return {}\n")
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    with pytest.raises(InvalidInput, match=said):
        load_metric(text, tmp_path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1.0", "a metric returns a dict of numbers by name, but got float: 1.0"),
        ("return {'a': 'high'}", "'a': 'high'"),
        ("return {'a': float('nan')}", "finite numbers by name, but got 'a': nan"),
        ("return {'a': None}", "'a': None"),
        ("return {1: 1.0}", "1: 1.0"),
        ("return row['nothing']", r"it raised KeyError: 'nothing'.*mine\.py, line 2"),
    ],
)
def test_a_users_own_that_fails_is_told_with_its_place(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(f"def f(row, answer):\n    {body}\n")
    with pytest.raises(InvalidInput, match=rf"mine\.py:f, row 'row-7': .*{said}"):
        load_metric("mine.py:f", tmp_path)(item("x"), "y")
