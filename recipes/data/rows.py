"""Reading rows and bringing them to one form: chat messages whose contents are all text.

Two forms are taken: ``{"messages": [{"role", "content"}, …]}`` that ends with the assistant, and
``{"prompt", "completion"}`` (also ``question``/``answer`` and ``prompt``/``response``). An assistant's content may be
an object or a list; it is serialised canonically.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from recipes.data.jsonl import read_jsonl as read_jsonl
from sweeps.errors import InvalidInput, Problem

ROLES = ("system", "user", "assistant")
PAIRS = (("prompt", "completion"), ("question", "answer"), ("prompt", "response"))
CONVERSATION = (
    "conversation_id",
    "conversation",
    "dialogue_id",
    "dialog_id",
    "session_id",
    "session",
    "thread_id",
    "thread",
    "chat_id",
)
"""Fields that say which conversation a row, or a line of a log, is of; where it has several, the first."""
MAX_PROBLEMS = 20
Method = Literal["sft", "dpo"]
HALF_PAIR = re.compile("[\ud800-\udfff]")  # JSON can escape one, but no encoding can write it


def canonical(content: Any) -> str:
    """The one text of a JSON value: keys in their order, no spaces, no escapes for letters."""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def to_chat(row: Any) -> dict[str, Any]:
    """One row in the common form; further fields are kept.

    Raises:
        ValueError: With the rule that the row breaks.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a row must be a JSON object, got {type(row).__name__}")
    if "messages" in row:
        messages = row["messages"]
    else:
        pair = next((pair for pair in PAIRS if pair[0] in row and pair[1] in row), None)
        if pair is None:
            raise ValueError(
                f"a row needs messages, or prompt and completion; it has {', '.join(sorted(row)) or 'no key'}"
            )
        messages = [{"role": "user", "content": row[pair[0]]}, {"role": "assistant", "content": row[pair[1]]}]
        row = {key: value for key, value in row.items() if key not in pair}
    for key, value in row.items():
        # Whoever writes the row again, or hashes it, needs all of it to have an encoding.
        if key != "messages" and HALF_PAIR.search(json.dumps([key, value], ensure_ascii=False)):
            raise ValueError(f"the field {key!r} holds half of a surrogate pair")
    return {**row, "messages": checked_messages(messages)}


def checked_messages(messages: Any) -> list[dict[str, str]]:
    """A conversation that ends with the assistant, each turn with role and text alone.

    Raises:
        ValueError: With the rule that it breaks.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list with at least a user's and an assistant's turn")
    out = []
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise ValueError(f"messages[{place}] must have role and content")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise ValueError(f"messages[{place}].role must be one of {', '.join(ROLES)}, got {role!r}")
        if not isinstance(content, str) and role != "assistant":
            raise ValueError(f"messages[{place}].content of a {role} must be text, got {type(content).__name__}")
        if content is None or content == "":
            raise ValueError(f"messages[{place}].content is empty")
        text = canonical(content)
        if held := unwritable(text):
            raise ValueError(f"messages[{place}].content holds {held}")
        out.append({"role": role, "content": text})
    if out[-1]["role"] != "assistant":
        raise ValueError(f"the last turn must be the assistant's, got {out[-1]['role']!r}")
    if not any(message["role"] == "user" for message in out):
        raise ValueError("there is no user's turn")
    return out


def unwritable(text: str) -> str | None:
    """What a text holds that no row may, in words; None where it may stand in one."""
    if "\x00" in text:
        return "a NUL byte"
    return "half of a surrogate pair" if HALF_PAIR.search(text) else None


def is_pair(row: Any) -> bool:
    """Whether a row is meant as a preference pair, in one of the forms of :mod:`recipes.data.preferences`."""
    if not isinstance(row, dict):
        return False
    ranked = "rank" in row and ("response" in row or "content" in row)
    answered = "messages" in row and isinstance(row.get("rejected"), str | list | dict)
    return "chosen" in row or "responses" in row or ranked or answered


def is_half(row: Mapping[str, Any]) -> bool:
    """Whether a row has one ranked response of a pair, the other of which stands in another row."""
    return "rank" in row and not row.keys() & {"responses", "chosen", "rejected"}


def refusal(row: Any, method: Method, source: str, line: int) -> Problem | None:
    """What is told of a row that another method than this one learns from; None of any other row."""
    if not isinstance(row, dict) or is_pair(row) is (method == "dpo"):
        return None
    if method == "sft":
        rule = "a preference pair, but method sft learns from rows of one answer"
        return Problem(source, rule, "set method: dpo, or leave the rejected answers out", line)
    single = "messages" in row or any(pair[0] in row and pair[1] in row for pair in PAIRS)
    rule = "a row of one answer, but method dpo learns from pairs"
    if not single:
        rule = f"no preference pair: it has {', '.join(sorted(row)) or 'no key'}"
    return Problem(source, rule, "write prompt, chosen and rejected, or ranked responses; or set method: sft", line)


def checked_rows(numbered: Iterable[tuple[int, Any]], source: str) -> list[dict[str, Any]]:
    """All rows in the common form.

    Raises:
        InvalidInput: With every line that is no JSON and every row that breaks a rule (the first twenty), by line; that
            rows are preference pairs is said once.
    """
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for number, row in numbered:
        try:
            if isinstance(row, Problem):
                problems.append(row)
            elif (problem := refusal(row, "sft", source, number)) is not None:
                problems.append(problem)
                break
            else:
                rows.append(to_chat(row))
        except ValueError as error:
            problems.append(Problem(source, str(error), line=number))
        if len(problems) == MAX_PROBLEMS:
            break
    if problems:
        raise InvalidInput(problems, source)
    if not rows:
        raise InvalidInput(Problem("data.path", f"{source} holds no rows", "one JSON object a line is needed"))
    return rows
