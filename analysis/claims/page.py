"""Claims in an HTML page: what it says against the facts that its claims carry.

Each claim stands in an element whose ``data-claim`` holds its facts, and reads as those facts do. All other running
text, tooltips and the words of plotly figures among it, holds no percentage, ratio or limit. What is no statement is
passed over by what it is: style sheets, the plotly library, tick labels and formats of figures, code and quotations.
A user's own words, such as the name of a sweep, are listed in ``<meta name="quoted">``; they pass as a whole.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from markupsafe import Markup

from analysis.claims.model import AnyClaim, Share, from_facts
from analysis.claims.prose import HOLE, contradictions, loose, sentences
from analysis.claims.rules import Rule, Violation, at, check_one, one_value, side_by_side
from sweeps.errors import InvalidInput

_INLINE = {"a", "abbr", "b", "br", "button", "em", "i", "small", "span", "strong", "sub", "sup", "time", "wbr", "label"}
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_LITERAL = {"blockquote", "code", "kbd", "pre", "q", "samp"}
_READ = ("title", "alt", "aria-label", "placeholder")  # attributes that people read
_LIBRARY = re.compile(r"\s*(?:/\*[*!\s]*)+plotly\.js v\d")
_PLOT = "Plotly.newPlot("
_STRING = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'|`((?:[^`\\]|\\.)*)`")
_LENGTH = re.compile(r"[\d.]+%")
_CONTENT = re.compile(r"content\s*:\s*([\"'])(.*?)\1")  # the words that a style sheet adds
_FORMATS = {"tickformat", "tickformatstops", "ticktext", "ticksuffix", "tickprefix", "hoverformat", "template"}
_BARE = re.compile(r"(?<![\d%])(?<!\d\s)%|\bin\s+per\s?cent\b")  # a percentage's unit without its number
_PLACEHOLDER = re.compile(r"%\{[^}]*\}")


@dataclass
class _Text:
    """Text that is read in one go: a paragraph, an item, a cell; with the claims in it."""

    line: int
    column: tuple[int, int] | None = None  # of which table, which column
    ranking: int | None = None  # of which ordered list
    parts: list[str] = field(default_factory=list)
    claims: list[tuple[AnyClaim, str]] = field(default_factory=list)

    @property
    def words(self) -> str:
        """All of it."""
        texts = iter(text for _, text in self.claims)
        return _spaced("".join(next(texts) if part == HOLE else part for part in self.parts))

    @property
    def unclaimed(self) -> str:
        """What is left of it without its claims."""
        return _spaced("".join(self.parts))


def check_page(page: str) -> list[Violation]:
    """The rules that a page breaks, with their lines."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    found = list(reader.found)
    together: dict[Any, list[AnyClaim]] = defaultdict(list)
    lines: dict[Any, int] = {}
    for text in reader.texts:
        found += at(_check_text(text, reader.quoted), text.line)
        claims = [claim for claim, _ in text.claims]
        for key in [text.column, text.ranking]:
            if key is not None and claims:
                together[key] += claims
                lines.setdefault(key, text.line)
    for key, claims in together.items():
        found += at(side_by_side(claims), lines[key])
    for words, line in reader.asides:
        found += [Violation(Rule.UNMARKED, quote, line) for quote in loose(_without(words, reader.quoted))]
    carried: list[AnyClaim] = []
    for script, line in reader.scripts:
        found += at(_check_script(script, reader.quoted, carried), line)
    found += one_value([*carried, *(claim for text in reader.texts for claim, _ in text.claims)])
    return sorted(dict.fromkeys(found), key=lambda violation: violation.line or 0)


def quoted(words: Iterable[str]) -> Markup:
    """The ``<meta>`` that lists a user's words which read like a claim; empty where none does."""
    listed = sorted({word for word in words if next(_loose(word), None)})
    return Markup('<meta name="quoted" content="{}">').format(json.dumps(listed)) if listed else Markup()


