"""Conditions under which a key is swept: ``optimizer.name == adamw and lora.rank in [8, 16]``."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.grammar import GrammarError, format_value, parse_value, quote
from sweeps.values import freeze, is_number, lookup, same

_ORDER = ("<", "<=", ">", ">=")
_TERM = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*(==|!=|<=|>=|<|>|\bin\b)\s*(.*?)\s*", re.DOTALL)
_FORM = "write <key> == <value>, with ==, !=, <, <=, >, >= or in [a, b]"


@dataclass(frozen=True)
class Term:
    """One comparison; the value of ``in`` is a tuple."""

    key: str
    operator: str
    value: Any

    def holds(self, value: Any) -> bool:
        """Whether the comparison is true of a value of the key; values that cannot be ordered make it false."""
        if self.operator == "in":
            return any(same(value, option) for option in self.value)
        if self.operator == "==":
            return same(value, self.value)
        if self.operator == "!=":
            return not same(value, self.value)
        if not is_number(value):
            return False
        if self.operator == "<":
            return bool(value < self.value)
        if self.operator == "<=":
            return bool(value <= self.value)
        if self.operator == ">":
            return bool(value > self.value)
        return bool(value >= self.value)

    def describe(self) -> str:
        return f"{self.key} {self.operator} {format_value(self.value)}"


@dataclass(frozen=True)
class Condition:
    """Comparisons that must all be true."""

    terms: tuple[Term, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the condition looks at."""
        return tuple(dict.fromkeys(term.key for term in self.terms))

    def holds(self, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
        """Whether the condition is true.

        Args:
            values: Swept values by dotted path; they come first.
            defaults: The recipe's nested settings, for keys that are not swept.

        Raises:
            KeyError: A key is in neither.
        """
        return all(
            term.holds(values[term.key] if term.key in values else lookup(defaults, term.key)) for term in self.terms
        )

    def describe(self) -> str:
        return " and ".join(term.describe() for term in self.terms)


def parse_condition(text: Any) -> Condition:
    """Read a condition.

    Raises:
        GrammarError: The text is no condition.
    """
    if not isinstance(text, str) or not text.strip():
        raise GrammarError(f"a condition must be text, but got {quote(text)}", _FORM)
    for word in (" or ", " not "):
        if len(_split(text, word)) > 1:
            raise GrammarError(f"a condition has no{word.rstrip()}, but got {quote(text)}", "join comparisons with and")
    return Condition(tuple(_parse_term(part) for part in _split(text, " and ")))


def _split(text: str, word: str) -> list[str]:
    """The text cut at a word, but not within quotes or brackets."""
    parts, start, depth, quotation = [], 0, 0, ""
    for position, character in enumerate(text):
        if quotation:
            quotation = "" if character == quotation and text[position - 1] != "\\" else quotation
        elif character in "'\"":
            quotation = character
        elif character in "[({":
            depth += 1
        elif character in "])}":
            depth -= 1
        elif depth == 0 and position >= start and text.startswith(word, position):
            parts.append(text[start:position])
            start = position + len(word)
    return [*parts, text[start:]]


def _parse_term(text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None or not match[3]:
        hint = "write == to compare" if re.search(r"[^=!<>]=[^=]", text) else _FORM
        raise GrammarError(f"cannot read the comparison {quote(text.strip())}", hint)
    key, operator, written = match.groups()
    value = freeze(parse_value(written))
    if operator == "in" and not (isinstance(value, tuple) and value):
        raise GrammarError(f"in needs a list, but got {quote(written)}", f"write {key} in [a, b]")
    if operator in _ORDER and not is_number(value):
        raise GrammarError(f"{operator} needs a number, but got {quote(written)}")
    if not _is_plain(value):
        raise GrammarError(f"cannot compare with {quote(written)}", "compare with a plain value")
    return Term(key, operator, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))
