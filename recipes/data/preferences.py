"""Reading preference pairs: a prompt, the answer that is preferred and the one that is not, in the common form.

Written, a pair is ``{"prompt", "chosen", "rejected"}`` (both answers text, a JSON value, or messages, which may repeat
the prompt, as trl takes them) or a prompt with ranked ``responses``, 0 the preferred and 1 the rejected, as in section
4.4 of NEMO-4-PAYPAL; the two responses may also stand in two rows of one prompt. Read, it is a chat row whose last turn
is the preferred answer, with the other answer's text as ``rejected``, so that whatever takes chat rows takes pairs too.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from recipes.data.rows import (
    MAX_PROBLEMS,
    Method,
    canonical,
    checked_messages,
    is_half,
    is_pair,
    refusal,
    to_chat,
    unwritable,
)
from sweeps.errors import InvalidInput, Problem

PREFERRED, REJECTED = 0, 1
"""The ranks of the two responses."""
_ANSWER_KEYS = ("response", "content")
_FORMS = 'write {"prompt": …, "chosen": …, "rejected": …}, or ranked responses'
_RANKS = "rank 0 is the preferred answer, rank 1 the rejected one"

Message = dict[str, str]


class BrokenRule(ValueError):
    """A row breaks a rule; ``hint`` is the way out."""

    def __init__(self, rule: str, hint: str = "") -> None:
        super().__init__(rule)
        self.hint = hint


def to_pair(row: Any) -> dict[str, Any]:
    """One preference row in the common form; further fields are kept.

    Raises:
        ValueError: With the rule that the row breaks; a :class:`BrokenRule` also says the way out.
    """
    if not is_pair(row):
        # What is no row at all is told as of any row.
        to_chat(row)
        raise BrokenRule("a row of one answer, where a preference pair is needed", _FORMS)
    _refuse_two_forms(row)
    rest = {key: value for key, value in row.items() if key not in ("prompt", "messages", "chosen", "rejected")}
    if "responses" in row:
        chosen, rejected = _ranked(rest.pop("responses"))
        prompt = _prompt(row)
    elif "chosen" in row:
        prompt, chosen, rejected = _compared(row)
    else:
        *prompt, last = checked_messages(row["messages"])
        chosen, rejected = last["content"], _answer(row["rejected"], "rejected")
    messages = checked_messages([*prompt, {"role": "assistant", "content": chosen}])
    if held := unwritable(rejected):
        raise BrokenRule(f"rejected holds {held}")
    if comparable(chosen) == comparable(rejected):
        same = "the same text" if chosen == rejected else "the same but for spaces and the order of keys"
        raise BrokenRule(f"chosen and rejected are {same}: {chosen[:40]!r}", "a pair needs two different answers")
    return {**to_chat({**rest, "messages": messages}), "rejected": rejected}


def _refuse_two_forms(row: Mapping[str, Any]) -> None:
    """Of two forms in one row one would be taken, and what the other says be lost."""
    if "responses" in row and (answers := row.keys() & {"chosen", "rejected"}):
        raise BrokenRule(f"two forms in one row: it has responses and {' and '.join(sorted(answers))}", _FORMS)
    if "prompt" in row and "messages" in row:
        turns = row["messages"]
        if isinstance(turns, list) and turns and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant":
            turns = turns[:-1]
        if _prompt({"prompt": row["prompt"]}) != _prompt({"messages": turns}):
            rule = "two forms in one row: it has a prompt, and messages that ask something else"
            raise BrokenRule(rule, "leave one of them out")


def _ranked(responses: Any) -> tuple[str, str]:
    """The preferred and the rejected text of ranked responses."""
    if not isinstance(responses, list):
        raise BrokenRule(f"responses must be a list of two, got {type(responses).__name__}", _RANKS)
    found: dict[int, str] = {}
    ranks = []
    for place, one in enumerate(responses):
        where = f"responses[{place}]"
        key = next((key for key in _ANSWER_KEYS if isinstance(one, dict) and key in one), None)
        if key is None:
            raise BrokenRule(f"{where} must have response and rank", _RANKS)
        rank = _rank(one, where)
        ranks.append(rank)
        found[rank] = _answer(one[key], f"{where}.{key}")
    if sorted(ranks) != [PREFERRED, REJECTED]:
        told = ", ".join(map(str, ranks)) or "none"
        raise BrokenRule(f"responses must have the ranks 0 and 1 once each, got {told}", _RANKS)
    return found[PREFERRED], found[REJECTED]


def _rank(one: Mapping[str, Any], where: str) -> int:
    if "rank" not in one:
        raise BrokenRule(f"{where} has no rank", _RANKS)
    rank = one["rank"]
    if isinstance(rank, bool) or rank not in (PREFERRED, REJECTED):
        raise BrokenRule(f"{where}.rank must be 0 or 1, got {rank!r}", _RANKS)
    return int(rank)


def _prompt(row: Mapping[str, Any]) -> list[Message]:
    """The conversation up to the answer, as ``prompt`` or ``messages`` give it."""
    key = "prompt" if "prompt" in row else "messages"
    value = row.get(key)
    if isinstance(value, str):
        if not value:
            raise BrokenRule(f"{key} is empty")
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise BrokenRule(f"{key} must be text or a list of messages, got {type(value).__name__}")
    if isinstance(value[-1], dict) and value[-1].get("role") == "assistant":
        raise BrokenRule(f"{key} must end with the user's turn, got the assistant's", "the answers stand apart from it")
    return checked_messages([*value, {"role": "assistant", "content": "."}])[:-1]


def _compared(row: Mapping[str, Any]) -> tuple[list[Message], str, str]:
    """Prompt and texts of a row with ``chosen`` and ``rejected``."""
    if "rejected" not in row:
        raise BrokenRule("it has chosen, but no rejected", _FORMS)
    prompt = _prompt(row) if "prompt" in row or "messages" in row else None
    turns = {name: _turns(row[name], name) for name in ("chosen", "rejected")}
    for name, found in turns.items():
        if found is None and prompt is None:
            raise BrokenRule(f"it has no prompt, and {name} is an answer alone", "add prompt, as text or as messages")
    texts = {}
    for name, found in turns.items():
        if found is None:
            texts[name] = _answer(row[name], name)
            continue
        *before, last = found
        texts[name] = last["content"]
        if prompt is None:
            prompt = before
        elif before and before != prompt:
            other = "the prompt" if "prompt" in row or "messages" in row else "chosen"
            place = _parts(prompt, before)
            raise BrokenRule(
                f"{name} is not an answer to the same prompt: it parts from {other} at messages[{place}]",
                "chosen and rejected must repeat the prompt word for word, or hold the answer alone",
            )
    assert prompt is not None, "either it is written, or both answers are conversations"
    if not prompt:
        raise BrokenRule("it has no prompt: chosen and rejected hold one message", "add prompt, as text or as messages")
    return prompt, texts["chosen"], texts["rejected"]


def _turns(value: Any, name: str) -> list[Message] | None:
    """The messages that an answer is written as; None where it is text or another JSON value."""
    listed = isinstance(value, list) and value and all(isinstance(one, dict) and "role" in one for one in value)
    if not listed:
        return None
    if value[-1].get("role") != "assistant":
        raise BrokenRule(f"{name} must end with the assistant's turn, got {value[-1].get('role')!r}")
    _answer(value[-1].get("content"), f"{name}[{len(value) - 1}].content")
    if len(value) == 1:
        return [{"role": "assistant", "content": canonical(value[0]["content"])}]
    try:
        return checked_messages(value)
    except ValueError as error:
        raise BrokenRule(f"{name}: {error}") from None


def _parts(one: Sequence[Message], other: Sequence[Message]) -> int:
    """The place of the first message in which two conversations differ."""
    same = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        same += 1
    return same


def _answer(value: Any, name: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()) or value in ([], {}):
        raise BrokenRule(f"{name} is empty", "a pair needs two answers with something in them")
    return canonical(value)


def comparable(text: str) -> str:
    """What two answers are compared by: a JSON value whatever its spacing and the order of its keys, else the text."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        except (ValueError, RecursionError):
            pass
    return " ".join(text.split())