def _check_text(text: _Text, quotes: list[str]) -> Iterator[Violation]:
    for quote in _loose(_without(text.unclaimed, quotes)):
        yield Violation(Rule.UNMARKED, quote)
    for claim, words in text.claims:
        yield from check_one(claim)
        if _spaced(words) != str(claim):
            yield Violation(Rule.MARKER, f"{_spaced(words)}, of {claim}")
    # Side by side is what one sentence holds; a paragraph may go on to another baseline.
    rest = iter(text.claims)
    for sentence in sentences(text.unclaimed):
        yield from side_by_side([next(rest)[0] for _ in range(sentence.count(HOLE))])
    for rule, quote in contradictions(_without(text.words, quotes)):
        yield Violation(rule, quote)


def _loose(words: str) -> Iterator[str]:
    """What comes from no claim; a heading such as ``change, %`` makes percentages of the numbers below it."""
    yield from loose(words)
    if _BARE.search(words):
        yield words[:80]


def _without(words: str, quotes: list[str]) -> str:
    """Text without the user's own words in it, where they stand as a whole."""
    for quote in quotes:
        words = re.sub(rf"(?<![\w+−.,-]){re.escape(quote)}(?![\w%])", "…", words)
    return words


def _spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


# Scripts -------------------------------------------------------------------------------------------


def _check_script(script: str, quotes: list[str], carried: list[AnyClaim]) -> Iterator[Violation]:
    """Figures by their words; of any other code its strings. The library is known by how it begins.

    Args:
        script: The element's contents.
        quotes: The user's own words.
        carried: Takes the claims of the figures.
    """
    if _LIBRARY.match(script):
        return
    rest = script
    while (start := rest.find(_PLOT)) >= 0:
        values, end = _arguments(rest, start + len(_PLOT))
        claims: list[AnyClaim] = []
        for value in values[1:3]:  # the traces and the layout; before them stands the element, after them the settings
            yield from _check_figure(value, [], quotes, claims)
        yield from side_by_side(claims)
        carried += claims
        rest = rest[:start] + rest[end:]
    for match in _STRING.finditer(rest):
        literal = next(group for group in match.groups() if group is not None)
        if not _LENGTH.fullmatch(literal):
            yield from (Violation(Rule.UNMARKED, quote) for quote in loose(_without(literal, quotes)))


