"""Hydra's override grammar, read as a tree of plain values and calls. Nothing is looked up or evaluated.

``choice(8, 16)`` becomes ``Call("choice", (8, 16))``; what a call means is decided by whoever reads the tree, from a
closed list. Hydra is imported on first use, because it takes 0.15 s.
"""

import math
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from sweeps.values import is_number

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser

MAX_LENGTH = 10_000  # characters; a longer text is no value of a sweep, and the parser's time grows with it

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_KEYWORDS = {"null", "true", "false", "inf", "nan"}


class GrammarError(ValueError):
    """A text or a value that the grammar does not have. ``hint`` says the way out."""

    def __init__(self, rule: str, hint: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.hint = hint


@dataclass(frozen=True)
class Call:
    """A function call as it is written: ``range(1, 9, step=2)``."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        named = [f"{key}={format_value(value)}" for key, value in self.kwargs.items()]
        return f"{self.name}({', '.join([format_value(value) for value in self.args] + named)})"


@dataclass(frozen=True)
class CommaList:
    """Several values with commas between them and no brackets: Hydra's short form of a choice."""

    values: tuple[Any, ...]


@cache
def _parser() -> "OverridesParser":
    from hydra.core.override_parser.overrides_parser import OverridesParser

    class Unevaluated:
        """Stands where Hydra has its table of functions, and keeps a call as it is."""

        def eval(self, func: Any) -> Call:
            return Call(func.name, tuple(func.args), func.kwargs)

    return OverridesParser(Unevaluated())  # type: ignore[arg-type, unused-ignore]


def parse_value(text: str) -> Any:
    """Read one value: a scalar, a list, a dict, a :class:`Call`, or a :class:`CommaList`.

    Raises:
        GrammarError: The text is not in Hydra's grammar, or holds an interpolation.
    """
    from hydra.errors import HydraException

    if len(text) > MAX_LENGTH:
        raise GrammarError(f"a value has at most {MAX_LENGTH} characters, but got {len(text)}")
    if "${" in text:
        raise GrammarError(f'interpolations are not resolved here, but got "{text}"', "write the value itself")
    try:
        override = _parser().parse_override(f"x={text}")
    except (HydraException, RecursionError):
        raise GrammarError(f'cannot read "{text}"', _balance_hint(text)) from None
    return _plain(override._value)


def _plain(value: Any) -> Any:
    """Hydra's parse tree in our own words."""
    from hydra.core.override_parser.types import ChoiceSweep, QuotedString

    match value:
        case QuotedString():
            return value.text
        case Call():
            named = {key: _plain(item) for key, item in value.kwargs.items()}
            return Call(value.name, tuple(_plain(item) for item in value.args), named)
        case ChoiceSweep():
            return CommaList(tuple(_plain(item) for item in value.list))
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
    return value


def _balance_hint(text: str) -> str:
    for opening, closing in ("()", "[]", "{}"):
        if text.count(opening) > text.count(closing):
            return f'a "{closing}" is missing'
        if text.count(opening) < text.count(closing):
            return f'a "{opening}" is missing'
    return "put text with special characters in quotes"


def format_value(value: Any) -> str:
    """A value as the grammar writes it, so that :func:`parse_value` gives it back.

    Raises:
        ValueError: The value has no text in the grammar (a number that is not finite, or an object).
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        if not math.isfinite(value):
            raise ValueError(f"numbers must be finite, but got {value}")
        return repr(value)
    if isinstance(value, str):
        bare = _BARE.fullmatch(value) and value.lower() not in _KEYWORDS
        return value if bare else _quoted(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(format_value(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {format_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Call):
        return str(value)
    raise ValueError(f"a value must be a number, text, true, false, null or a list, but got {value!r}")


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(text=text, quote=Quote.single).with_quotes())


def quote(value: Any) -> str:
    """A value as a message quotes it: text in double quotes, anything else as the grammar writes it."""
    if isinstance(value, str):
        return f'"{value}"'
    try:
        return format_value(value)
    except ValueError:
        return str(value)
