"""``podium plan``."""

import datetime
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers.commands.options import Output, Overrides, StageName, SweepFile, Yes
from launchers.commands.staged import rows_by_stage
from launchers.output import Format, say, show_csv, show_json, show_table
from sweeps.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from launchers.build import Built
    from launchers.staging import Stages
    from sweeps.plan import Plan
    from sweeps.staged_plan import StagedPlan


def plan(
    sweep: SweepFile,
    overrides: Overrides = None,
    trial: Annotated[
        int | None, typer.Option("--trial", help="Print the exact NeMo YAML of this trial.", min=0)
    ] = None,
    stage: StageName = None,
    yes: Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Show a sweep's trials, GPU-hours and dollars. Starts nothing.

    Of a sweep in stages each is shown, and their sum; `--trial` is of the one that `--stage` names.

    [dim]podium plan sweeps/quickstart.yaml
    podium plan sweeps/commerce_sft.yaml search.trials=40 -o json
    podium plan sweeps/commerce_sft.yaml --trial 3
    podium plan sweeps/quickstart_sft_dpo.yaml stages.dpo.search.trials=12
    podium plan sweeps/quickstart_sft_dpo.yaml --stage sft --trial 3[/]
    """
    from launchers.build import build
    from launchers.stage_choice import named, not_named, refuse_stage
    from launchers.staging import build_stages
    from sweeps.plan import plan as make_plan

    stages = build_stages(sweep, overrides or [], yes=yes)
    if stages is None:
        refuse_stage(str(sweep), stage)
        built = build(sweep, overrides or [], yes=yes)
        if trial is None:
            _show(make_plan(built.sweep, today=datetime.date.today()), built.sweep.spec.name, output)
    elif stage is not None:
        built = named(stages, stage)
        if trial is None:
            made = _planned(stages)
            _show(made.stages[stage], f"{stages.name}, stage {stage}", output, made.start_notes.get(stage))
    elif trial is not None:
        raise not_named("--trial", stages.name, [one.name for one in stages.staged.stages])
    else:
        _show_stages(stages, output)
        return
    if trial is not None:
        _print_trial(built, trial)


def _show(made: "Plan", name: str, output: Format, note: str | None = None) -> None:
    """One plan, and what there is to know of its start."""
    if output is Format.JSON:
        show_json(made.to_dict())
    elif output is Format.CSV:
        rows = _rows(made)
        show_csv(rows, list(rows[0]))
    else:
        _draw(made, name)
        if note is not None:
            say(note)


def _planned(stages: "Stages") -> "StagedPlan":
    from sweeps.staged_plan import staged_plan

    starts = {one.name: (one.start.stage, one.start.top) for one in stages.staged.stages if one.start}
    sweeps = {one.name: built.sweep for one, built in zip(stages.staged.stages, stages.every, strict=True)}
    return staged_plan(stages.name, sweeps, starts, stages.staged.budget, today=datetime.date.today())


def _show_stages(stages: "Stages", output: Format) -> None:
    """The plan of every stage and their sum."""
    made = _planned(stages)
    if output is Format.JSON:
        show_json(made.to_dict())
    elif output is Format.CSV:
        show_csv(*rows_by_stage({name: _rows(one) for name, one in made.stages.items()}))
    else:
        for name, one in made.stages.items():
            _draw(one, f"{stages.name}, stage {name}")
        for line in made.lines():
            say(line)


def _draw(made: "Plan", name: str) -> None:
    """The table of the trials, and the totals in words."""
    rows = _rows(made)
    columns = {key: key.split(".")[-1] if "." in key else key for key in rows[0]}
    if made.reference is not None:
        rows.append({"id": "reference", **asdict(made.reference)})
    show_table(f"{name}: {made.num_trials} trials", rows, columns)
    for line in made.lines():
        say(line)


def _rows(made: "Plan") -> list[dict[str, Any]]:
    return [_row(entry) for entry in made.to_dict()["trials"]]


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    fixed = {key: entry.get(key) for key in ("number", "id", "pool", "steps", "hours", "usd")}
    return {**fixed, **entry.get("values", {})}


def _print_trial(built: "Built", number: int) -> None:
    import sys
    from pathlib import Path

    import yaml

    from launchers import home
    from launchers.build import ours_alone
    from recipes.bases import locate
    from recipes.engines.nemo.config import nemo_config
    from recipes.engines.protocol import Job
    from recipes.schema import Recipe
    from sweeps.design_points import planned_points

    source = built.place.source if built.place else None
    if ours := ours_alone(built.sweep) or (f"on from the stage {source}" if source else ""):
        rule = f"it prints NeMo's YAML, and nemo trains fresh adapters by method sft, and not {ours}"
        raise InvalidInput(Problem("--trial", rule, "-o json has the values of every trial"))
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
