"""``podium gc``."""

from typing import Annotated

import typer

from launchers import home
from launchers.commands.options import Output
from launchers.completion import sweep_names
from launchers.output import Format, say, show


def gc(
    sweep: Annotated[
        str | None,
        typer.Argument(help="A sweep; all, when none is named.", metavar="[SWEEP]", autocompletion=sweep_names),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Free it; without this, only show it.")] = False,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Also give up adapters of trials far from the top.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Show what sweeps take on the disk and what nothing needs any more; free that with --yes.

    Of all sweeps when none is named. A running sweep is left alone. What `resume`, `retry`, `leaderboard`, `export`,
    `verify` or `try` need stays. --adapters keeps those of the champion, of exported trials, of the top of the
    ranking and of the recipe's defaults.

    [dim]podium gc
    podium gc commerce-sft --adapters --yes[/]
    """
    from analysis.frame import open_sweep
    from launchers.disk import free, human, survey

    if sweep:
        open_sweep(sweep, home.home())  # says which sweeps there are
    usages = [usage for usage in survey(home.home(), adapters) if not sweep or _is_of(usage.sweep, sweep)]
    freed, problems = free(home.home(), usages) if yes else (0, [])
    entries = [
        {
            "sweep": usage.sweep,
            "kind": usage.kind,
            "bytes": usage.size,
            "free_bytes": usage.free_size,
            "free": [str(path) for path in usage.free],
            "note": usage.note or None,
        }
        for usage in usages
    ]
    total, possible = sum(usage.size for usage in usages), sum(usage.free_size for usage in usages)
    content = {
        "home": str(home.home()),
        "bytes": total,
        "free_bytes": possible,
        "freed_bytes": freed if yes else None,
        "entries": entries,
        "problems": problems,
    }
    rows = entries
    if output is Format.TABLE:
        rows = [
            {**entry, "sweep": usage.sweep or "(all)", "size": human(usage.size), "free": _some(usage.free_size)}
            for entry, usage in zip(entries, usages, strict=True)
        ]
    columns = {"sweep": "sweep", "kind": "kind", "size": "size", "free": "can be freed", "note": "note"}
    if output is Format.CSV:
        columns = {key: key for key in ("sweep", "kind", "bytes", "free_bytes", "note")}
    done = f"freed {human(freed)}" if yes else f"{human(possible)} can be freed with --yes"
    show(content, rows, columns, output, str(home.home()), f"{human(total)} in all; {done}")
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)


def _is_of(owner: str | None, sweep: str) -> bool:
    """Whether a part of the home is of a sweep, or of one of its stages."""
    return owner is not None and sweep in (owner, owner.partition("/")[0])


def _some(size: int) -> str | None:
    from launchers.disk import human

    return human(size) if size else None
