"""Claims in Markdown and plain text: its paragraphs, lists and tables, held to the rules by their words."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from analysis.claims.prose import baselines, check_prose, figures
from analysis.claims.rules import Rule, Violation, at

_FENCE = re.compile(r"^\s*(```|~~~)")
_DIVIDER = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
_ITEM = re.compile(r"^\s*([-*+]|(?P<number>\d+)[.)])\s+")
_HEADING = re.compile(r"^#{1,6}\s")
# Literal or somebody else's: code, quotations, where links lead, HTML tags and comments.
_NOT_OURS = re.compile(r"`[^`]*`|“[^”]*”|\"[^\"]*\"|(?<=\])\([^)]*\)|<!--.*?-->|</?[a-zA-Z][^>]*>", re.DOTALL)


@dataclass(frozen=True)
class _Block:
    """A paragraph or an item of a list, with the line where it begins."""

    line: int
    text: str
    ranked: bool = False  # an item of a numbered list


@dataclass(frozen=True)
class _Table:
    """A table, with what stands before it."""

    line: int
    rows: list[list[str]]  # the first are the headings
    before: str


def check_markdown(text: str) -> list[Violation]:
    """The rules that a document breaks, with their lines."""
    found: list[Violation] = []
    ranking: list[_Block] = []
    for block in _blocks(text):
        if isinstance(block, _Table):
            found += _check_table(block)
            continue
        found += at(check_prose(block.text), block.line)
        if block.ranked:
            ranking.append(block)
            continue
        found += _check_ranking(ranking)
        ranking = []
    return sorted([*found, *_check_ranking(ranking)], key=lambda violation: violation.line or 0)


def _check_ranking(items: list[_Block]) -> list[Violation]:
    names: set[str] = set()
    for item in items:
        names |= baselines(item.text, [figure for figure in figures(item.text) if figure.relative])
    quote = f"a numbered list against {', '.join(sorted(names))}"
    return [Violation(Rule.MIXED, quote, items[0].line)] if len(names) > 1 else []


def _check_table(table: _Table) -> list[Violation]:
    heads, *rows = table.rows
    found = []
    for column, head in enumerate(heads):
        names: set[str] = set()
        for number, row in enumerate(rows, start=2):
            cell = row[column] if column < len(row) else ""
            # A heading such as "change" makes percentages below it changes.
            context = f"{head} {row[0] if column else ''}. {table.before}"
            found += at(check_prose(cell, context), table.line + number)
            names |= baselines(f"{cell} {head}", [one for one in figures(cell) if one.relative])
        if len(names) > 1:
            quote = f"column “{head}” against {', '.join(sorted(names))}"
            found.append(Violation(Rule.MIXED, quote, table.line))
    return [replace(violation, line=violation.line) for violation in found]


def _blocks(text: str) -> Iterator[_Block | _Table]:
    lines = _blanked(text).splitlines()
    paragraph: list[str] = []
    start, before, index = 0, "", 0
    while index < len(lines):
        line = lines[index]
        table = "|" in line and index + 1 < len(lines) and _DIVIDER.match(lines[index + 1]) and "-" in lines[index + 1]
        if table or not line.strip() or _ITEM.match(line) or _HEADING.match(line):
            if paragraph:
                before = " ".join(paragraph)
                yield _block(start, paragraph)
            paragraph = []
        if table:
            end = next((i for i in range(index, len(lines)) if "|" not in lines[i]), len(lines))
            rows = [_cells(row) for i, row in enumerate(lines[index:end]) if i != 1]
            yield _Table(index + 1, rows, before)
            index = end
            continue
        if line.strip():
            start = start if paragraph else index + 1
            paragraph.append(line.strip())
        index += 1
    if paragraph:
        yield _block(start, paragraph)


def _block(start: int, lines: list[str]) -> _Block:
    item = _ITEM.match(lines[0])
    return _Block(start, re.sub(r"[*_#]{1,}", "", " ".join(lines)), bool(item and item["number"]))


def _cells(row: str) -> list[str]:
    return [cell.strip().strip("*") for cell in row.strip().strip("|").split("|")]


def _blanked(text: str) -> str:
    """The text with fenced code, block quotes, code, quotations, links and tags blanked; lines stay where they are."""
    kept, fenced = [], ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if fence and (not fenced or fence[1] == fenced):
            fenced = "" if fenced else fence[1]
            kept.append("")
        else:
            kept.append("" if fenced or line.lstrip().startswith(">") else line)
    return _NOT_OURS.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), "\n".join(kept))
