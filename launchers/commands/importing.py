"""``podium data import``: public data sets of product search, as a catalogue, labels and rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launchers.commands.chat_logs import chat
from launchers.output import say

if TYPE_CHECKING:
    from recipes.shopping.importing import Imported

app = typer.Typer(
    help="Turn logs, and public data sets of product search, into what a sweep reads.", no_args_is_help=True
)
app.command()(chat)

To = Annotated[Path, typer.Option(help="The folder to write to.")]


@app.callback()
def _group() -> None:
    """Turn logs, and public data sets of product search, into what a sweep reads. Nothing is downloaded."""


@app.command()
def wands(
    source: Annotated[
        Path, typer.Argument(help="The folder with query.csv, product.csv, label.csv.", metavar="FOLDER")
    ],
    to: To = Path("wands"),
) -> None:
    """Import WANDS, Wayfair's annotated product search: 42,994 products, 480 queries.

    [dim]git clone https://github.com/wayfair/WANDS
    podium data import wands WANDS/dataset --to wands[/]
    """
    from recipes.shopping.wands import GRADES, import_wands

    _tell(import_wands(source, to), ("title", "category", "description"), GRADES["Exact"])


@app.command()
def esci(
    source: Annotated[Path, typer.Argument(help="The folder with the two Parquet files.", metavar="FOLDER")],
    to: To = Path("esci"),
    locale: Annotated[str, typer.Option(help="us, es or jp.")] = "us",
    full: Annotated[bool, typer.Option(help="All queries, not only those of the reduced version.")] = False,
) -> None:
    """Import ESCI, Amazon's shopping queries, of one locale.

    [dim]git clone https://github.com/amazon-science/esci-data
    podium data import esci esci-data/shopping_queries_dataset --to esci --locale es[/]
    """
    from recipes.shopping.esci import GRADES, import_esci

    _tell(import_esci(source, to, locale, small=not full), ("title", "brand", "description"), GRADES["E"])


def _tell(found: "Imported", text: Sequence[str], best: int) -> None:
    """What was written, and the lines of a sweep that use it; ``text`` are the columns that are searched."""
    import yaml

    from recipes.shopping.importing import LABELS, PRODUCTS, RECORD, ROWS

    for what, digest in found.sources.items():
        say(f"read {what}: SHA-256 {digest}")
    for what, count in found.left_out.items():
        say(f"left out: {count:,} {what}")
    for name, count, what in (
        (PRODUCTS, found.products, "products"),
        (LABELS, found.labels, "labels"),
        (ROWS, found.queries, "rows, one a query"),
        (RECORD, 0, "checksums"),
    ):
        say(f"wrote {found.folder / name}: {f'{count:,} ' if count else ''}{what}")
    say("a sweep uses them with:")
    table = {"catalogue": str(found.folder / PRODUCTS), "columns": {"text": list(text)}}
    rows = {"data.builtin": None, "data.path": str(found.folder / ROWS), "data.group": None, "data.rows": None}
    labels = {"labels": str(found.folder / LABELS), "relevant": best}
    block = {"set": rows, "evaluate": {"pipeline": {**table, **labels}}}
    print(yaml.safe_dump(block, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000), end="")
