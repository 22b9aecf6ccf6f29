"""``podium data check``."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers.commands.options import Output, StageName
from launchers.commands.staged import by_stage, heading, rows_by_stage
from launchers.data_sources import Given, given, held_out_sides
from launchers.output import Format, progress, say, show_csv, show_json, show_table

if TYPE_CHECKING:
    from recipes.data.checking import Checked, Settings
    from recipes.data.findings import Finding
    from recipes.data.held_out import HeldOut
    from recipes.data.lengths import Lengths

BAR = 50  # characters of the longest bar
COLUMNS = ("level", "name", "count", "lines", "rule", "hint")

Data = Annotated[
    str,
    typer.Argument(help="Rows: a JSONL or Parquet file, or s3://bucket/key; or a sweep's YAML.", metavar="DATA"),
]
Similarity = Annotated[
    float | None, typer.Option(help="From which similarity on two prompts are nearly the same.", min=0.3, max=1.0)
]


def check(
    data: Data,
    base: Annotated[
        str | None,
        typer.Option(help="Hold rows against this base's chat template: a folder, or an id on the Hugging Face hub."),
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="JSON Schema that every answer must keep to.", metavar="FILE")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of a row.", min=1)] = None,
    similarity: Similarity = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Prompts that must not be here: of a file, or the dev and challenge rows of a sweep or split folder.",
            metavar="DATA",
        ),
    ] = None,
    stage: StageName = None,
    output: Output = Format.TABLE,
) -> None:
    """Check rows before anything is trained on them. Changes nothing.

    Form, length, empty and repeated answers, near-duplicates, boilerplate, the base's chat template and what the loss
    looks at; of preference pairs also what gives the preferred answer away. A file of any length is read in bounded
    memory. Of a sweep in stages the rows of each are checked. Exit code 2 where an error stands, 0 where only warnings
    do.

    [dim]podium data check rows.jsonl
    podium data check rows.parquet --base ./my-base --schema answer.schema.json
    podium data check sweeps/quickstart.yaml
    podium data check sweeps/quickstart_sft_dpo.yaml --stage dpo
    podium data check pairs.jsonl --held-out split/dev.jsonl --held-out split/challenge.jsonl
    podium data check s3://my-bucket/rows.jsonl -o json[/]
    """
    from launchers.stage_choice import stages_in
    from recipes.data.checking import check as run

    every: dict[str | None, Checked] = {}
    prompts: HeldOut | None = None
    for name in stages_in(data, stage):
        with progress() as tell, given(data, name) as found:
            tell("reading rows")
            settings = _settings(found, base, schema, max_tokens, similarity)
            prompts = _held_out(held_out or []) if prompts is None else prompts
            every[name] = run(found.source, replace(settings, held_out=prompts), tell)
    if output is Format.JSON:
        show_json(by_stage({name: as_json(seen) for name, seen in every.items()}))
    elif output is Format.CSV:
        show_csv(*rows_by_stage({name: _rows(seen) for name, seen in every.items()}, COLUMNS))
    for name, seen in every.items():
        if output is Format.TABLE:
            _draw(seen, heading(name))
        _tell(seen, heading(name))
    if any(_errors(seen) for seen in every.values()):
        raise typer.Exit(2)


def _errors(seen: "Checked") -> list["Finding"]:
    return [one for one in seen.findings if one.level == "error"]


def _tell(seen: "Checked", whose: str) -> None:
    """The notes and the verdict."""
    if seen.base is None:
        say("note: tokens are estimated by characters; --base counts them, and looks at the template and the loss mask")
    elif seen.num_masked < seen.num_usable:
        say(f"note: the loss mask was looked at in {seen.num_masked:,} rows, drawn by their prompts")
    if errors := _errors(seen):
        say(f"{whose}{len(errors)} error{'s' if len(errors) > 1 else ''}: not usable as it is")
    else:
        say(f"{whose}no error stands" + (": look at the warnings" if seen.findings else ""))


def _settings(
    found: Given, base: str | None, schema: Path | None, max_tokens: int | None, similarity: float | None
) -> "Settings":
    from recipes.data.checking import Settings
    from recipes.data.splitting import THRESHOLD
    from recipes.schema import Base

    recipe = found.recipe
    own = Base(path=base) if base is not None else (recipe.base if recipe is not None else None)
    told = _read_schema(schema) if schema is not None else found.schema
    return Settings(
        base=own,
        base_dir=Path() if base is not None else found.base_dir,
        schema=json.dumps(told) if told is not None else None,
        max_tokens=max_tokens or (recipe.data.max_tokens if recipe is not None else None),
        threshold=THRESHOLD if similarity is None else similarity,
    )


def _held_out(files: list[str]) -> "HeldOut":
    """The prompts of these files, or of the dev and challenge rows of these sweeps and split folders, by the name."""
    from recipes.data.held_out import held_out
    from sweeps.errors import InvalidInput, Problem

    prompts: HeldOut = {}
    for file in files:
        if (sides := held_out_sides(file)) is not None:
            for side, rows in sides.items():
                prompts |= held_out(enumerate(rows, start=1), f"the {side} rows of {file}")
            continue
        with given(file) as found:
            if not (here := held_out(found.source.rows(), file)):
                rule = f"{file} has no rows, so nothing would be held out"
                raise InvalidInput(Problem("--held-out", rule, "name the file that has them, or leave it out"))
            prompts |= here
    return prompts


def _read_schema(path: Path) -> Any:
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    from sweeps.errors import InvalidInput, Problem

    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(schema, dict):
            raise ValueError(f"it must be an object, but got {json.dumps(schema)[:40]}")
        validator_for(schema).check_schema(schema)
    except OSError as error:
        raise InvalidInput(Problem("--schema", f"{path} cannot be read: {error.strerror}", "name a file")) from None
    except (ValueError, SchemaError) as error:
        reason = getattr(error, "message", str(error)).split("\n")[0]
        raise InvalidInput(Problem("--schema", f"{path} is no JSON Schema: {reason}")) from None
    return schema


def as_json(seen: "Checked") -> dict[str, Any]:
    """The result as ``-o json`` prints it."""
    content = asdict(seen)
    if seen.lengths is not None:
        bins = [{"from": low, "below": high, "num_rows": count} for low, high, count in seen.lengths.bins]
        content["lengths"]["bins"] = bins
    return {"is_usable": seen.is_usable, **content}


def _rows(seen: "Checked") -> list[dict[str, Any]]:
    from recipes.data.findings import as_row

    return [as_row(one) for one in seen.findings]


def _draw(seen: "Checked", whose: str) -> None:
    lines = [
        ("rows", f"{seen.num_rows:,}" + (f", {seen.num_usable:,} usable" if seen.num_usable < seen.num_rows else "")),
        ("form", " · ".join(f"{form} {count:,}" for form, count in seen.forms.items()) or "–"),
        ("answers in JSON", f"{seen.num_json:,}, {seen.num_json / max(1, seen.num_usable):.0%}"),
        ("repeated rows", f"{seen.num_repeated:,}"),
        ("prompts nearly the same as another", f"{seen.num_near:,}"),
    ]
    if seen.lengths is not None:
        lengths = seen.lengths
        about = "about, by characters: " if lengths.is_estimate else ""
        told = f"{about}median {lengths.median:,}, 95% at most {lengths.p95:,}, longest {lengths.longest:,}"
        limit = f"; the limit is {seen.max_tokens:,}" if seen.max_tokens else ""
        lines.append(("tokens of a row", f"{told} (line {lengths.longest_line}){limit}"))
    title = f"{whose}{Path(seen.source).name}"
    show_table(title, [{"what": what, "seen": text} for what, text in lines], {"what": "", "seen": ""})
    if seen.lengths is not None:
        _histogram(seen.lengths, seen.max_tokens)
    if seen.findings:
        headings = {"level": "", "name": "what", "count": "rows", "lines": "lines", "rule": "rule", "hint": "way out"}
        show_table("findings", [_short(row) for row in _rows(seen)], headings)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    styles = {"error": "red", "warning": "yellow"}
    more = " …" if row["lines"] and row["count"] > len(row["lines"].split()) else ""
    return {**row, "lines": row["lines"] + more, "_style": styles.get(row["level"])}


def _histogram(lengths: "Lengths", limit: int | None) -> None:
    from rich.console import Console

    most = max(count for _, _, count in lengths.bins)
    wide = len(f"{lengths.bins[-1][1] - 1:,}")
    out = Console(highlight=False, markup=False, emoji=False)
    out.print("tokens of a row, and how many rows have so many", style="italic")
    for low, high, count in lengths.bins:
        glyphs = "█" * round(BAR * count / most) or ("▏" if count else "")
        style = "red" if limit is not None and high - 1 > limit else "green"
        out.print(f"{low:>{wide},}–{high - 1:<{wide},} {glyphs} {count:,}", style=style, soft_wrap=True)
    out.print()
