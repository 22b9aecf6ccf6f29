"""Reading rows: the two forms, and the exact words of every rule that a row can break."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.answers import as_json
from recipes.data.rows import MAX_PROBLEMS, canonical, checked_rows, read_jsonl, to_chat
from sweeps.errors import InvalidInput

USER = {"role": "user", "content": "A tent?"}
ANSWER = {"role": "assistant", "content": "Yes."}


def problems(path: Path) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        checked_rows(read_jsonl(path), str(path))
    return [str(problem) for problem in caught.value.problems]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("number", ["1e999", "-1e999", "Infinity", "NaN"])
def test_a_number_that_is_none_is_no_json_in_a_row_nor_in_an_answer(tmp_path: Path, number: str) -> None:
    path = written(tmp_path / "rows.jsonl", f'{{"prompt": "b", "completion": {{"a": {number}}}}}\n'.encode())
    assert ": not JSON: " in problems(path)[0]
    assert as_json(f'{{"a": {number}}}') is None
    assert as_json('{"a": 1e300}') == {"a": 1e300}


@pytest.mark.parametrize(("ask", "say"), [("prompt", "completion"), ("question", "answer"), ("prompt", "response")])
def test_a_pair_becomes_two_turns_and_keeps_its_other_fields(ask: str, say: str) -> None:
    row = to_chat({ask: "A tent?", say: "Yes.", "group": "tents"})
    assert row == {"messages": [USER, ANSWER], "group": "tents"}


def test_messages_are_kept_with_further_fields_of_the_row_and_without_those_of_a_message() -> None:
    row = to_chat({"messages": [{**USER, "time": 3}, ANSWER], "id": 7})
    assert row == {"messages": [USER, ANSWER], "id": 7}


def test_an_object_answer_is_serialised_canonically() -> None:
    answer = {"b": [1, 2.5, None, True], "a": {"name": "Café – 5 €"}}
    row = to_chat({"prompt": "A tent?", "completion": answer})
    assert row["messages"][-1]["content"] == '{"b":[1,2.5,null,true],"a":{"name":"Café – 5 €"}}'
    listed = to_chat({"messages": [USER, {"role": "assistant", "content": ["x"]}]})
    assert listed["messages"][-1]["content"] == '["x"]'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_canonical_text_reads_back_as_the_same_value(value: Any) -> None:
    text = canonical(value)
    if isinstance(value, str):
        assert text == value
    else:
        assert json.loads(text) == value
        assert canonical(json.loads(text)) == text


@given(st.text(min_size=1).filter(lambda text: "\x00" not in text))
def test_text_survives_unchanged(text: str) -> None:
    row = to_chat({"prompt": text, "completion": text})
    assert [message["content"] for message in row["messages"]] == [text, text]
    assert to_chat(row) == row


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ([1], "a row must be a JSON object, got list"),
        ({}, "a row needs messages, or prompt and completion; it has no key"),
        ({"text": "x", "id": 1}, "a row needs messages, or prompt and completion; it has id, text"),
        ({"messages": []}, "messages must be a list with at least a user's and an assistant's turn"),
        ({"messages": "x"}, "messages must be a list with at least a user's and an assistant's turn"),
        ({"messages": [{"role": "user"}, ANSWER]}, "messages[0] must have role and content"),
        ({"messages": [USER, "Yes."]}, "messages[1] must have role and content"),
        (
            {"messages": [{"role": "human", "content": "x"}, ANSWER]},
            "messages[0].role must be one of system, user, assistant, got 'human'",
        ),
        (
            {"messages": [{"role": "user", "content": {"x": 1}}, ANSWER]},
            "messages[0].content of a user must be text, got dict",
        ),
        (
            {"messages": [{"role": "system", "content": None}, USER, ANSWER]},
            "messages[0].content of a system must be text, got NoneType",
        ),
        ({"prompt": "", "completion": "x"}, "messages[0].content is empty"),
        ({"prompt": "x", "completion": None}, "messages[1].content is empty"),
        ({"prompt": "x\x00", "completion": "x"}, "messages[0].content holds a NUL byte"),
        ({"prompt": "x", "completion": "x\x00"}, "messages[1].content holds a NUL byte"),
        ({"prompt": "x", "completion": "\ud800"}, "messages[1].content holds half of a surrogate pair"),
        ({"prompt": "x", "completion": {"a": "\udc00"}}, "messages[1].content holds half of a surrogate pair"),
        ({"prompt": "x", "completion": "y", "note": ["\ud800"]}, "the field 'note' holds half of a surrogate pair"),
        ({"prompt": "x", "completion": "y", "\udc00": 1}, "the field '\\udc00' holds half of a surrogate pair"),
        ({"messages": [USER, ANSWER, USER]}, "the last turn must be the assistant's, got 'user'"),
        ({"messages": [{"role": "system", "content": "x"}, ANSWER]}, "there is no user's turn"),
    ],
)
def test_each_rule_says_what_is_wrong(row: Any, rule: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        to_chat(row)
    assert str(caught.value) == rule


def test_all_broken_rows_are_told_together_each_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", b'{"prompt": "x", "completion": "y"}\n\n[]\n{"prompt": "x"}\n')
    assert problems(path) == [
        f"line 3: {path}: a row must be a JSON object, got list",
        f"line 4: {path}: a row needs messages, or prompt and completion; it has prompt",
    ]


def test_lines_that_are_not_json_are_told_with_line_and_column(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", b'{"prompt": "x", "completion": "y"}\n{"prompt": x}\n{\n')
    assert problems(path) == [
        f"line 2: {path}: not JSON: Expecting value at column 12, near '{{\"prompt\": x}}'"
        " (every line must be one JSON object)",
        f"line 3: {path}: not JSON: Expecting property name enclosed in double quotes at column 2, near '{{'"
        " (every line must be one JSON object)",
    ]


def test_lines_that_are_not_json_stand_among_the_rows_that_break_a_rule(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", b'{"prompt": "x"}\nx\n[]\n{"a": NaN}\n{"prompt": "x", "comp')
    assert problems(path) == [
        f"line 1: {path}: a row needs messages, or prompt and completion; it has prompt",
        f"line 2: {path}: not JSON: Expecting value at column 1, near 'x' (every line must be one JSON object)",
        f"line 3: {path}: a row must be a JSON object, got list",
        f"line 4: {path}: not JSON: NaN is no JSON value, write null",
        f'line 5: {path}: not JSON: Unterminated string at column 17, near \'{{"prompt": "x", "comp\''
        " (the file ends within this line: was it cut short?)",
    ]


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b"[" * 100_000, "not JSON that can be read: it is nested too deeply"),
        (b"1" * 5000, "not JSON: Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits"),
        (b'"\0"', "not JSON: a NUL byte at column 7 (the file was damaged while it was written: write it again)"),
    ],
    ids=["nested", "long", "NUL"],
)
def test_what_the_parser_itself_stumbles_over_is_told_too(tmp_path: Path, value: bytes, rule: str) -> None:
    path = written(tmp_path / "rows.jsonl", b'{"a":' + value + b"}\n")
    assert problems(path) == [f"line 1: {path}: {rule}"]


def test_a_flood_of_problems_is_cut(tmp_path: Path) -> None:
    assert len(problems(written(tmp_path / "rows.jsonl", b"[]\n" * 50))) == MAX_PROBLEMS
    assert len(problems(written(tmp_path / "rows.jsonl", b"x\n" * 50))) == MAX_PROBLEMS


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_byte_order_marks_and_windows_lines_are_taken(tmp_path: Path, begin: bytes, end: bytes) -> None:
    line = '{"prompt": "Zwölf\u2028Zelte?\\r\\n", "completion": "Ja."}'.encode()
    path = written(tmp_path / "rows.jsonl", begin + end.join([line, b"", line]))
    rows = checked_rows(read_jsonl(path), str(path))
    assert [row["messages"][0]["content"] for row in rows] == ["Zwölf\u2028Zelte?\r\n"] * 2


def test_another_encoding_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", '{"prompt": "Zwölf'.encode("latin-1"))
    assert problems(path) == [
        f"data.path: {path} is not UTF-8: byte 14 is 0xf6, in line 1 (convert it with `iconv -t UTF-8`)",
    ]


def test_a_missing_file_and_an_empty_one_are_told(tmp_path: Path) -> None:
    hint = "a relative path is taken from the folder of the sweep's YAML"
    assert problems(tmp_path / "none.jsonl") == [f"data.path: no such file: {tmp_path / 'none.jsonl'} ({hint})"]
    assert problems(tmp_path) == [f"data.path: {tmp_path} is a folder (name the JSONL file in it)"]
    empty = written(tmp_path / "empty.jsonl", b"\n \n")
    assert problems(empty) == [f"data.path: {empty} holds no rows (one JSON object a line is needed)"]
