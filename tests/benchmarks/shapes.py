"""Random bases and rows of stated shapes: a step costs the same whatever the weights are."""

import random
from functools import cache
from pathlib import Path
from typing import Any

from recipes.engines.packed.rows import Row
from recipes.schema import Recipe
from tests.recipes.tiny import make_base, tiny_settings

SIZES: dict[str, dict[str, int]] = {
    "128 × 4": {
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "intermediate_size": 344,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 2048,
    },
    "384 × 6": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1024,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "vocab_size": 4096,
    },
}
RANKS = (4, 8, 16, 32)


def random_base(folder: Path, size: str) -> Path:
    """A Llama with random weights, in float32, with the demo's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_base(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES[size], max_position_embeddings=4096, tie_word_embeddings=False, bos_token_id=0, eos_token_id=4
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@cache
def network(folder: Path) -> Any:
    """The base as the packed engine loads it."""
    from recipes.engines.packed.network import Network
    from recipes.schema import Base

    return Network(str(folder), Base(path=str(folder), dtype="float32"), "cpu")


def plain_network(folder: Path) -> Any:
    """The base as transformers loads it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def recipe(folder: Path, place: int, batch_size: int, **more: Any) -> Recipe:
    """The recipe of a sweep's trial: rank, optimizer and rate by its place."""
    settings = tiny_settings(
        folder,
        lora__rank=RANKS[place % 4],
        lora__alpha=2 * RANKS[place % 4],
        lora__dropout=0.0,
        optimizer__name=("adam", "adamw")[place % 2],
        optimizer__lr=1e-4 * (1 + place % 5),
        schedule__warmup_steps=2,
        train__batch_size=batch_size,
        train__micro_batch_size=batch_size,
        train__max_steps=100_000,
        train__seed=place,
        **more,
    )
    return Recipe.model_validate({**settings, "engine": "packed"})


def random_rows(
    num_rows: int, shared: int, own: int, completion: int, seed: int, vocabulary: int = 2048, middle: int = 0
) -> list[Row]:
    """Rows that begin with the same tokens.

    Args:
        shared: Tokens that all rows begin with.
        own: Tokens of each row alone, after them.
        completion: How many of the last tokens the loss looks at.
        middle: Tokens between the two that pairs of rows share: a tree of three levels.
    """
    random_ = random.Random(seed)
    prefix = [random_.randrange(vocabulary) for _ in range(shared)]
    pairs = [[random_.randrange(vocabulary) for _ in range(middle)] for _ in range((num_rows + 1) // 2)]
    rows = []
    for number in range(num_rows):
        ids = [*prefix, *pairs[number // 2], *(random_.randrange(vocabulary) for _ in range(own))]
        rows.append(Row(tuple(ids), tuple([-100] * (len(ids) - completion) + ids[len(ids) - completion :])))
    return rows
