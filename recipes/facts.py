"""What a sweep must know of a recipe: its keys with their limits, its size, and the hashes that name its inputs."""

import math
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recipes import bases
from recipes.compose import typed
from recipes.data import splits
from recipes.schema import TRAINING_GROUPS, Recipe
from sweeps.errors import InvalidInput, Problem
from sweeps.facts import KeyFacts, RecipeFacts

SAMPLE_ROWS = 200  # rows whose tokens are counted for a plan
CHARS_PER_TOKEN = 4.0  # of English text under a Llama tokenizer; used only where the base's own is not at hand
TURN_TOKENS = 5  # what the Llama 3.1 chat format adds to each turn


def key_facts(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, KeyFacts]:
    """Every dotted path of a recipe with the type and limits of its value, read from the schema."""
    facts: dict[str, KeyFacts] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            facts.update(key_facts(info.annotation, f"{prefix}{name}."))
        elif prefix:  # name and engine are not a trial's to vary
            facts[f"{prefix}{name}"] = _one(info)
    return facts


def _one(info: FieldInfo) -> KeyFacts:
    annotation, limits, optional = info.annotation, list(info.metadata), False
    if get_origin(annotation) in (types.UnionType, typing.Union):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        optional, annotation = True, parts[0]
    if get_origin(annotation) is typing.Annotated:
        annotation, *more = get_args(annotation)
        limits += [limit for field in more for limit in (field.metadata if isinstance(field, FieldInfo) else [field])]
    if get_origin(annotation) is Literal:
        return KeyFacts("str", choices=get_args(annotation), optional=optional)
    low = next((limit.ge for limit in limits if isinstance(limit, Ge)), None)
    above = next((limit.gt for limit in limits if isinstance(limit, Gt)), None)
    high = next((limit.le for limit in limits if isinstance(limit, Le)), None)
    below = next((limit.lt for limit in limits if isinstance(limit, Lt)), None)
    kinds: dict[Any, Literal["int", "float", "str", "bool", "list", "any"]] = {
        int: "int",
        float: "float",
        str: "str",
        bool: "bool",
        list: "list",
        tuple: "list",
    }
    kind = kinds.get(get_origin(annotation) or annotation, "any")
    if high is None and below is not None:
        high = math.nextafter(typing.cast("float", below), -math.inf)  # KeyFacts' high is inclusive
    return KeyFacts(
        kind,
        low=typing.cast("float | None", low if low is not None else above),
        high=typing.cast("float | None", high),
        exclusive_low=low is None and above is not None,
        optional=optional,
    )


def recipe_facts(settings: dict[str, Any], base_dir: Path) -> tuple[RecipeFacts, splits.SplitRows]:
    """The facts of composed settings, and the rows that were read for them.

    Raises:
        InvalidInput: The recipe, its base or its data cannot be used.
    """
    recipe = typed(settings)
    rows = splits.load(recipe.data, base_dir)
    num_parameters, parameters_source = bases.num_parameters(recipe.base, base_dir)
    tokens, tokens_source = _tokens_per_row(recipe, rows, base_dir)
    _refuse_long_rows(recipe, rows, base_dir)
    facts = RecipeFacts(
        name=recipe.name,
        settings=recipe.model_dump(mode="json"),
        keys=key_facts(),
        training_groups=TRAINING_GROUPS,
        engine=recipe.engine,
        base_identity=bases.identity(recipe.base, base_dir),
        start_identity=None,
        data_identity=rows.identity,
        num_parameters=num_parameters,
        train_rows=len(rows.rows["train"]),
        tokens_per_row=tokens,
        sources={
            "num_parameters": parameters_source,
            "train_rows": f"counted in the train split ({recipe.data.builtin or recipe.data.path})",
            "tokens_per_row": tokens_source,
        },
    )
    return facts, rows


def _refuse_long_rows(recipe: Recipe, rows: splits.SplitRows, base_dir: Path) -> None:
    """Refuse rows longer than ``data.max_tokens``; where the base is not local, going by their characters."""
    limit = recipe.data.max_tokens
    folder = bases.locate(recipe.base, base_dir)
    long: list[tuple[str, int, int]] = []
    for split, members in rows.rows.items():
        for place, row in enumerate(members):
            texts = [message["content"] for message in row["messages"]]
            # A token is at least a byte: most rows need no counting.
            if sum(len(text.encode()) + TURN_TOKENS for text in texts) > limit:
                tokens = _count(folder, texts)
                if tokens > limit:
                    long.append((split, place, tokens))
    if long:
        split, place, tokens = max(long, key=lambda one: one[2])
        rule = f"{len(long)} rows are longer than {limit} tokens; the longest, row {place} of {split}, has {tokens}"
        raise InvalidInput(Problem("data.max_tokens", rule, f"set data.max_tokens to {tokens}, or shorten the rows"))


def _count(folder: Path | None, texts: list[str]) -> int:
    turns = len(texts) * TURN_TOKENS
    if folder is None:
        return round(sum(map(len, texts)) / CHARS_PER_TOKEN) + turns
    encoded = _tokenizer(folder).encode_batch(texts, add_special_tokens=False)
    return sum(len(one.ids) for one in encoded) + turns


@cache
def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _tokens_per_row(recipe: Recipe, rows: splits.SplitRows, base_dir: Path) -> tuple[float, str]:
    sample = rows.rows["train"][:SAMPLE_ROWS]
    folder = bases.locate(recipe.base, base_dir)
    if folder is None:
        chars = sum(len(message["content"]) for row in sample for message in row["messages"])
        turns = sum(len(row["messages"]) for row in sample)
        tokens = chars / CHARS_PER_TOKEN + turns * TURN_TOKENS
        return tokens / len(
            sample
        ), f"{CHARS_PER_TOKEN:g} characters a token over {len(sample)} rows (the base is not local)"
    total = sum(_count(folder, [message["content"] for message in row["messages"]]) for row in sample)
    return total / len(sample), f"the base's tokenizer over {len(sample)} rows"
