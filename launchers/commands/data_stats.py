"""``podium data stats``."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers import home
from launchers.commands.init import refuse_missing
from launchers.commands.options import Output, StageName
from launchers.commands.staged import by_stage, heading, rows_by_stage
from launchers.output import Format, progress, say, show_csv, show_json, show_table

if TYPE_CHECKING:
    from launchers.build import Built
    from recipes.data.constant_text import ConstantText
    from recipes.data.sharing import Saving, Sharing
    from recipes.schema import Base, Recipe

DEMO_BASE = "builtin:tiny_commerce"
OF_PAIRS = "of preference pairs, prompts with the preferred answers are counted; rejected ones come on top"
QUOTED = 60  # characters of a constant text that the table shows
WIDTH = 78  # of the bar


@dataclass(frozen=True)
class _Source:
    """Rows, and how a trial would go through them."""

    name: str
    conversations: list[list[dict[str, str]]]
    base: "Base"
    base_dir: Path  # what its path is taken from
    batch_size: int
    micro_batch_size: int
    seed: int
    recipe: "Recipe | None"
    notes: list[str]


def stats(
    source: Annotated[
        str,
        typer.Argument(
            help="A sweep, whose training rows are looked at, or rows: a JSONL or Parquet file, or s3://bucket/key.",
            metavar="SWEEP.yaml|DATA",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(help="Count with this base's tokenizer: a folder, or an id on the Hugging Face hub."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows of an optimizer step, instead of the recipe's.", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the order of the rows, instead of the recipe's.", min=0)] = None,
    stage: StageName = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what rows share, and how many tokens the packed engine's prefix trees save by it. Starts nothing.

    Also shown is what regrouping the rows of an epoch would save (`packed.regroup: true`), and what moving text that
    all rows have, but after what differs, ahead of it would. Of a sweep in stages the rows of each are looked at.

    [dim]podium data stats sweeps/quickstart.yaml
    podium data stats tickets.jsonl --base ./my-base --batch-size 16
    podium data stats sweeps/commerce_sft.yaml --base ./nemotron -o json
    podium data stats sweeps/quickstart_sft_dpo.yaml --stage dpo[/]
    """
    with progress() as tell:
        tell("reading the rows")
        found = _sources(source, stage, base, batch_size, seed)
        every = {name: (one, _count(one, tell)) for name, one in found.items()}
    notes = {name: [*one.notes, *_notes(one, counted)] for name, (one, counted) in every.items()}
    if output is Format.JSON:
        show_json(by_stage({name: _content(*one, notes[name]) for name, one in every.items()}))
    elif output is Format.CSV:
        rows = {name: [asdict(saving) for saving in counted.savings] for name, (_, counted) in every.items()}
        show_csv(*rows_by_stage(rows))
    for name, one in every.items():
        if output is Format.TABLE:
            _draw(*one)
        for note in notes[name]:
            say(f"note: {heading(name)}{note}")


def _sources(
    source: str, stage: str | None, base: str | None, batch_size: int | None, seed: int | None
) -> dict[str | None, _Source]:
    """By stage; what has none under None."""
    from launchers.stage_choice import build_meant, is_sweep, refuse_stage

    if is_sweep(source):
        meant = build_meant(Path(source), stage)
        return {name: _of_sweep(built, base, batch_size, seed) for name, built in meant.items()}
    refuse_stage(source, stage)
    refuse_missing(source)
    return {None: _of_rows(source, base, batch_size, seed)}


def _of_sweep(built: "Built", base: str | None, batch_size: int | None, seed: int | None) -> _Source:
    from recipes.compose import typed
    from recipes.schema import Base

    recipe = typed(built.sweep.settings)
    train, notes = recipe.train, []
    whole = f"{built.place.sweep}/{built.place.name}" if built.place else built.sweep.spec.name
    if recipe.method == "dpo":
        notes.append(OF_PAIRS)
    size = batch_size or train.batch_size
    swept = [key for key in ("train.batch_size", "train.micro_batch_size") if key in built.sweep.space.dimensions]
    if swept and not batch_size:
        verb = (
            "varies in this sweep; the recipe's own is"
            if len(swept) == 1
            else "vary in this sweep; the recipe's own are"
        )
        notes.append(f"{' and '.join(swept)} {verb} shown")
    return _Source(
        name=f"{whole}, training rows",
        conversations=[row["messages"] for row in built.rows.rows["train"]],
        base=recipe.base if base is None else Base(path=base),
        base_dir=built.base_dir if base is None else Path(),
        batch_size=size,
        micro_batch_size=size if size % train.micro_batch_size else train.micro_batch_size,
        seed=train.seed if seed is None else seed,
        recipe=recipe,
        notes=notes,
    )


