"""What a check finds: how many rows, where the first of them are, the rule, and the way out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
NUM_LINES = 5
"""Lines that a finding names."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found in some rows.

    Attributes:
        level: An error keeps the rows from being used, a warning does not; a note only tells.
        name: What it is about, in a word.
        count: Of rows, or of what the rule counts.
        lines: The first of them.
        rule: What was found, and why it matters.
        hint: The way out.
    """

    level: Level
    name: str
    count: int
    lines: tuple[int, ...]
    rule: str
    hint: str = ""


@dataclass
class Tally:
    """Rows of one kind: how many, the first lines, and an example of what they hold."""

    count: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""

    def add(self, line: int, example: str = "") -> None:
        """One more row. Rows come in the order of the file."""
        self.count += 1
        if len(self.lines) < NUM_LINES:
            self.lines.append(line)
        self.example = self.example or example

    def merge(self, later: "Tally") -> None:
        """Those of a later part of the file."""
        self.count += later.count
        self.lines = [*self.lines, *later.lines][:NUM_LINES]
        self.example = self.example or later.example


class Tallies(dict[str, Tally]):
    """Tallies by a key."""

    def add(self, key: str, line: int, example: str = "") -> None:
        """One more row of a kind."""
        self.setdefault(key, Tally()).add(line, example)

    def merge(self, later: Mapping[str, Tally]) -> None:
        """Those of a later part of the file."""
        for key, tally in later.items():
            self.setdefault(key, Tally()).merge(tally)

    def finding(self, key: str, level: Level, name: str, rule: str, hint: str = "") -> list[Finding]:
        """The finding of a kind, if there are such rows; ``{example}`` in the rule stands for one."""
        if (tally := self.get(key)) is None:
            return []
        return [Finding(level, name, tally.count, tuple(tally.lines), rule.replace("{example}", tally.example), hint)]


def ordered(findings: list[Finding]) -> list[Finding]:
    """Errors first, the most frequent first."""
    return sorted(findings, key=lambda one: (LEVELS.index(one.level), -one.count, one.name))


def as_row(finding: Finding) -> dict[str, Any]:
    """As a table's row."""
    return {
        "level": finding.level,
        "name": finding.name,
        "count": finding.count,
        "lines": " ".join(map(str, finding.lines)),
        "rule": finding.rule,
        "hint": finding.hint,
    }
