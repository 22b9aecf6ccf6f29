"""``podium data``: what there is to know of rows, and what can be made of them; each command in a file of its own."""

import typer

from launchers.commands import importing
from launchers.commands.data_check import check
from launchers.commands.data_split import split
from launchers.commands.data_stats import stats as stats
from launchers.commands.pairs import pairs
from launchers.commands.synthesize import synthesize

app = typer.Typer(help="Look at data sets, check and split them, and import some.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Look at data sets, check and split them, and import some."""


app.command()(check)
app.command()(split)
app.command()(stats)
app.command()(pairs)
app.command()(synthesize)
app.add_typer(importing.app, name="import")