def prompt_key(messages: Iterable[Mapping[str, Any]]) -> str:
    """What the prompts of two rows are compared by: their turns without the system prompt and the last answer."""
    turns = [message for message in messages if message["role"] != "system"]
    if turns and turns[-1]["role"] == "assistant":
        turns.pop()
    return canonical([{"role": one["role"], "content": " ".join(str(one["content"]).split())} for one in turns])


class Orders:
    """The answers of each prompt in the order that pairs put them in, to find pairs that contradict each other.

    Answers are kept as hashes, so that a large file does not have to stay in memory.
    """

    def __init__(self) -> None:
        self._below: dict[bytes, dict[bytes, dict[bytes, int]]] = {}

    def add(self, row: Mapping[str, Any], line: int) -> list[int]:
        """Take a pair in the common form; return the lines of earlier pairs that say the contrary together, or none.

        A pair that contradicts is not taken.
        """
        prompt = _digest(canonical(row["messages"][:-1]))
        chosen, rejected = _digest(comparable(row["messages"][-1]["content"])), _digest(comparable(row["rejected"]))
        below = self._below.setdefault(prompt, {})
        if contrary := self._path(below, rejected, chosen):
            return contrary
        below.setdefault(chosen, {}).setdefault(rejected, line)
        return []

    @staticmethod
    def _path(below: Mapping[bytes, Mapping[bytes, int]], start: bytes, end: bytes) -> list[int]:
        """The lines of the pairs that lead from an answer down to another, the fewest; none where there is no way."""
        seen = {start}
        level: list[tuple[bytes, list[int]]] = [(start, [])]
        while level:
            beyond: list[tuple[bytes, list[int]]] = []
            for node, lines in level:
                for lower, line in below.get(node, {}).items():
                    if lower == end:
                        return [*lines, line]
                    if lower not in seen:
                        seen.add(lower)
                        beyond.append((lower, [*lines, line]))
            level = beyond
        return []


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def contradiction(lines: Sequence[int]) -> BrokenRule:
    """What is told of a pair that these lines contradict."""
    if len(lines) == 1:
        rule = (
            f"the answer that is rejected here is preferred to the chosen one in line {lines[0]}, for the same prompt"
        )
    else:
        told = ", ".join(map(str, lines))
        rule = f"a cycle: with the pairs of lines {told}, each answer to this prompt is preferred to itself"
    return BrokenRule(rule, "leave one of them out")


