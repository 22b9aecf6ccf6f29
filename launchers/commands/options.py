"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from launchers.completion import settings, sweep_names, trial_names
from launchers.output import Format
from sweeps.errors import InvalidInput, Problem

SweepFile = Annotated[Path, typer.Argument(help="The sweep's YAML file.", metavar="SWEEP.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Changes to it, e.g. search.trials=40 set.train.max_steps=300",
        metavar="[KEY=VALUE]…",
        autocompletion=settings,
    ),
]
StageName = Annotated[str | None, typer.Option(help="Of a sweep in stages, this one alone.", metavar="STAGE")]
SweepName = Annotated[
    str | None,
    typer.Argument(
        help="A sweep's name; the latest one when none is given.", metavar="[SWEEP]", autocompletion=sweep_names
    ),
]
TrialName = Annotated[
    str | None,
    typer.Option("--trial", "-t", help="A trial's id (or its beginning) or number.", autocompletion=trial_names),
]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print the result.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Yes, more than 10,000 trials are meant.")]


def require_url(where: str, text: str) -> None:
    """Refuse what is no address of an endpoint.

    Raises:
        InvalidInput: Naming the argument.
    """
    if not text.startswith(("http://", "https://")):
        raise InvalidInput(Problem(where, f"must be a URL, but got {text!r}", "http://127.0.0.1:8000/v1"))
