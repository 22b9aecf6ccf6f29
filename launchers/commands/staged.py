"""What commands show of a sweep in stages: of one that runs, and what they found in each stage of a YAML."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from launchers import home
from launchers.output import Format, say, show
from sweeps.staged_plan import first_columns
from tracking.ledger import SweepState

if TYPE_CHECKING:
    from analysis.stages import StageState


def stages_meant(sweep: str | None) -> "tuple[StageState, ...]":
    """The stages of the sweep that is named, or of the latest; none of a plain one, or where one stage is named."""
    from analysis.frame import list_sweeps
    from analysis.stages import stages_named

    if sweep is not None and "/" in sweep:
        return ()
    names = list_sweeps(home.home())
    name = sweep or next(iter(names), None)
    return stages_named(name, home.home()) if name in names else ()


def whole_summary(state: SweepState) -> dict[str, Any]:
    """As :func:`summary_of`, of a sweep in stages: the state's own, and beside it a summary of each stage."""
    from analysis.stages import stages_of
    from launchers.commands.look import summary_of

    stages = [stage.to_dict() for stage in stages_of(state)]
    return {**summary_of(state), "stages": stages, "usd": sum(stage["usd"] for stage in stages)}


def show_stages(stages: "tuple[StageState, ...]", *, watch: bool, output: Format) -> None:
    """How far each stage is, and the trials of all of them."""
    from analysis.stages import stages_of
    from launchers.commands.look import trial_rows
    from launchers.walk import is_walking
    from sweeps.stages import whole_name

    begun = next(stage.state for stage in reversed(stages) if stage.state is not None)
    whole = whole_name(begun.name)
    if watch and is_walking(stages[-1].folder):
        from launchers.walk import watch_stages

        watch_stages(whole)
        stages = stages_of(begun)
        begun = next(stage.state for stage in reversed(stages) if stage.state is not None)
    rows = [stage.to_dict() for stage in stages]
    for row in rows:
        row["done"] = f"{row['num_trials']}/{row['trials']}" if "trials" in row else "–"
        row["best"] = row.get("label")
    trials = [{"stage": stage.name, **row} for stage in stages if stage.state for row in trial_rows(stage.state)]
    usd = sum(row["usd"] for row in rows)
    status = _whole_status(stages)
    columns = {"stage": "stage", "status": "status", "method": "method", "done": "trials", "best": "champion"}
    columns |= {"usd": "$", "reason": "why"}
    content = {"name": whole, "status": status, "usd": usd, "stages": rows, "trials": trials}
    if output is Format.TABLE:
        show(content, rows, columns, output, f"{whole}: {status}", f"${usd:.4f}")
    keys = ("stage", "number", "id", "state", "step", "pool", "val/loss", "quality/score", "why")
    show(content, trials, {key: key for key in keys}, output, "trials")
    for stage in stages:
        for note in stage.state.notes if stage.state else ():
            say(f"note of {stage.name}: {note}")


def _whole_status(stages: "tuple[StageState, ...]") -> str:
    """Of the whole: that of the stage that it stands at."""
    rows = [stage.to_dict() for stage in stages]
    return next((str(row["status"]) for row in rows if row["status"] != "DONE"), "DONE")


def show_leaderboards(states: list[SweepState], output: Format) -> None:
    """The leaderboard of each stage, the last one first; as CSV one table with all of their columns."""
    from analysis.leaderboard import leaderboard as rank
    from launchers.commands.look import show_leaderboard
    from sweeps.stages import whole_name

    name, boards = whole_name(states[-1].name), [rank(state).to_dict() for state in states]
    stages = [str(state.facts["stage"]["name"]) for state in states]
    if output is Format.TABLE:
        for state in reversed(states):
            show_leaderboard(state, output)
        return
    rows = [{"in": stage, **row} for stage, board in zip(stages, boards, strict=True) for row in board["rows"]]
    for row in rows:
        row["failed"] = "; ".join(row["failed"]) if output is Format.CSV else row["failed"]
    content = {"name": name, "stages": dict(zip(stages, boards, strict=True))}
    show(content, rows, {key: key for row in rows for key in row}, output, name)


def by_stage(found: Mapping[str | None, Any]) -> Any:
    """What ``-o json`` prints of something that was found of each stage; of a single one, that alone."""
    return next(iter(found.values())) if len(found) == 1 else {"stages": dict(found)}


def rows_by_stage(
    found: Mapping[str | None, Sequence[dict[str, Any]]], columns: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows and columns of one CSV of all stages, the stage first; of a single one, its rows as they are.

    Args:
        columns: Of the rows; by default every one that some of them have, in the order in which they first come.
    """
    if len(found) == 1:
        rows = list(next(iter(found.values())))
        return rows, list(columns) or first_columns(rows)
    rows = [{"stage": name, **row} for name, of_stage in found.items() for row in of_stage]
    return rows, ["stage", *columns] if columns else first_columns(rows)


def heading(stage: str | None) -> str:
    """What a line about a stage begins with; nothing of a sweep without stages."""
    return "" if stage is None else f"{stage}: "


def improvements(state: SweepState) -> Iterator[str]:
    """What each stage was worth on the challenge set, from the base to the champion."""
    from analysis.stages import steps

    found = steps(state)
    if found:
        yield f"on the challenge set ({found[0].n} rows), each against the one before it:"
        yield from (f"  {step.words}" for step in found)
