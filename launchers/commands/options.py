"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from launchers.output import Format

SweepFile = Annotated[Path, typer.Argument(help="The sweep's YAML file.", metavar="SWEEP.yaml")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to it, e.g. search.trials=40 set.train.max_steps=300", metavar="[KEY=VALUE]…"),
]
SweepName = Annotated[
    str | None, typer.Argument(help="A sweep's name; the latest one when none is given.", metavar="[SWEEP]")
]
Output = Annotated[Format, typer.Option("-o", "--output", help="How to print the result.")]