def pairs(numbered: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """Each pair with its line, in the common form, or the Problem of a row; one after the other, in any number.

    Args:
        numbered: Lines and rows; a Problem in a row's place is passed on.
    """
    orders, half = Orders(), _Halves()
    for number, row in numbered:
        if isinstance(row, Problem):
            yield number, row
            continue
        try:
            whole = half.take(row, number)
            if whole is None:
                continue
            pair = to_pair(whole)
            if contrary := orders.add(pair, number):
                raise contradiction(contrary)
            yield number, pair
        except ValueError as error:
            yield number, Problem("", str(error), getattr(error, "hint", ""), number)
    for number, problem in half.left():
        yield number, problem


class _Halves:
    """The ranked responses that stand in two rows, until the second is there."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[int, dict[str, Any]]] = {}

    def take(self, row: Any, line: int) -> Any:
        """The row itself where it is whole, the two together where it is the second, None where it is the first."""
        if not (isinstance(row, dict) and is_half(row)):
            return row
        key = next((key for key in _ANSWER_KEYS if key in row), None)
        if key is None:
            raise BrokenRule("it has rank, but no response", _RANKS)
        rank, prompt = _rank(row, "the row"), canonical(_prompt(row))
        if prompt not in self._waiting:
            self._waiting[prompt] = line, row
            return None
        before, other = self._waiting.pop(prompt)
        if other["rank"] == rank:
            raise BrokenRule(f"rank {rank} is also that of line {before}, for the same prompt", _RANKS)
        responses = [
            {"response": next(one[k] for k in _ANSWER_KEYS if k in one), "rank": one["rank"]} for one in (other, row)
        ]
        rest = {name: value for name, value in {**row, **other}.items() if name not in (*_ANSWER_KEYS, "rank")}
        return {**rest, "responses": responses}

    def left(self) -> Iterator[tuple[int, Problem]]:
        """The rows whose second never came."""
        for line, row in self._waiting.values():
            missing = REJECTED if row["rank"] == PREFERRED else PREFERRED
            rule = f"no row has rank {missing} for the same prompt, only rank {row['rank']} is there"
            yield line, Problem("", rule, _RANKS, line)


def checked_pairs(numbered: Iterable[tuple[int, Any]], source: str) -> list[dict[str, Any]]:
    """All preference rows in the common form; see :func:`pairs`.

    Raises:
        InvalidInput: With every line that is no JSON and every row that breaks a rule (the first twenty), by line; that
            rows have one answer alone is said once.
    """
    found: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for number, pair in pairs(_refusing(numbered, source)):
        if isinstance(pair, Problem):
            problems.append(Problem(pair.where or source, pair.rule, pair.hint, pair.line or number))
        else:
            found.append(pair)
        if len(problems) == MAX_PROBLEMS:
            break
    if problems:
        raise InvalidInput(sorted(problems, key=lambda one: one.line or 0), source)
    if not found:
        raise InvalidInput(Problem("data.path", f"{source} holds no rows", "one JSON object a line is needed"))
    return found


def _refusing(numbered: Iterable[tuple[int, Any]], source: str) -> Iterator[tuple[int, Any]]:
    """The rows up to the first that is a good row of the other method: those after it would be too."""
    method: Method = "dpo"
    for number, row in numbered:
        problem = None if isinstance(row, Problem) else refusal(row, method, source, number)
        yield number, problem or row
        if problem is not None:
            return