def _of_rows(path: str, base: str | None, batch_size: int | None, seed: int | None) -> _Source:
    from recipes.data.preferences import checked_pairs
    from recipes.data.rows import checked_rows, is_pair
    from recipes.data.splits import numbered_rows
    from recipes.profile import refuse_other_forms
    from recipes.schema import Base, Data, Train

    cache = home.cache_folder()
    refuse_other_forms(path, Path(), cache)
    numbered, name = numbered_rows(Data(path=path), Path(), cache)
    written = list(numbered)
    are_pairs = any(is_pair(row) for _, row in written)
    rows = (checked_pairs if are_pairs else checked_rows)(written, name)
    size: int = batch_size or Train.model_fields["batch_size"].default
    notes = [f"no sweep was named: all rows are looked at, in batches of {size}, in the order of seed {seed or 0}"]
    if are_pairs:
        notes.append(OF_PAIRS)
    if base is None:
        notes.append(f"tokens are those of {DEMO_BASE}, the demo's base; --base names yours")
    return _Source(
        name=Path(path).name,
        conversations=[row["messages"] for row in rows],
        base=Base(path=base or DEMO_BASE),
        base_dir=Path(),
        batch_size=size,
        micro_batch_size=size,
        seed=seed or 0,
        recipe=None,
        notes=notes,
    )


def _count(source: _Source, tell: Callable[[str], None]) -> "Sharing":
    from jinja2 import TemplateError

    from recipes.data.sharing import sharing
    from recipes.tokenizer import load_tokenizer
    from sweeps.errors import InvalidInput, Problem

    tell("loading the tokenizer")
    tokenizer = load_tokenizer(source.base, source.base_dir)
    try:
        return sharing(
            source.conversations,
            tokenizer,
            batch_size=source.batch_size,
            micro_batch_size=source.micro_batch_size,
            seed=source.seed,
            progress=tell,
        )
    except TemplateError as error:
        rule = f"the chat template of {source.base.path} refuses a row: {error}"
        raise InvalidInput(Problem("base.path", rule, "name another base with --base, or change the rows")) from None


def _notes(source: _Source, counted: "Sharing") -> list[str]:
    """What to know of the numbers, and what to make of them."""
    from recipes.data.sharing import NUM_BATCHES
    from recipes.engines.packed.tree import MIN_SHARED

    notes = []
    if counted.num_seen < counted.num_rows:
        notes.append(f"lengths are those of {counted.num_seen:,} rows, drawn with the seed")
    if any(saving.num_batches < saving.epoch_batches for saving in counted.savings):
        notes.append(f"of an epoch with more than {NUM_BATCHES} batches, the first {NUM_BATCHES} are counted")
    if 0 < counted.lengths.shared < MIN_SHARED:
        notes.append(f"a tree leaves fewer than {MIN_SHARED} shared tokens with each row: sharing them costs as much")
    recipe = source.recipe
    if recipe is not None and recipe.engine != "packed":
        notes.append(f"the sweep's engine is {recipe.engine}, which shares nothing; engine: packed does")
    elif recipe is not None and not recipe.packed.trees:
        notes.append("the sweep has packed.trees: false, so nothing of it is saved")
    elif recipe is not None and recipe.lora.dropout > 0:
        notes.append(
            f"the sweep has lora.dropout {recipe.lora.dropout:g}, with which nothing can be shared: set it to 0"
        )
    if recipe is not None and recipe.packed.regroup:
        notes.append("the sweep has packed.regroup: true, so its trials save what stands under regrouped")
    notes += [
        f"{_place(text)} has {text.tokens} tokens of constant text after what differs; it is shared once it stands "
        "ahead of it, in the rows and in the prompts that are served"
        for text in counted.constants
    ]
    return notes


