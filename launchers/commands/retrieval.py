"""``podium retrieval``: what the arms of a sweep find in the catalogue."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launchers import home
from launchers.commands.options import Output, SweepName
from launchers.output import Format, say, short, show

if TYPE_CHECKING:
    from sweeps.retrieving import Pipeline

_COLUMNS = {
    "embedding": "embedding",
    "label": "who formulates",
    "n": "n",
    "retrieval/ndcg_at_10": "nDCG@10",
    "gain": "against the words",
    "retrieval/recall_at_10": "recall@10",
    "retrieval/mrr": "MRR",
    "retrieval/unjudged_at_10": "unjudged@10",
    "e2e/score": "e2e score",
}
_WITH_INTERVALS = ("retrieval/ndcg_at_10", "gain", "e2e/score")


def retrieval(
    sweep: SweepName = None,
    split: Annotated[str, typer.Option(help="challenge or dev.")] = "challenge",
    embedding: Annotated[
        list[str] | None,
        typer.Option("--embedding", "-e", help="tfidf or minilm, once for each; the sweep's own by default."),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what is found by the shopper's words, by each model's formulation, and by the gold attributes.

    Brackets hold 95 % intervals; those of a difference are paired, on the same items. What the sweep's arms have
    answered is searched for again: no model is asked.

    [dim]podium retrieval
    podium retrieval commerce-sft -e tfidf -e minilm
    podium retrieval --split dev -o json[/]
    """
    from analysis.frame import open_sweep
    from analysis.retrieval import recomputed_arms, rows_of, settings_of
    from sweeps.errors import InvalidInput, Problem
    from tracking.meters.retrieval import open_pipeline

    state = open_sweep(sweep, home.home())
    settings, files = settings_of(state)
    found = {}
    for name, other in _pipelines(settings, embedding).items():
        say(f"searching with {name} …")
        opened = open_pipeline(other, Path(state.facts["base_dir"]), home.cache_folder(), files)
        found[name] = recomputed_arms(state, split, opened)
    if not any(found.values()):
        have = sorted({one.split for one in state.evaluations() if one.items})
        hint = f"there are some to: {', '.join(have)}" if have else "nobody has answered anything yet"
        raise InvalidInput(Problem("--split", f"{state.name} has no answers to the {split} set", hint))
    rows = [row for name, arms in found.items() for row in rows_of(arms, name)]
    content = {
        "split": split,
        "settings": settings.model_dump(mode="json"),
        "arms": [{"embedding": name, **one.to_dict()} for name, arms in found.items() for one in arms],
    }
    columns = _COLUMNS
    if output is Format.TABLE:
        rows = [{**row, **{name: _with_interval(row, name) for name in _WITH_INTERVALS}} for row in rows]
    else:
        columns = {key: key for row in rows for key in row}
    show(content, rows, columns, output, f"{state.name} on {split}")


def _pipelines(settings: "Pipeline", asked: list[str] | None) -> dict[str, "Pipeline"]:
    """The pipelines that are asked for, by the name of their embedding."""
    from sweeps.errors import InvalidInput, Problem, nearest
    from sweeps.retrieving import EMBEDDINGS

    own = settings.embedding if isinstance(settings.embedding, str) else settings.embedding.model
    found = {}
    for name in asked or [own]:
        if name not in (*EMBEDDINGS, own):
            rule = f'must be one of {", ".join(dict.fromkeys((*EMBEDDINGS, own)))}, but got "{name}"'
            raise InvalidInput(Problem("--embedding", rule, nearest(name, EMBEDDINGS)))
        found[name] = settings if name == own else settings.model_copy(update={"embedding": name})
    return found


def _with_interval(row: dict[str, Any], name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    mean = short(row.get(name))
    return mean if low is None else f"{mean} [{short(low)}, {short(high)}]"
