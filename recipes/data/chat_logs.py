"""Logs of a production agent as rows to learn from: what it answered is taken to be right.

Two kinds of lines are taken: a conversation ``{"messages": […]}`` as OpenAI's API writes it, and a request with its
response ``{"request": {"messages": […]}, "response": {"choices": […]}}``, each as an object or as JSON in a text. Lines
are turned into rows one by one, so that a log of any length fits.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from recipes.data.privacy import Finder, Redactor
from recipes.data.rows import CONVERSATION, canonical, to_chat
from sweeps.errors import Problem

OWN = ("messages", "conversation", "agent", "turn", "redacted", "rejected", "chosen", "responses", "rank")
"""Fields that rows have by themselves, or by which they would be pairs: no field of a line is kept under these."""
Turns = Literal["last", "all"]
_ROLES = {"developer": "system"}  # newer models' name of it
_CUT = {"length": "answers that were cut off at their limit", "content_filter": "answers that a filter stopped"}
_FORMS = 'a line is {"messages": […]}, or {"request": {"messages": […]}, "response": {"choices": […]}}'

Row = dict[str, Any]


class _LeftOutError(Exception):
    """A line is no mistake, and yet nothing to learn from; the message says what such lines are."""


@dataclass
class Seen:
    """What was seen in a log. Adds up over parts of it.

    Attributes:
        lines: Conversations, or requests; ``rows`` were made of them.
        left_out: Lines that gave no row, by what they are.
        forms: Lines by form.
        redacted: Values that were replaced, by field and kind.
        touched: Rows in which something was.
        kept: Fields of lines that rows keep, by how many lines have them.
    """

    lines: int = 0
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    redacted: Counter[tuple[str, str]] = field(default_factory=Counter)
    touched: int = 0
    kept: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Seen") -> None:
        """Take up what was seen in another part."""
        self.lines += other.lines
        self.rows += other.rows
        self.touched += other.touched
        self.left_out.update(other.left_out)
        self.forms.update(other.forms)
        self.redacted.update(other.redacted)
        self.kept.update(other.kept)


def rows_of(
    numbered: Iterable[tuple[int, Any]],
    source: str,
    seen: Seen,
    finder: Finder | None,
    turns: Turns = "last",
    keep: Sequence[str] = (),
) -> Iterator[Row | Problem]:
    """The rows of a log, in its order; a Problem, which quotes no value, stands for a line that is of neither form.

    Args:
        numbered: Lines and their values; Problems among them are passed on.
        source: For messages.
        seen: Counts while rows are taken.
        finder: Finds what is replaced; None replaces nothing.
        turns: One row a conversation, which ends with its last answer, or one for each answer. A request with its
            response is one row either way: its earlier answers had requests of their own.
        keep: Further fields of a line that its rows keep, with placeholders too.
    """
    for number, line in numbered:
        if isinstance(line, Problem):
            yield replace(line, rule=line.rule.partition(", near ")[0])  # what stands there may be a person's
            continue
        seen.lines += 1
        try:
            form, messages, answers, about = _read(line)
            seen.forms[form] += 1
            ends = [at for at in answers if messages[at]["content"]]
            if not ends:
                raise _LeftOutError("conversations without an answer")
            ends = [
                at for at in (ends if turns == "all" else ends[-1:]) if all(one["content"] for one in messages[:at])
            ]
            if not ends:
                raise _LeftOutError("conversations with an empty turn")
            made = list(_rows(messages, ends, about, line, finder, keep, seen))
        except _LeftOutError as reason:
            seen.left_out[str(reason)] += 1
        except ValueError as error:
            yield Problem(source, str(error), getattr(error, "hint", _FORMS), number)
        else:
            seen.rows += len(made)
            yield from made


def _rows(
    messages: list[Row],
    ends: Sequence[int],
    about: Row,
    line: Mapping[str, Any],
    finder: Finder | None,
    keep: Sequence[str],
    seen: Seen,
) -> Iterator[Row]:
    kept = {name: line[name] for name in keep if name in line}
    seen.kept.update(kept.keys())
    if finder is None:
        for turn in ends:
            yield to_chat({"messages": messages[: turn + 1], **kept, **about, "turn": turn})
        return
    redactor = Redactor(finder)
    kept = {name: redactor.value(value, name) for name, value in kept.items()}
    told, found = [], [_kinds(redactor)]  # found[n]: in the kept fields and the first n messages
    for message in messages[: ends[-1] + 1]:
        told.append({**message, "content": redactor.text(message["content"], f"messages of {message['role']}")})
        found.append(_kinds(redactor))
    seen.redacted.update(redactor.counts)
    for turn in ends:
        row = to_chat({"messages": told[: turn + 1], **kept, **about, "turn": turn})
        seen.touched += bool(found[turn + 1])
        # A list, as a table has no column for an object without fields.
        yield {**row, "redacted": [{"kind": kind, "count": count} for kind, count in sorted(found[turn + 1].items())]}


def _kinds(redactor: Redactor) -> Counter[str]:
    """How much was replaced so far, by kind."""
    found = Counter[str]()
    for (_, kind), count in redactor.counts.items():
        found[kind] += count
    return found


def _read(line: Any) -> tuple[str, list[Row], list[int], Row]:
    """A line's form, its messages, the places of the agent's answers, and what else a row of it has.

    Raises:
        ValueError: It is neither of both forms.
    """
    if not isinstance(line, dict):
        raise ValueError(f"a line must be a JSON object, got {type(line).__name__}")
    if "request" in line and "response" in line:
        request, response = _object(line["request"], "request"), _object(line["response"], "response")
        messages = _messages(request.get("messages"), "request.messages")
        answer, model = _choice(response), response.get("model") or request.get("model")
        return "request and response", [*messages, answer], [len(messages)], _about((request, line), messages, model)
    if "messages" in line:
        messages = _messages(line["messages"], "messages")
        answers = [at for at, one in enumerate(messages) if one["role"] == "assistant" and _asked(messages[:at])]
        return "conversation", messages, answers, _about((line,), messages, line.get("model"))
    raise ValueError(f"neither a conversation nor a request with its response: it has {_fields(line)}")


def _fields(value: Mapping[str, Any]) -> str:
    """The names of an object's fields; a key that is no plain name may be a value, and is not told."""
    told = [key if key.isidentifier() else "…" for key in sorted(value)]
    return ", ".join(dict.fromkeys(told)) or "no key"


