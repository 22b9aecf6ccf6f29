"""``podium submit``."""

import typer

from launchers.commands.options import Output, Overrides, SweepFile
from launchers.output import Format, show_json


def submit(sweep: SweepFile, overrides: Overrides = None, output: Output = Format.TABLE) -> None:
    """Run a sweep to a champion that is exported and verified.

    Ctrl-C ends it in order: trials stop at their last checkpoint and keep their adapters.

    [dim]podium submit sweeps/quickstart.yaml
    podium submit sweeps/commerce_sft.yaml search.trials=40 'pools=\\[h100]'[/]
    """
    from launchers.commands import look
    from launchers.submit import submit as run

    state, code = run(sweep, overrides or [])
    if output is Format.TABLE:
        look.show_outcome(state)
    else:
        show_json(look.summary_of(state)) if output is Format.JSON else look.leaderboard(state.name, output)
    raise typer.Exit(code)
