"""``podium plan``."""

import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers.commands.options import Output, Overrides, SweepFile, Yes
from launchers.output import Format, say, show_csv, show_json, show_table
from sweeps.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from launchers.staging import Stages


def plan(
    sweep: SweepFile,
    overrides: Overrides = None,
    trial: Annotated[
        int | None, typer.Option("--trial", help="Print the exact NeMo YAML of this trial.", min=0)
    ] = None,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Show a sweep's trials, GPU-hours and dollars. Starts nothing.

    [dim]podium plan sweeps/quickstart.yaml
    podium plan sweeps/commerce_sft.yaml search.trials=40 -o json
    podium plan sweeps/commerce_sft.yaml --trial 3
    podium plan sweeps/quickstart_sft_dpo.yaml stages.dpo.search.trials=12[/]
    """
    from launchers.build import build
    from launchers.staging import build_stages
    from sweeps.plan import plan as make_plan

    if stages := build_stages(sweep, overrides or [], yes=yes):
        if trial is not None:
            rule = f"it prints NeMo's YAML of a fresh trial, and {stages.name} has stages, but got {trial}"
            raise InvalidInput(Problem("--trial", rule, "leave it out"))
        _show_stages(stages, output)
        return
    built = build(sweep, overrides or [], yes=yes)
    if trial is not None:
        _print_trial(built, trial)
        return
    made = make_plan(built.sweep, today=datetime.date.today())
    content = made.to_dict()
    if output is Format.JSON:
        show_json(content)
        return
    rows = [_row(entry) for entry in content["trials"]]
    columns = {key: key.split(".")[-1] if "." in key else key for key in (rows[0] if rows else {"number": ""})}
    if output is Format.CSV:
        show_csv(rows, list(columns))
        return
    show_table(f"{built.sweep.spec.name}: {content['num_trials']} trials", rows, columns)
    for line in made.lines():
        say(line)


def _show_stages(stages: "Stages", output: Format) -> None:
    """The plan of every stage and their sum."""
    from sweeps.staged_plan import first_columns, staged_plan

    starts = {one.name: (one.start.stage, one.start.top) for one in stages.staged.stages if one.start}
    sweeps = {one.name: built.sweep for one, built in zip(stages.staged.stages, stages.every, strict=True)}
    made = staged_plan(stages.name, sweeps, starts, stages.staged.budget, today=datetime.date.today())
    content = made.to_dict()
    if output is Format.JSON:
        show_json(content)
        return
    rows = {name: [_row(entry) for entry in one["trials"]] for name, one in content["stages"].items()}
    if output is Format.CSV:
        every = [{"stage": name, **row} for name, found in rows.items() for row in found]
        show_csv(every, first_columns(every))
        return
    for name, one in made.stages.items():
        columns = {key: key.split(".")[-1] if "." in key else key for key in rows[name][0]}
        show_table(f"{stages.name}, stage {name}: {one.num_trials} trials", rows[name], columns)
        for line in one.lines():
            say(line)
    for line in made.lines():
        say(line)


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    fixed = {key: entry.get(key) for key in ("number", "id", "pool", "steps", "hours", "usd")}
    return {**fixed, **entry.get("values", {})}


def _print_trial(built: Any, number: int) -> None:
    import sys
    from pathlib import Path

    import yaml

    from launchers import home
    from recipes.bases import locate
    from recipes.engines.nemo.config import nemo_config
    from recipes.engines.protocol import Job
    from recipes.schema import Recipe
    from sweeps.design_points import planned_points

    design = planned_points(built.sweep)
    if number >= len(design.trials):
        rule = f"trial {number} is not planned: trials 0 to {len(design.trials) - 1} are"
        hint = f"the sweep has {design.num_trials}"
        if number < design.num_trials:
            hint += "; the others are chosen from results while it runs"
        raise InvalidInput(Problem("--trial", rule, hint))
    found = design.trials[number]
    base = locate(Recipe.model_validate(found.settings).base, built.base_dir)
    data = home.cache_folder() / "data" / built.rows.identity[:16]
    rows = built.sweep.settings["train"]["validation_rows"]
    job = Job(
        settings=found.settings,
        base=str(base or found.settings["base"]["path"]),
        train=data / "train.jsonl",
        validation=data / (f"validation-{rows}.jsonl" if rows else "validation.jsonl"),
        folder=Path(),
        device=built.pools[0].device,
        threads=1,
    )
    scratch = home.run_folder(built.sweep.spec.name) / "trials" / found.id / "scratch"
    sys.stdout.write(f"# trial {number}, id {found.id}\n")
    yaml.safe_dump(nemo_config(job, str(scratch)), sys.stdout, sort_keys=False)