def _place(text: "ConstantText") -> str:
    name = f"the last {text.role} message" if text.message < 0 else f"messages[{text.message}] ({text.role})"
    return {"whole": "all of ", "start": "the start of ", "end": "the end of "}.get(text.where, "") + name


def _content(source: _Source, counted: "Sharing", notes: list[str]) -> dict[str, Any]:
    """The result as ``-o json`` prints it."""
    lengths = asdict(counted.lengths)
    names = ("shared", "own", "constant", "completion")
    return {
        "source": source.name,
        "base": source.base.path,
        "engine": source.recipe.engine if source.recipe else None,
        "batch_size": source.batch_size,
        "micro_batch_size": source.micro_batch_size,
        "seed": source.seed,
        "num_rows": counted.num_rows,
        "num_seen": counted.num_seen,
        "tokens": {**lengths, "bar": dict(zip(names, lengths["bar"], strict=True))},
        "constants": [asdict(text) for text in counted.constants],
        "savings": [asdict(saving) for saving in counted.savings],
        "notes": notes,
    }


def _draw(source: _Source, counted: "Sharing") -> None:
    """Tables and the bar of the mean row, on stdout."""
    from rich.console import Console

    from launchers.bar import Part, bar

    show_table(
        source.name, [{"what": what, "seen": seen} for what, seen in _seen(source, counted)], {"what": "", "seen": ""}
    )
    glyphs = ("█", "░", "▒", "▓")
    labels = ("shared by all", "its own", "constant, but after", "completion")
    styles = ("green", "yellow", "red", "cyan")
    parts = [Part(*one) for one in zip(glyphs, styles, labels, counted.lengths.bar, strict=True)]
    out = Console(highlight=False, markup=False, emoji=False)
    out.print(f"the mean row, {counted.lengths.mean:,.0f} tokens", style="italic", soft_wrap=True)
    out.print(bar(parts, min(WIDTH, out.width)), soft_wrap=True)
    out.print()
    columns = {
        "batch_size": "rows a step",
        "micro_batch_size": "rows a pass",
        "tokens": "one by one",
        "tree_tokens": "in the tree",
        "saving": "saves",
        "regrouped": "regrouped",
        "moved": "constant first",
        "moved_and_regrouped": "both",
    }
    rows = [_row(saving) for saving in counted.savings]
    shown = {key: heading for key, heading in columns.items() if rows[0][key] is not None}
    title = "tokens a step, and how many times fewer in the tree"
    show_table(title, rows, shown, "the first line is the recipe's own batch" if source.recipe else "")


def _row(saving: "Saving") -> dict[str, Any]:
    row = asdict(saving)
    for key in ("tokens", "tree_tokens"):
        row[key] = f"{row[key]:,.0f}"
    for key in ("saving", "regrouped", "moved", "moved_and_regrouped"):
        row[key] = None if row[key] is None else f"{row[key]:.2f}×"
    return row


def _seen(source: _Source, counted: "Sharing") -> list[tuple[str, str]]:
    """The first table."""
    lengths = counted.lengths
    lines = [
        ("rows", f"{counted.num_rows:,}"),
        ("tokenizer", source.base.path),
        ("tokens of a row", f"median {lengths.median:,.0f}, 95% at most {lengths.p95:,}, longest {lengths.longest:,}"),
        (
            "completion",
            f"{lengths.completion:,.0f} tokens that the loss looks at, {lengths.completion / lengths.mean:.0%}",
        ),
        ("shared by all", f"the first {lengths.shared:,} tokens, {lengths.shared / lengths.mean:.0%} of the mean row"),
    ]
    for text in counted.constants:
        words = " ".join(text.text.split())
        quoted = f"{words[:QUOTED]} …" if len(words) > QUOTED else words
        lines.append(
            ("constant, but after", f"{_place(text)}: {quoted!r}, {text.tokens} tokens, in {text.share:.0%} of rows")
        )
    return lines
