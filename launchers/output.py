"""How commands speak: results on stdout in the format asked for, everything else on stderr."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sweeps.errors import InvalidInput, PodiumError

messages = Console(stderr=True, highlight=False)


class Format(StrEnum):
    """What ``-o`` takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def say(text: str) -> None:
    """A line for the person at the terminal."""
    messages.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Tells on a terminal what is being done."""
    if not messages.is_terminal:
        yield lambda _: None
        return
    with messages.status("") as status:
        yield lambda text: status.update(f"{text} …")


def show_error(error: PodiumError) -> None:
    """An error in words. Problems of a file come one a line, each with its place."""
    if isinstance(error, InvalidInput):
        count = len(error.problems)
        source = f" in {escape(error.source)}" if error.source else ""
        if count > 1 or source:
            messages.print(f"[red bold]{count} problem{'s' if count > 1 else ''}{source}:[/]")
        for problem in error.problems:
            messages.print(f"  {problem}" if count > 1 or source else f"error: {problem}", markup=False, soft_wrap=True)
    else:
        messages.print(f"error: {error}", markup=False, soft_wrap=True, style="red")


def show_json(value: Any) -> None:
    """JSON alone on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def show_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """CSV with a header on stdout; missing values are empty."""
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if row.get(key) is None else row[key] for key in columns} for row in rows)


def show_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], caption: str = "") -> None:
    """A table on stdout. ``columns`` maps keys to headings; numbers are right-aligned and kept short."""
    table = Table(
        title=title, title_justify="left", caption=caption or None, caption_justify="left", header_style="bold"
    )
    for key, heading in columns.items():
        numeric = any(isinstance(row.get(key), int | float | Decimal) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        table.add_row(*(short(row.get(key)) for key in columns), style=row.get("_style"))
    # A user's own words are in it: brackets are no markup and :names: no pictures.
    out = Console(highlight=False, markup=False, emoji=False)
    # Into a pipe or a narrow terminal, a table that is cut is worth nothing: let lines be long.
    if not out.is_terminal:
        out = Console(highlight=False, markup=False, emoji=False, width=max(200, out.width))
    out.print(table)


def show(
    value: Any,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    form: Format,
    title: str,
    caption: str = "",
) -> None:
    """The same result in the format asked for: ``value`` as JSON, ``rows`` otherwise."""
    if form is Format.JSON:
        show_json(value)
    elif form is Format.CSV:
        show_csv(rows, list(columns))
    else:
        show_table(title, rows, columns, caption)


def money(usd: float) -> Decimal:
    """US$ for a reader: cents from one dollar on, and as many decimals below as a small machine's seconds need."""
    return Decimal(f"{usd:.2f}" if abs(usd) >= 1 else f"{usd:.6f}")


def short(value: Any) -> str:
    """A value for a table's cell."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, Decimal):
        return f"{value:,}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == 0:
            return "0"
        return f"{value:.2e}" if abs(value) < 1e-3 or abs(value) >= 1e6 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(short(entry) for entry in value)
    return str(value)
