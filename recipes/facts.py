"""What a sweep must know of a recipe: its keys with their limits, its size, and the hashes that name its inputs."""

import math
import types
import typing
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recipes import bases
from recipes.compose import typed
from recipes.data import splits
from recipes.schema import TRAINING_GROUPS, TRAINING_KEYS, Recipe
from recipes.starts import start_facts
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
        elif prefix or name in ("engine", "method"):  # a recipe's name is its own
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


def recipe_facts(
    settings: dict[str, Any], base_dir: Path, cache: Path | None = None, starts: Sequence[str] = ()
) -> tuple[RecipeFacts, splits.SplitRows]:
    """The facts of composed settings, and the rows that were read for them.

    Args:
        settings: As :func:`recipes.compose.compose` gives them.
        base_dir: What relative paths are taken from.
        cache: Where rows and adapters that were downloaded are kept.
        starts: Adapters that trials may start from beside the recipe's own, as they are written.

    Raises:
        InvalidInput: The recipe, its base or its data cannot be used.
        ServiceUnreachable: The rows are in object storage, and it does not answer.
    """
    recipe = typed(settings)
    rows = splits.load(recipe.data, base_dir, cache, recipe.method)
    num_parameters, parameters_source = bases.num_parameters(recipe.base, base_dir)
    tokens, tokens_source = _tokens_per_row(recipe, rows, base_dir)
    _refuse_long_rows(recipe, rows, base_dir)
    keys = _with_widest_rank(key_facts(), recipe, base_dir)
    folder = bases.locate(recipe.base, base_dir)
    own = [recipe.start.adapter] if recipe.start.adapter is not None else []
    facts = RecipeFacts(
        name=recipe.name,
        settings=recipe.model_dump(mode="json"),
        keys=keys,
        training_groups=TRAINING_GROUPS,
        training_keys=TRAINING_KEYS,
        engine=recipe.engine,
        base_identity=bases.identity(recipe.base, base_dir),
        data_identity=rows.identity,
        num_parameters=num_parameters,
        train_rows=len(rows.rows["train"]),
        tokens_per_row=tokens,
        sources={
            "num_parameters": parameters_source,
            "train_rows": f"counted in the train split ({recipe.data.builtin or recipe.data.path})",
            "tokens_per_row": tokens_source,
        },
        layers=bases.linear_layers(folder) if folder is not None else None,
        starts={where: start_facts(where, recipe.base, base_dir, cache or Path()) for where in (*own, *starts)},
    )
    return facts, rows


def _with_widest_rank(keys: dict[str, KeyFacts], recipe: Recipe, base_dir: Path) -> dict[str, KeyFacts]:
    """The keys with the rank that the base's narrowest adapted layer allows, where the base is local."""
    folder = bases.locate(recipe.base, base_dir)
    if folder is None:
        return keys
    found = bases.narrowest(folder, recipe.lora.targets)
    if found is None:
        rule = f"{recipe.lora.targets} match no layer of {folder}"
        raise InvalidInput(Problem("lora.targets", rule, "patterns are of whole names: *.q_proj, *_proj"))
    layer, width = found
    if recipe.lora.rank > width:
        raise InvalidInput(
            Problem("lora.rank", f"must be at most {width}, the width of {layer}, but got {recipe.lora.rank}")
        )
    return {**keys, "lora.rank": replace(keys["lora.rank"], high=width, high_is=f"the width of {layer}")}


def conversations(row: dict[str, Any]) -> list[list[str]]:
    """The texts of a row's turns, as the model is to see them: once, or of a preference pair once with each answer."""
    texts = [str(message["content"]) for message in row["messages"]]
    rejected = row.get("rejected")
    return [texts, [*texts[:-1], rejected]] if isinstance(rejected, str) and rejected else [texts]


def _learned(recipe: Recipe, row: dict[str, Any]) -> list[list[str]]:
    return conversations(row) if recipe.method == "dpo" else conversations(row)[:1]


def _asked(row: dict[str, Any]) -> str:
    return str(next(message["content"] for message in row["messages"] if message["role"] == "user"))


def _refuse_long_rows(recipe: Recipe, rows: splits.SplitRows, base_dir: Path) -> None:
    """Refuse rows longer than ``data.max_tokens`` or the base's context; by characters where the base is not local."""
    folder = bases.locate(recipe.base, base_dir)
    context = (bases.context(folder) if folder is not None else None) or math.inf
    limit = min(recipe.data.max_tokens, context)
    long: list[tuple[str, int, str]] = []
    for members in rows.rows.values():
        for row in members:
            for number, texts in enumerate(_learned(recipe, row)):
                # A token is at least a byte: most rows need no counting.
                if sum(len(text.encode()) + TURN_TOKENS for text in texts) > limit:
                    tokens = count_tokens(folder, texts)
                    if tokens > limit:
                        long.append((_asked(row), tokens, " and its rejected answer" if number else ""))
    if long:
        asked, tokens, answer = max(long, key=lambda one: one[1])
        many = f"{len(long)} rows are" if len(long) > 1 else "a row is"
        rule = f"{many} longer than {limit} tokens; the longest, with the question {asked[:40]!r}{answer}, has {tokens}"
        hint = f"set data.max_tokens to {tokens}, or shorten the rows"
        if tokens > context:
            hint = f"shorten the rows: the base's max_position_embeddings is {context}"
        raise InvalidInput(Problem("data.max_tokens", rule, hint))


def count_tokens(folder: Path | None, texts: list[str]) -> int:
    """The tokens of a conversation; going by its characters where the base is not local (``folder`` is None)."""
    turns = len(texts) * TURN_TOKENS
    if folder is None:
        return round(sum(map(len, texts)) / CHARS_PER_TOKEN) + turns
    encoded = _tokenizer(folder).encode_batch(texts, add_special_tokens=False)
    return sum(len(one.ids) for one in encoded) + turns


@cache
def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # of the library's own, without a class
        rule = f"{folder / 'tokenizer.json'} cannot be read: {error}"
        raise InvalidInput(Problem("base.path", rule, "copy or download it again")) from None


def _tokens_per_row(recipe: Recipe, rows: splits.SplitRows, base_dir: Path) -> tuple[float, str]:
    """Mean tokens of a training row, of a preference pair those of both conversations; and where that is from."""
    sample = rows.rows["train"][:SAMPLE_ROWS]
    seen = [texts for row in sample for texts in _learned(recipe, row)]
    what = f"{len(sample)} {'pairs, both answers with their prompts' if recipe.method == 'dpo' else 'rows'}"
    folder = bases.locate(recipe.base, base_dir)
    if folder is None:
        chars, turns = sum(sum(map(len, texts)) for texts in seen), sum(map(len, seen))
        tokens = chars / CHARS_PER_TOKEN + turns * TURN_TOKENS
        return tokens / len(sample), f"{CHARS_PER_TOKEN:g} characters a token over {what} (the base is not local)"
    return sum(count_tokens(folder, texts) for texts in seen) / len(sample), f"the base's tokenizer over {what}"
