"""``podium doctor``."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from launchers import home
from launchers.commands.options import Output
from launchers.completion import sweep_names
from launchers.doctor.check import Check, Checked, Outcome, exit_code, run
from launchers.output import Format, messages, say, show
from sweeps.errors import InvalidInput, Problem
from tracking.folders import stage_folders
from tracking.ledger import FILE_NAME

_STYLE = {
    Outcome.OK: None,
    Outcome.WARNING: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.NOT_CHECKED: "dim",
    Outcome.MENDED: "green",
}


def doctor(
    sweep: Annotated[
        str | None,
        typer.Argument(help="A sweep to check instead of the machine.", metavar="[SWEEP]", autocompletion=sweep_names),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended; with a sweep's name only.")] = False,
    s3: Annotated[str | None, typer.Option("--s3", help="Check this place too: s3://bucket/prefix.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Check this machine and its services; with a sweep's name, that its ledger, files and MLflow agree.

    Changes nothing without --fix. Exit code 0 when nothing failed, 5 when a configured service cannot be reached,
    1 otherwise.

    [dim]podium doctor
    podium doctor --s3 s3://models/champions -o json
    podium doctor commerce-sft --fix[/]
    """
    if sweep is None:
        if fix:
            raise InvalidInput(Problem("--fix", "mends a sweep, and none was named", "`podium doctor SWEEP --fix`"))
        _show(_run(machine_checks(s3)), output, "this machine")
        return
    if s3 is not None:
        raise InvalidInput(Problem("--s3", f"{s3!r} is checked without a sweep", f"`podium doctor --s3 {s3}`"))
    from launchers.doctor.sweep import examine, mend_all

    every: list[Checked] = []
    folders = _folders(sweep)
    for stage, folder in folders.items():
        checked = examine(folder, _run)
        if fix:
            done, checked = mend_all(folder, checked, _run)
            for one in done:
                say(f"{one.check}: {one.finding.says}")
            checked = [*(one for one in done if one.finding.outcome is Outcome.MENDED), *checked]
        every += [replace(one, check=f"{stage}: {one.check}") for one in checked] if len(folders) > 1 else checked
    _show(every, output, sweep)


def _folders(sweep: str) -> dict[str, Path]:
    """The run folder of a sweep, whose ledger may be unreadable; of a staged one those of its stages that have begun.

    By the name of the stage.
    """
    from analysis.frame import run_folder

    folder = run_folder(sweep, home.home())
    stages = stage_folders(home.home(), sweep) if "/" not in sweep else {}
    begun = {stage: one for stage, one in stages.items() if (one / FILE_NAME).is_file()}
    return begun or {sweep: folder}


def machine_checks(s3: str | None) -> list[Check]:
    """The checks of ``podium doctor`` without a sweep, in the order in which they are shown."""
    from launchers.doctor import machine, mlflow_service, s3_service, services, storage

    return [
        *machine.checks(),
        *storage.checks(),
        services.ray_check(),
        mlflow_service.mlflow_check(),
        s3_service.s3_check(s3),
        services.aiperf_check(),
        services.port_check(),
    ]


def _run(checks: Iterable[Check]) -> list[Checked]:
    if not messages.is_terminal:
        return list(run(checks))
    with messages.status("") as status:
        return list(run(checks, _progress(status.update)))


def _progress(tell: Callable[[str], None]) -> Callable[[str], None]:
    return lambda name: tell(f"looking at: {name} …")


def _show(checked: list[Checked], output: Format, title: str) -> None:
    """The findings in the format asked for; ends the command with their exit code."""
    entries = [one.to_dict() for one in checked]
    rows = [{**entry, "_style": _STYLE[one.finding.outcome]} for entry, one in zip(entries, checked, strict=True)]
    counts = {outcome: sum(one.finding.outcome is outcome for one in checked) for outcome in Outcome}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    columns = {key: key.replace("_", " ") for key in ("check", "outcome", "says", "way_out")}
    show({"checks": entries, **_numbers(counts)}, rows, columns, output, title, summary)
    raise typer.Exit(exit_code(checked))


def _numbers(counts: dict[Outcome, int]) -> dict[str, int]:
    return {f"num_{str(outcome).replace(' ', '_')}": count for outcome, count in counts.items()}
