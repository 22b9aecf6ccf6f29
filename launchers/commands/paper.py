"""``podium paper-table``."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers import home
from launchers.commands.options import SweepName
from launchers.output import show_csv, show_json, show_table

if TYPE_CHECKING:
    from analysis.paper import Row
    from analysis.paper_checks import Check

_COLUMNS = {
    "measure": "measure",
    "ours": "ours",
    "change": "change",
    "value": "paper",
    "paper_change": "paper's change",
}

_NOTE = "What stands in quotation marks is the paper's own; it states no n. – is not measured, or not in its text."


class PaperFormat(StrEnum):
    """What ``-o`` takes here."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MD = "md"


def paper_table(
    sweep: SweepName = None,
    output: Annotated[PaperFormat, typer.Option("-o", "--output", help="How to print the result.")] = PaperFormat.TABLE,
) -> None:
    """Print a sweep in the layout of the paper's figures 6, 7 and 9, beside the paper's own numbers.

    Below stands what the paper's numbers say of each other. NFT, without fine-tuning, is the untouched base, SFT the
    champion, and the paper's base model the incumbent. Figure 7 is the champion on the grid of podium latency --serve.

    [dim]podium paper-table
    podium paper-table commerce-sft -o md > table.md[/]
    """
    from analysis.frame import open_sweep
    from analysis.paper import paper_table, source
    from analysis.paper_checks import checks

    state = open_sweep(sweep, home.home())
    rows, found, cited = paper_table(state), checks(), source()
    if output is PaperFormat.JSON:
        table = [row.to_dict() for row in rows]
        show_json({"sweep": state.name, "paper": cited, "rows": table, "checks": [vars(check) for check in found]})
    elif output is PaperFormat.CSV:
        flat = [
            {"figure": row.figure, "arm": row.arm, "against": row.against, **_cells(row, quote=False)} for row in rows
        ]
        show_csv(flat, ["figure", "arm", "against", *_COLUMNS])
    elif output is PaperFormat.MD:
        print(_markdown(state.name, cited, rows, found))
    else:
        _print(state.name, cited, rows, found)


def _cells(row: "Row", quote: bool = True) -> dict[str, Any]:
    """A row in words; the paper's changes in quotation marks, because they are its own."""
    words = row.paper_change.words if row.paper_change else None
    return {
        "measure": row.measure,
        "ours": str(row.ours) if row.ours else None,
        "change": str(row.change) if row.change else row.why if row.ours else None,
        "value": row.value.value if row.value else None,
        "paper_change": f"“{words}”" if words and quote else words,
    }


def _groups(rows: Iterable["Row"]) -> Iterable[tuple[str, list["Row"]]]:
    """The rows of each figure, with its heading."""
    for figure, group in groupby(rows, key=lambda row: row.figure):
        found = list(group)
        first = found[0]
        ours = f"ours: {first.arm} against {first.against}" if first.arm else "ours: not measured by a sweep"
        yield f"{figure}: {first.paper_arm} against {first.paper_against}; {ours}", found


def _print(name: str, cited: dict[str, str], rows: Sequence["Row"], found: Sequence["Check"]) -> None:
    print(f"{name} beside {cited['title']} ({cited['source']})\n")
    for heading, group in _groups(rows):
        show_table(heading, [_cells(row) for row in group], _COLUMNS)
        print()
    print(f"{_NOTE}\n\nThe paper's numbers held against each other:")
    for check in found:
        print(f"\n{'holds         ' if check.holds else 'does not hold '} {check.statement}")
        print(f"               {check.arithmetic}\n               {check.finding}")


def _markdown(name: str, cited: dict[str, str], rows: Sequence["Row"], found: Sequence["Check"]) -> str:
    lines = [f"# {name} beside the paper", "", f"{cited['title']} ({cited['source']}).", ""]
    for heading, group in _groups(rows):
        lines += [f"## {heading}", "", f"| {' | '.join(_COLUMNS.values())} |", "|-|-|-|-|-|"]
        lines += [f"| {' | '.join(value or '–' for value in _cells(row).values())} |" for row in group]
        lines.append("")
    lines += [
        "## The paper's numbers held against each other",
        "",
        "| it says | its numbers give | holds | so |",
        "|-|-|-|-|",
    ]
    lines += [
        f"| `{check.statement}` | `{check.arithmetic}` | {'yes' if check.holds else 'no'} | `{check.finding}` |"
        for check in found
    ]
    return "\n".join(lines)
