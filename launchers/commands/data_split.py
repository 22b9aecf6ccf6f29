"""``podium data split``."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers.commands.data_check import Data, Similarity
from launchers.commands.options import Output, StageName
from launchers.data_sources import Given, given
from launchers.output import Format, progress, say, show

if TYPE_CHECKING:
    from recipes.data.splitting import Settings

Share = Annotated[float | None, typer.Option(help="Its share of the rows.", min=0.0, max=1.0)]


class FileForm(StrEnum):
    """What ``--format`` takes."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def split(
    data: Data,
    to: Annotated[str, typer.Option(help="The folder to write to, local or s3://bucket/folder.", metavar="FOLDER")],
    train: Share = None,
    validation: Share = None,
    dev: Share = None,
    challenge: Share = None,
    seed: Annotated[
        int | None, typer.Option(help="Another seed puts other components on a side; 0 by default.")
    ] = None,
    group_field: Annotated[
        str | None, typer.Option(help="The field whose equal values stay together, instead of a conversation's id.")
    ] = None,
    template_field: Annotated[
        str | None, typer.Option(help="The field that names a row's template, instead of looking for templates.")
    ] = None,
    similarity: Similarity = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="A folder of an earlier split: its rows stay on their sides where they can.", metavar="FOLDER"
        ),
    ] = None,
    stage: StageName = None,
    format: Annotated[FileForm | None, typer.Option(help="Of the files; that of the rows by default.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Split rows into train, validation, dev and challenge, with nothing on two sides that belongs together.

    Together belong rows of one conversation, of one prompt, of one template, and prompts that are nearly the same. The
    folder can be named by a sweep: set: {data.path: FOLDER, data.builtin: null, data.rows: null}.

    [dim]podium data split rows.jsonl --to splits
    podium data split rows.parquet --to s3://my-bucket/splits --group-field customer --seed 7
    podium data split more.jsonl --to splits-2 --like splits
    podium data split sweeps/quickstart_sft_dpo.yaml --stage dpo --to splits[/]
    """
    from launchers.stage_choice import one_stage
    from recipes.data import split_files
    from recipes.data.splitting import decide

    meant = one_stage(data, stage, "DATA")
    split_files.refuse_existing(to)
    with progress() as tell, given(data, meant) as found:
        tell("reading rows")
        settings = _settings(
            found, (train, validation, dev, challenge), seed, group_field, template_field, similarity, like
        )
        decided = decide(found.source, settings, tell)
        record = split_files.write(found.source, decided, settings, to, format.value if format else None, tell)
    rows = [
        {
            "split": name,
            "num_rows": record["files"][name]["num_rows"],
            "share": record["achieved"][name],
            "asked": record["shares"][name],
            "file": record["files"][name]["file"],
        }
        for name in record["files"]
    ]
    headings = {"split": "", "num_rows": "rows", "share": "share", "asked": "asked for", "file": "file"}
    show(record, rows, headings, output, to)
    for note in notes(record):
        say(f"note: {note}")
    say(f"wrote {to}: four files and {split_files.RECORD}")


def _settings(
    found: Given,
    shares: tuple[float | None, ...],
    seed: int | None,
    group: str | None,
    template: str | None,
    similarity: float | None,
    like: str | None,
) -> "Settings":
    """What was given, else what the earlier split or the sweep says, else the defaults."""
    from recipes.data.looks import Fields
    from recipes.data.split_files import earlier
    from recipes.data.splits import SPLITS
    from recipes.data.splitting import Settings

    told = Settings()
    if found.recipe is not None:
        data = found.recipe.data
        own = (data.train, data.validation, data.dev, data.challenge)
        told = Settings(shares=own, seed=data.seed, fields=Fields(data.group))
    common, sides = None, None
    if like is not None:
        common, sides, record = earlier(like)
        own = tuple(record["shares"][name] for name in SPLITS)
        fields = Fields(record["groups"]["group_field"], record["groups"]["template_field"])
        told = Settings(own, record["seed"], record["near_duplicates"]["similarity"], fields)
    return Settings(
        shares=_shares(shares, told.shares),
        seed=told.seed if seed is None else seed,
        threshold=told.threshold if similarity is None else similarity,
        fields=Fields(group or told.fields.group, template or told.fields.template),
        common=common,
        earlier=sides,
    )


def _shares(
    asked: tuple[float | None, ...], default: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """The four shares: those asked for, and what they leave among the others as the defaults have it."""
    from recipes.data.splits import SPLITS
    from sweeps.errors import InvalidInput, Problem

    given = sum(one for one in asked if one is not None)
    open_ = sum(own for one, own in zip(asked, default, strict=True) if one is None)
    shares = [
        one if one is not None else round(own / open_ * max(0.0, 1 - given), 12) if open_ else 0.0
        for one, own in zip(asked, default, strict=True)
    ]
    named = " + ".join(f"--{name}" for name in SPLITS)
    if abs(sum(shares) - 1) > 1e-9:
        rule = f"{named} must be 1, but got {' + '.join(f'{one:g}' for one in shares)} = {sum(shares):g}"
        raise InvalidInput(Problem("--train", rule, "a share that is not given takes what the others leave"))
    train, validation, dev, challenge = shares
    if not train or not validation:
        rule = f"--train and --validation must be above 0, but got {train:g} and {validation:g}"
        raise InvalidInput(Problem("--train", rule, "a sweep trains on one and stops trials by the other"))
    return train, validation, dev, challenge


def notes(record: dict[str, Any]) -> list[str]:
    """What to know of a split, by its record."""
    parts, near, across = record["components"], record["near_duplicates"], record["across"]
    total = record["source"]["num_rows"]
    links = " · ".join(f"{kind} {count:,}" for kind, count in record["groups"]["links"].items() if count) or "none"
    told = [f"{total:,} rows in {parts['num']:,} components, the largest of {parts['largest']:,}; links: {links}"]
    for giant in parts["giants"]:
        lines = ", ".join(map(str, giant["lines"]))
        without = [f"{share:.0%} without its {kind} links" for kind, share in giant["without"].items()]
        told.append(
            f"a component has {giant['num_rows']:,} rows, {giant['share']:.0%} of all (lines {lines} …), so the shares "
            f"can be far off; its largest part would have {', '.join(without)}"
        )
    if across is None:
        told.append("no two prompts on different sides have a band of their signatures in common")
    else:
        told.append(
            f"the most alike prompts on different sides, lines {across['lines'][0]} and {across['lines'][1]}, have a "
            f"similarity of {across['similarity']:.2f}, compared word for word; from {near['similarity']:g} on they "
            f"would be on one side (of pairs so alike {near['recall']:.1%} are compared, of closer ones more)"
        )
    if near["num_left_out"]:
        told.append(f"{near['num_left_out']:,} pairs of prompts with a band in common were too many to compare")
    if record["num_moved"]:
        told.append(f"{record['num_moved']:,} rows of the earlier split moved, as new rows join what was apart")
    return told
