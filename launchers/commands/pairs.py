"""``podium data pairs``: preference pairs from the answers of a fine-tuned model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers.commands.options import Output
from launchers.completion import sweep_names
from launchers.output import Format, say, short, show
from launchers.progress import telling

if TYPE_CHECKING:
    from launchers.pairing import Made


def pairs(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A sweep (its champion answers), or a bundle or PEFT adapter: a folder, or an s3:// URL; the latest "
            "sweep when none is given.",
            metavar="[SWEEP|ADAPTER]",
            autocompletion=sweep_names,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option(help="The file of pairs, JSONL or Parquet by its ending; or s3://bucket/key.")
    ] = "pairs.jsonl",
    rows: Annotated[
        str | None,
        typer.Option(
            help="The prompts: a file of rows, with or without answers; the training rows when none is given."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Prompts at most.", min=1)] = None,
    samples: Annotated[int, typer.Option(help="Answers that are drawn to each prompt.", min=2)] = 4,
    temperature: Annotated[float, typer.Option(help="Above 0; higher draws bolder answers.", min=0.01, max=5)] = 0.8,
    top_p: Annotated[
        float, typer.Option(help="Draw from the likeliest tokens of this probability.", min=0.01, max=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Another one draws other answers.", min=0)] = 0,
    metric: Annotated[
        str | None, typer.Option(help="What grades the answers; what chose the champion, when none is given.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="How far best and worst must be apart; 1 of quality/score, 0.2 of others.", min=0),
    ] = None,
    trial: Annotated[str | None, typer.Option("--trial", "-t", help="Another trial than the champion.")] = None,
    sweep: Annotated[
        str | None, typer.Option(help="With an adapter that is no bundle: the sweep that it belongs to.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Make preference pairs: draw several answers to each prompt, grade them, put the best against the worst.

    They are graded as the sweep grades: by its metrics, its gates and its judge. Prompts of dev and challenge rows are
    never asked. Interrupted, the same command goes on where it was; nothing is drawn or judged twice.

    [dim]podium data pairs quickstart --to pairs.jsonl --limit 200
    podium data pairs commerce-sft --samples 8 --temperature 1 --margin 2 --to s3://my-bucket/pairs.jsonl
    podium data pairs ./adapter --sweep commerce-sft --rows prompts.jsonl[/]
    """
    from launchers.answerers import opened
    from launchers.pairing import MARGIN, MARGINS, Pairs, Settings, metric_of, prompts_of
    from recipes.data.stream import RowWriter
    from recipes.sampling import Sampling
    from sweeps.errors import InvalidInput, Problem

    refuse_existing(to)
    with opened(source, trial, sweep) as answerer, telling() as tell:
        tell("reading the rows")
        found, num_held_out = prompts_of(answerer, rows)
        found = found[:limit]
        graded_by = metric_of(answerer, metric)
        apart = MARGINS.get(graded_by, MARGIN) if margin is None else margin
        making = Pairs(answerer, Settings(samples, Sampling(temperature, top_p, seed), graded_by, apart))
        say(f"{answerer.name} answers {len(found):,} prompts {samples} times each, graded by {graded_by}")
        if num_held_out:
            say(f"left out: {num_held_out:,} training rows with the prompt of a dev or challenge row")
        with RowWriter(to) as writer:
            for pair in making.of(found, tell):
                writer.write(pair)
            if not making.made.pairs:
                told = "; ".join(f"{why}: {count:,}" for why, count in making.made.without.most_common())
                hint = "draw more answers (--samples), bolder ones (--temperature), or ask for less of a --margin"
                raise InvalidInput(Problem("--margin", f"none of {len(found):,} prompts gave a pair ({told})", hint))
    _tell(making.made, to, graded_by, answerer.recipe.data.seed, output)


