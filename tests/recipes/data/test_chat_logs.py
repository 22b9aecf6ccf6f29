"""Logs become rows: both forms, what is left out and why, one row a conversation or an answer, nothing of a person."""

import json
from pathlib import Path
from typing import Any

import pytest

from launchers.commands import chat_logs as command
from recipes.data.chat_logs import Seen, rows_of
from recipes.data.preferences import prompt_key
from recipes.data.privacy import Finder
from recipes.data.rows import checked_rows, read_jsonl
from sweeps.errors import Problem
from tests.launchers.running import podium
from tests.storage import BUCKET, Server

SYSTEM = {"role": "system", "content": "You help."}
ASK, ANSWER = {"role": "user", "content": "A tent?"}, {"role": "assistant", "content": "Yes."}
MORE, DONE = {"role": "user", "content": "And a mug?"}, {"role": "assistant", "content": "That too."}


def made(*lines: Any, **more: Any) -> tuple[list[Any], Seen]:
    seen = Seen()
    return list(rows_of(enumerate(lines, start=1), "log.jsonl", seen, None, **more)), seen


def served(messages: list[dict[str, Any]], answer: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop", **more}
    return {"request": {"model": "m", "messages": messages}, "response": {"model": "m-1", "choices": [choice]}}


def test_a_conversation_is_one_row_or_one_for_each_answer() -> None:
    line = {"messages": [SYSTEM, ASK, ANSWER, MORE, DONE, {"role": "user", "content": "Thanks."}]}
    (row,), seen = made(line)
    assert row["messages"] == [SYSTEM, ASK, ANSWER, MORE, DONE]
    assert (seen.lines, seen.rows) == (1, 1)
    rows, seen = made(line, turns="all")
    assert [one["messages"] for one in rows] == [[SYSTEM, ASK, ANSWER], [SYSTEM, ASK, ANSWER, MORE, DONE]]
    assert len({one["conversation"] for one in rows}) == 1
    assert [one["turn"] for one in rows] == [2, 4]
    assert seen.rows == 2


def test_an_answer_before_any_question_is_no_answer() -> None:
    rows, _ = made({"messages": [{"role": "assistant", "content": "Hello!"}, ASK, ANSWER]}, turns="all")
    assert [one["turn"] for one in rows] == [2]


@pytest.mark.parametrize(
    "wrap", [lambda part: part, json.dumps, lambda part: {"body": part}, lambda part: {"body": json.dumps(part)}]
)
def test_a_request_and_its_response_are_one_row_however_they_are_kept(wrap: Any) -> None:
    line = served([SYSTEM, ASK, ANSWER, MORE], "That too.")
    line = {"request": wrap(line["request"]), "response": wrap(line["response"]), "session_id": 7}
    for turns in ("last", "all"):
        (row,), seen = made(line, turns=turns)
        assert row["messages"] == [SYSTEM, ASK, ANSWER, MORE, DONE]
        assert row["agent"] == "m-1"
        assert seen.forms == {"request and response": 1}


def test_lines_of_one_conversation_are_known_by_its_name_or_by_how_it_begins() -> None:
    first, second = served([SYSTEM, ASK], "Yes."), served([SYSTEM, ASK, ANSWER, MORE], "That too.")
    other = served([SYSTEM, MORE], "Yes.")
    one, two, three = (made(line)[0][0]["conversation"] for line in (first, second, other))
    assert one == two != three
    named = [made({**line, "conversation_id": "anna@example.com"})[0][0] for line in (first, other)]
    assert named[0]["conversation"] == named[1]["conversation"]
    assert "anna" not in json.dumps(named), "a name is kept as a hash"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (served([ASK], "Yes", finish_reason="length"), "answers that were cut off at their limit"),
        (served([ASK], "Yes", finish_reason="content_filter"), "answers that a filter stopped"),
        (served([ASK], None), "answers that were refused, or have no text"),
        (
            {"request": {"messages": [ASK]}, "response": {"error": {"code": 500}}},
            "requests that were answered with an error",
        ),
        (
            {"messages": [ASK, {"role": "assistant", "content": None, "tool_calls": [1]}]},
            "conversations in which tools were called",
        ),
        ({"messages": [ASK, {"role": "tool", "content": "x"}, ANSWER]}, "conversations in which tools were called"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER]},
            "conversations with pictures or other parts that are no text",
        ),
        ({"messages": [ASK]}, "conversations without an answer"),
        ({"messages": [ASK, {"role": "assistant", "content": ""}]}, "conversations without an answer"),
        (
            {"messages": [ASK, {"role": "assistant", "content": ""}, MORE, DONE]},
            "conversations with an empty turn",
        ),
        ({"messages": [{"role": "user", "content": ""}, ANSWER]}, "conversations with an empty turn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_teaches_nothing_is_left_out_and_counted(line: Any, why: str) -> None:
    rows, seen = made(line, {"messages": [ASK, ANSWER]})
    assert len(rows) == 1
    assert seen.left_out == {why: 1}


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (
            {"prompt": "x", "completion": "y"},
            "neither a conversation nor a request with its response: it has completion, prompt",
        ),
        ({"request": {"messages": [ASK]}}, "neither a conversation nor a request with its response: it has request"),
        ([], "a line must be a JSON object, got list"),
        ({"messages": []}, "messages must be a list of messages, got list"),
        ({"messages": [{"role": "user"}]}, "messages[0].content must be text, got NoneType"),
        (
            {"messages": [{"role": "human", "content": "x"}]},
            "messages[0].role must be one of system, user, assistant",
        ),
        ({"request": "hello", "response": {}}, "request is text, but no JSON"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role must be text, got list"),
        (
            {"anna@example.com": 1, "text": 2},
            "neither a conversation nor a request with its response: it has …, text",
        ),
        (
            {"request": {"messages": [ASK]}, "response": {"id": 1}},
            "response.choices must be a list with an answer; the response has id",
        ),
        (
            {"request": {"messages": [ASK]}, "response": {"choices": [{"delta": {"content": "Y"}}]}},
            "response.choices[0] has no message; chunks of a stream must be put together first",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_line_of_another_form_is_told_by_line(line: Any, rule: str) -> None:
    rows, _ = made({"messages": [ASK, ANSWER]}, line)
    assert isinstance(rows[1], Problem)
    assert str(rows[1]).startswith(f"line 2: log.jsonl: {rule}")
    assert rows[1].hint


def test_no_message_of_a_log_quotes_a_value(tmp_path: Path) -> None:
    lines = [
        '{"messages": "anna@example.com" "x"}',
        json.dumps({"messages": [{"role": "anna@example.com", "content": "x"}]}),
        json.dumps({"request": "anna@example.com", "response": {}}),
        json.dumps({"anna@example.com": 1}),
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    rows = list(rows_of(read_jsonl(tmp_path / "log.jsonl"), "log.jsonl", Seen(), None))
    assert len(rows) == 4
    assert "anna" not in " ".join(map(str, rows))
    assert "not JSON: Expecting ',' delimiter at column 33" in str(rows[0])


def test_a_reason_that_is_no_text_is_no_cut() -> None:
    rows, _ = made(served([ASK], "Yes.", finish_reason={"type": "stop"}))
    assert rows[0]["messages"] == [ASK, ANSWER]


def test_an_empty_turn_takes_no_row_before_it() -> None:
    rows, _ = made({"messages": [ASK, ANSWER, MORE, {"role": "assistant", "content": ""}, MORE, DONE]}, turns="all")
    assert [one["turn"] for one in rows] == [1]


def test_a_conversation_is_known_by_its_surest_name_wherever_it_stands() -> None:
    def told(**more: Any) -> Any:
        return made({"messages": [ASK, ANSWER], **more})[0][0]["conversation"]

    one = told(metadata={"conversation_id": "a"}, session_id="s", trace_id="1")
    assert one == told(conversation_id="a", trace_id="2")
    assert told(trace_id="1") == told(trace_id="2"), "a trace is one request"
    assert told(conversation_id="") == told()
    inner = served([ASK], "Yes.")
    inner["request"]["metadata"] = {"session_id": "s"}
    assert made({**inner, "conversation_id": "a"})[0][0]["conversation"] == one


def test_texts_in_parts_and_newer_names_of_roles_are_taken() -> None:
    parts = [{"type": "text", "text": "A "}, {"type": "text", "text": "tent?"}]
    (row,), _ = made(
        {"messages": [{"role": "developer", "content": "You help."}, {"role": "user", "content": parts}, ANSWER]}
    )
    assert row["messages"] == [SYSTEM, ASK, ANSWER]


def log(path: Path, number: int) -> Path:
    lines = []
    for n in range(number):
        mail = f"user{n}@example.com"
        asked = {"role": "user", "content": f"Order {n} has not come, I am {mail}."}
        answer = {"role": "assistant", "content": f"I wrote to {mail} about order {n}."}
        lines.append({"messages": [SYSTEM, asked, answer, MORE, DONE], "customer": mail, "locale": "en"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_rows_say_what_was_replaced_in_them_and_where() -> None:
    asked = {"role": "user", "content": "I am a@example.com, +1 415 555 2671"}
    line = {
        "messages": [asked, {"role": "assistant", "content": "a@example.com it is."}, MORE, DONE],
        "mail": "b@example.com",
    }
    seen = Seen()
    rows: list[Any] = list(rows_of([(1, line)], "x", seen, Finder(), "all", ["mail"]))
    assert [row["redacted"] for row in rows] == [[{"kind": "EMAIL", "count": 3}, {"kind": "PHONE", "count": 1}]] * 2
    assert rows[0]["mail"] == "<EMAIL_1>"
    assert rows[0]["messages"][1]["content"] == "<EMAIL_2> it is."
    assert seen.redacted == {
        ("mail", "EMAIL"): 1,
        ("messages of user", "EMAIL"): 1,
        ("messages of user", "PHONE"): 1,
        ("messages of assistant", "EMAIL"): 1,
    }
    assert seen.touched == 2


def test_the_command_writes_rows_that_train_and_reports_no_value(tmp_path: Path) -> None:
    path = log(tmp_path / "log.jsonl", 30)
    run = podium(
        tmp_path,
        "data",
        "import",
        "chat",
        str(path),
        "--to",
        str(tmp_path / "rows.jsonl"),
        "--keep",
        "locale",
        "-o",
        "json",
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["lines"], told["rows"], told["forms"]) == (30, 30, {"conversation": 30})
    assert told["redacted"] == {
        "values": {"EMAIL": 60},
        "by_field": {"messages of assistant": {"EMAIL": 30}, "messages of user": {"EMAIL": 30}},
        "rows": 30,
    }
    text = (tmp_path / "rows.jsonl").read_text()
    assert "example.com" not in text + run.stdout + run.stderr
    rows = checked_rows(read_jsonl(tmp_path / "rows.jsonl"), "rows")
    assert all(row["locale"] == "en" and "customer" not in row for row in rows)
    assert len({prompt_key(row["messages"]) for row in rows}) == 30


def test_a_long_log_is_shared_by_processes_and_keeps_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ALONE", 20)
    monkeypatch.setattr(command, "CHUNK_LINES", 7)
    lines = list(read_jsonl(log(tmp_path / "log.jsonl", 100)))

    def all_rows(workers: int) -> list[Any]:
        seen, rows = Seen(), list[Any]()
        for part, broken, more in command._parts(iter(lines), "log", Finder, "last", (), workers):
            assert broken == []
            seen.add(more)
            rows += part
        assert (seen.lines, seen.rows, seen.redacted.total()) == (100, 100, 200)
        return rows

    assert all_rows(2) == all_rows(1)


def test_a_log_in_object_storage_leaves_no_copy(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))
    server.put("logs/a.jsonl", log(tmp_path / "a.jsonl", 3).read_bytes())
    command.chat(f"s3://{BUCKET}/logs/a.jsonl", to=str(tmp_path / "rows.jsonl"), redact=False)
    assert len(checked_rows(read_jsonl(tmp_path / "rows.jsonl"), "rows")) == 3
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("content", "arguments", "told"),
    [
        ("", ["--no-redact"], "gave no row: it is empty"),
        (json.dumps({"messages": [ASK]}), ["--no-redact"], "gave no row: 1 conversations without an answer"),
        (
            json.dumps({"a": 1}) + "\nhello\n",
            ["--no-redact"],
            "neither a conversation nor a request with its response: it has a",
        ),
        (
            json.dumps({"messages": [ASK, ANSWER]}),
            ["--turns", "first"],
            '--turns: must be last or all, but got "first"',
        ),
        (
            json.dumps({"messages": [ASK, ANSWER]}),
            ["--kinds", "MAIL"],
            "nothing finds 'MAIL' (did you mean \"EMAIL\"?)",
        ),
        (
            json.dumps({"messages": [ASK, ANSWER]}),
            ["--keep", "messages"],
            "--keep: rows have a field messages of their own",
        ),
        (
            json.dumps({"messages": [ASK, ANSWER]}),
            ["--no-redact", "--keep", "locale"],
            "--keep: no line that gave a row has the field 'locale'",
        ),
    ],
)
def test_what_cannot_be_imported_is_told_and_nothing_written(
    tmp_path: Path, content: str, arguments: list[str], told: str
) -> None:
    (tmp_path / "log.jsonl").write_text(content)
    to = tmp_path / "rows.jsonl"
    run = podium(tmp_path, "data", "import", "chat", str(tmp_path / "log.jsonl"), "--to", str(to), *arguments)
    assert run.returncode == 2, run.stderr
    assert told in run.stderr, run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    assert not list(tmp_path.glob("*rows*"))