def _asked(before: Sequence[Row]) -> bool:
    return any(one["role"] == "user" for one in before)


def _about(parts: Sequence[Mapping[str, Any]], messages: Sequence[Row], model: Any) -> Row:
    """Which conversation a row is of, as a hash, and who answered."""
    named = _named(parts)
    if not named:
        # Without a name it is known by how it begins: the system prompt and the first that the user says.
        first = next((at for at, one in enumerate(messages) if one["role"] == "user"), 0)
        named = {"conversation": _hash(canonical(list(messages[: first + 1])))}
    return {**({"agent": model} if isinstance(model, str) else {}), **named}


def _named(parts: Sequence[Mapping[str, Any]]) -> Row:
    """The conversation's name, in the parts of a line or their metadata: the surest name that any of them has."""
    places = [place for part in parts for place in (part, part.get("metadata")) if isinstance(place, dict)]
    for name in CONVERSATION:
        for place in places:
            if isinstance(place.get(name), str | int) and place[name] != "":
                return {"conversation": _hash(str(place[name]))}
    return {}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _object(value: Any, name: str) -> Row:
    """An object, or the JSON of one in a text, as some logs keep bodies; a ``body`` within is taken out."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{name} is text, but no JSON") from None
    if isinstance(value, dict) and isinstance(value.get("body"), dict | str):
        return _object(value["body"], f"{name}.body")
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, got {type(value).__name__}")
    return value


def _choice(response: Mapping[str, Any]) -> Row:
    """The answer in a response."""
    choices = response.get("choices")
    if response.get("error") and not choices:
        raise _LeftOutError("requests that were answered with an error")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError(f"response.choices must be a list with an answer; the response has {_fields(response)}")
    reason = choices[0].get("finish_reason")
    if isinstance(reason, str) and reason in _CUT:
        raise _LeftOutError(_CUT[reason])
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise ValueError("response.choices[0] has no message; chunks of a stream must be put together first")
    return _message({"role": "assistant", **message}, "response.choices[0].message")


def _messages(value: Any, name: str) -> list[Row]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} must be a list of messages, got {type(value).__name__}")
    return [_message(one, f"{name}[{place}]") for place, one in enumerate(value)]


def _message(message: Any, name: str) -> Row:
    """Role and text of a message.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(message, dict) or "role" not in message:
        raise ValueError(f"{name} must have role and content")
    role = message["role"]
    if not isinstance(role, str):
        raise ValueError(f"{name}.role must be text, got {type(role).__name__}")
    role = _ROLES.get(role, role)
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise _LeftOutError("conversations in which tools were called")
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"{name}.role must be one of system, user, assistant")
    content = message.get("content")
    if isinstance(content, list):
        if any(not isinstance(part, dict) or part.get("type") not in ("text", "input_text") for part in content):
            raise _LeftOutError("conversations with pictures or other parts that are no text")
        content = "".join(str(part.get("text", "")) for part in content)
    if content is None and role == "assistant":
        raise _LeftOutError("answers that were refused, or have no text")
    if isinstance(content, dict) and role == "assistant":
        content = canonical(content)
    if not isinstance(content, str):
        raise ValueError(f"{name}.content must be text, got {type(content).__name__}")
    if not content and role != "assistant":
        raise _LeftOutError("conversations with an empty turn")
    return {"role": role, "content": content}