def refuse_existing(to: str) -> None:
    """Say so where the file to write is there already.

    Raises:
        InvalidInput: It is, or its folder is not there, or its ending is of neither form.
        ServiceUnreachable: It is in object storage, which does not answer.
    """
    from recipes.objects import exists, is_url, place_of
    from sweeps.errors import InvalidInput, Problem

    if is_url(to):
        if not place_of(to).key or to.endswith("/"):
            raise InvalidInput(Problem("--to", f"{to} names a folder", "write s3://bucket/key, the URL of one file"))
        _refuse_ending(place_of(to).key.rsplit("/", 1)[-1])
        if exists(place_of(to)):
            raise InvalidInput(Problem("--to", f"{to} is there already, and is not overwritten", "name another object"))
        return
    path = Path(to).expanduser()
    if path.is_dir():
        raise InvalidInput(Problem("--to", f"{path} is a folder", f"name a file: {path / 'rows.jsonl'}"))
    if path.exists():
        raise InvalidInput(Problem("--to", f"{path} is there already, and is not overwritten", "name another file"))
    if not path.parent.is_dir():
        raise InvalidInput(Problem("--to", f"there is no folder {path.parent}", f"mkdir -p {path.parent}"))
    _refuse_ending(path.name)


def _refuse_ending(name: str) -> None:
    from sweeps.errors import InvalidInput, Problem

    if not name.endswith((".jsonl", ".parquet")):
        raise InvalidInput(Problem("--to", f"{name} is neither JSONL nor Parquet", "end it in .jsonl or .parquet"))


def _tell(made: "Made", to: str, metric: str, seed: int, output: Format) -> None:
    from recipes.data.pair_audit import Limits, findings
    from recipes.objects import is_url

    grades = dict(sorted(made.grades.items()))
    value: dict[str, Any] = {
        "to": to,
        "metric": metric,
        "prompts": made.prompts,
        "pairs": made.pairs,
        "without": dict(made.without),
        "answers": made.drawn + made.kept,
        "drawn": made.drawn,
        "kept": made.kept,
        "ungraded": made.ungraded,
        "grades": {f"{grade:g}": count for grade, count in grades.items()},
        "audit": [one.to_dict() for one in made.measured],
    }
    lines = [
        ("prompts", f"{made.prompts:,}"),
        ("pairs", f"{made.pairs:,}, {made.pairs / made.prompts:.0%} of the prompts"),
        *((f"no pair: {why}", f"{count:,}") for why, count in made.without.most_common()),
        ("answers", f"{made.drawn + made.kept:,}, of which {made.kept:,} were drawn before"),
        *([("answers without a grade", f"{made.ungraded:,}")] if made.ungraded else []),
        ("grades", _grades(grades)),
    ]
    for one in made.measured:
        low, high = one.share_interval
        lines.append((f"chosen has more {one.name}", f"in {one.share:.0%} of pairs (95 %: {low:.0%} to {high:.0%})"))
    show(
        value,
        [{"what": what, "seen": seen} for what, seen in lines],
        {"what": "", "seen": "seen"},
        output,
        f"pairs by {metric}",
    )
    for finding in findings(made.measured, Limits()):
        say(f"{finding.level}: {finding.rule} ({finding.hint})")
    say(f"wrote {to}: {made.pairs:,} pairs")
    say("a stage of method dpo after the sweep's own learns from them, judged on the sweep's dev and challenge rows:")
    say(as_data(to if is_url(to) else str(Path(to).expanduser().resolve()), seed))


def as_data(path: str, seed: int) -> str:
    """What makes a recipe train on the pairs, as a line of a sweep's YAML.

    Args:
        path: Of the pairs.
        seed: By which the sweep split its rows. With the same one all pairs would be on the side of its training rows.
    """
    shares = "data.train: 0.9, data.validation: 0.1, data.dev: 0, data.challenge: 0"
    return f"set: {{data.builtin: null, data.path: {json.dumps(path)}, data.seed: {seed + 1}, {shares}}}"


def _grades(grades: dict[float, int]) -> str:
    if len(grades) > 12:
        return f"{short(min(grades))} to {short(max(grades))}"
    return ", ".join(f"{grade:g}: {count:,}" for grade, count in grades.items())