def _arguments(script: str, position: int) -> tuple[list[Any], int]:
    """The JSON values of a call's arguments, and where they end."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    while True:
        match = re.compile(r"[\s,]*").match(script, position)
        assert match is not None
        try:
            value, position = decoder.raw_decode(script, match.end())
        except ValueError:
            return values, position
        values.append(value)


def _check_figure(
    value: Any, claims: list[AnyClaim], quotes: list[str], carried: list[AnyClaim]
) -> Iterator[Violation]:
    """The words of a figure. A trace or the layout may carry its claims in ``meta``: ``{"claims": [facts, …]}``."""
    if isinstance(value, list):
        for item in value:
            yield from _check_figure(item, claims, quotes, carried)
    elif isinstance(value, dict):
        meta = value.get("meta")
        if isinstance(meta, dict) and "claims" in meta:
            try:
                claims = [from_facts(item) for item in meta["claims"]]
            except (InvalidInput, TypeError) as error:
                yield Violation(Rule.MARKER, str(error))
                return
            carried += claims
            yield from (violation for claim in claims for violation in check_one(claim))
        for key, item in value.items():
            if key not in _FORMATS and key != "meta":
                yield from _check_figure(item, claims, quotes, carried)
    elif isinstance(value, str):
        words = Markup(_PLACEHOLDER.sub(_formatted, value).replace("<br>", " ")).striptags()
        for claim in claims:
            words = words.replace(str(claim), HOLE)
            if isinstance(claim, Share) and words == claim.short:  # a bar's label; the whole of it is in its tooltip
                words = HOLE
        yield from (Violation(Rule.UNMARKED, quote) for quote in loose(_without(words, quotes)))


def _formatted(match: re.Match[str]) -> str:
    """A placeholder as it will read: ``%{x:.1%}`` prints a percentage."""
    return "0 %" if match[0].endswith("%}") else " "


# The page ------------------------------------------------------------------------------------------


def _listed(content: str) -> list[str]:
    try:
        return [word for word in json.loads(content) if isinstance(word, str)]
    except (ValueError, TypeError):
        return []  # a list of another kind: nothing is passed over for it


class _Reader(HTMLParser):
    """Takes a page apart into what is read in one go."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._text = _Text(1)
        self.texts = [self._text]
        self.asides: list[tuple[str, int]] = []  # attributes that people read
        self.scripts: list[tuple[str, int]] = []
        self.quoted: list[str] = []
        self.found: list[Violation] = []
        self._stack: list[tuple[str, _Text]] = []
        self._claim: tuple[int, AnyClaim | None, list[str]] | None = None  # depth, facts, words
        self._tables: list[list[int]] = []  # open tables: number, column
        self._rankings: list[int] = []
        self._count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        line = self.getpos()[0]
        self.asides += [(given[name], line) for name in _READ if name in given]
        if tag == "meta" and given.get("name") == "quoted":
            self.quoted += _listed(given.get("content", ""))
        self._count += 1
        if tag == "table":
            self._tables.append([self._count, 0])
        elif tag == "tr" and self._tables:
            self._tables[-1][1] = 0
        elif tag == "ol":
            self._rankings.append(self._count)
        if tag in _VOID:
            self.handle_data(" " if tag in ("br", "hr") else "")
            return
        if tag == "script":
            self.scripts.append(("", line))
        self._stack.append((tag, self._text))
        if tag not in _INLINE:
            self._begin(tag, line)
            if tag in ("td", "th") and self._tables:
                number, column = self._tables[-1]
                self._text.column = (number, column)
                self._tables[-1][1] += int(given["colspan"]) if given.get("colspan", "").isdigit() else 1
            elif self._rankings:
                self._text.ranking = self._rankings[-1]
        if "data-claim" in given and self._claim is None:
            self._claim = (len(self._stack), self._facts(given["data-claim"], line), [])

    def _facts(self, held: str, line: int) -> AnyClaim | None:
        try:
            return from_facts(json.loads(held))
        except (InvalidInput, ValueError) as error:
            self.found.append(Violation(Rule.MARKER, str(error)[:120], line))
            return None

    def _begin(self, tag: str, line: int) -> None:
        """What follows is read apart from what stood before; a cell's blocks stay in its column."""
        column, ranking = self._text.column, self._text.ranking
        inside = tag not in ("table", "thead", "tbody", "tr")
        self._text = _Text(line, column if inside else None, ranking if inside else None)
        self.texts.append(self._text)

    def handle_endtag(self, tag: str) -> None:
        if tag not in [name for name, _ in self._stack]:
            return
        if tag == "table" and self._tables:
            self._tables.pop()
        elif tag == "ol" and self._rankings:
            self._rankings.pop()
        while self._stack:
            if self._claim and len(self._stack) == self._claim[0]:
                self._close_claim()
            name, outer = self._stack.pop()
            if name not in _INLINE:
                # Text that goes on after a block is a text of its own.
                self._text = _Text(self.getpos()[0], outer.column, outer.ranking)
                self.texts.append(self._text)
            if name == tag:
                return

    def close(self) -> None:
        super().close()
        if self._claim is not None:  # the page ends within it
            self._close_claim()

    def _close_claim(self) -> None:
        assert self._claim is not None
        _, claim, words = self._claim
        self._claim = None
        if claim is None:  # its words are then like any others
            self._text.parts.append("".join(words))
            return
        self._text.parts.append(HOLE)
        self._text.claims.append((claim, "".join(words)))

    def handle_data(self, data: str) -> None:
        data = data.replace(HOLE, " ")
        open_tags = [name for name, _ in self._stack]
        if open_tags and open_tags[-1] == "script":
            before, line = self.scripts[-1]
            self.scripts[-1] = (before + data, line)
        elif open_tags and open_tags[-1] == "style":
            self.asides += [(match[2], self.getpos()[0]) for match in _CONTENT.finditer(data)]
        elif _LITERAL.intersection(open_tags):
            return
        elif self._claim is not None:
            self._claim[2].append(data)
        else:
            self._text.parts.append(data)
