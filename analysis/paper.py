"""The paper's figures 6, 7 and 9, with a sweep's own numbers beside them.

``paper.yaml`` has what the paper states, each number as its text writes it. A change of ours is a claim that names its
baseline, data and n; the paper's are quoted, because it states no n. What a sweep has not measured is None.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from analysis.champion import choose
from analysis.claims import Claim, Relative, facts
from analysis.claims.prose import rounded
from analysis.latency import read_grid
from analysis.measured import change, measured, served
from tracking.ledger import SweepState
from tracking.state import BASE, INCUMBENT

_FILE = Path(__file__).with_name("paper.yaml")
Span = tuple[float, float]


@dataclass(frozen=True)
class Stated:
    """A number that the paper states.

    Attributes:
        value: As it is written, so that its digits say how it was rounded.
        unit: ``%``, ``s`` or ``0–5``.
        words: The paper's own around it.
        where: Section or figure.
    """

    value: str
    unit: str
    words: str
    where: str

    @property
    def span(self) -> Span:
        """The numbers that are written like this; a percentage as a share."""
        low, high = rounded(self.value)
        return (low / 100, high / 100) if self.unit == "%" else (low, high)

    @property
    def number(self) -> float:
        """The number itself; a percentage as a share."""
        return float(self.value) / (100 if self.unit == "%" else 1)


@dataclass(frozen=True)
class Row:
    """One measure of a figure, ours and the paper's.

    Attributes:
        figure: Which figure it belongs to.
        measure: In the paper's words.
        arm, against: Ours, None where a sweep has no such arm; the change is that of ``arm`` against ``against``.
        paper_arm, paper_against: The paper's.
        ours: The absolute figure.
        change: Of ours; None where one of the two was not measured, and ``why`` says so.
        why: Why there is no ``ours`` or no ``change``.
        value, paper_change: The paper's.
    """

    figure: str
    measure: str
    arm: str | None
    against: str | None
    paper_arm: str
    paper_against: str
    ours: Claim | None
    change: Relative | None
    why: str
    value: Stated | None
    paper_change: Stated | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "figure": self.figure,
            "measure": self.measure,
            "arm": self.arm,
            "against": self.against,
            "ours": facts(self.ours) if self.ours else None,
            "change": facts(self.change) if self.change else None,
            "why": self.why or None,
            "paper": {
                "arm": self.paper_arm,
                "against": self.paper_against,
                "value": self.value.number if self.value else None,
                "change": self.paper_change.words if self.paper_change else None,
                "where": self.paper_change.where if self.paper_change else None,
            },
        }


def source() -> dict[str, str]:
    """Title, source and date of what is cited."""
    content = _content()
    return {key: str(content[key]) for key in ("title", "source", "transcribed")}


def stated() -> dict[str, Stated]:
    """Every number that the paper states and that is used here, by a name of ours."""
    return {name: Stated(**entry) for name, entry in _content()["stated"].items()}


def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return content


# The table -----------------------------------------------------------------------------------------


def paper_table(state: SweepState) -> list[Row]:
    """The rows of the paper's figures 6, 7 and 9, in their order, with what the sweep has for them."""
    numbers, grid = stated(), read_grid(state)
    arms: dict[str | None, str | None] = {BASE: BASE, INCUMBENT: INCUMBENT, "champion": choose(state).champion}
    rows = []
    for table in _content()["tables"]:
        arm, against = table["arm"], table["against"]
        for row in table["rows"]:
            roles = (arm["ours"], against["ours"])
            if "grid" in row:
                ours, theirs = (
                    served(grid, kind, tp, role) for (kind, tp), role in zip(row["grid"], roles, strict=True)
                )
            else:
                ours, theirs = (
                    measured(state, found, row["metric"], role) if (found := arms.get(role)) else None for role in roles
                )
            difference, why = _change(arm["ours"], ours, against["ours"], theirs)
            rows.append(
                Row(
                    f"Figure {table['figure']}",
                    row["measure"],
                    arm["ours"],
                    against["ours"],
                    arm["paper"],
                    against["paper"],
                    ours,
                    difference,
                    why,
                    numbers.get(row.get("value", "")),
                    numbers.get(row.get("change", "")),
                )
            )
    return rows


def _change(
    row: str | None, ours: Claim | None, against: str | None, theirs: Claim | None
) -> tuple[Relative | None, str]:
    if row is None:
        return None, "no sweep measures this"
    if ours is None or theirs is None:
        return None, f"{row if ours is None else against} was not measured"
    return change(ours, theirs)
