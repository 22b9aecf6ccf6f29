"""Packs and plain PEFT trials on a random base that never was on a disk: what ``tests.benchmarks.gpu`` times."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recipes.engines.packed.rows import Row
from recipes.engines.protocol import Job
from recipes.schema import Base, Recipe
from tests.benchmarks.shapes import random_rows
from tests.recipes.tiny import tiny_settings

LLAMA_3_1_8B: dict[str, Any] = {  # its configuration on the Hugging Face hub
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
}
TINY: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
}
# With heads wide enough for a GPU's attention.
EXACT: dict[str, Any] = {**TINY, "hidden_size": 256, "num_hidden_layers": 4, "initializer_range": 0.1}

Step = Callable[[], None]


@dataclass(frozen=True)
class Setting:
    """Where and on what the parts run.

    Attributes:
        small: A rehearsal: its figures mean nothing.
        repeats: Turns of each comparison, at most.
    """

    small: bool
    repeats: int

    @property
    def device(self) -> str:
        return "cpu" if self.small else "cuda"

    @property
    def dtype(self) -> str:
        return "float32" if self.small else "bfloat16"

    @property
    def shape(self) -> dict[str, Any]:
        return TINY if self.small else LLAMA_3_1_8B

    @property
    def trials(self) -> int:
        return 4 if self.small else 20

    def tokens(self, count: int) -> int:
        """So many, or in a rehearsal a tenth of them."""
        return max(4, count // 10) if self.small else count

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if not self.small:
            import torch

            torch.cuda.synchronize()


class Spelled:
    """A tokenizer of texts that spell the numbers of their tokens: rows are of exactly the length that is wanted."""

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **_: Any) -> list[int]:
        """The tokens of all messages, with nothing added."""
        return [int(word) for message in messages for word in message["content"].split()]


def plain_model(shape: dict[str, Any], dtype: str, device: str) -> Any:
    """A Llama with random weights, made where it will be; the same each time."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(**shape, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0)
    with torch.device(device):
        made = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    return made.eval()


def network_of(shape: dict[str, Any], dtype: str, device: str) -> Any:
    """The same, as the packed engine has it."""
    from recipes.engines.packed.network import Network

    loaded = (plain_model(shape, dtype, device), Spelled())
    return Network("random", Base(path="random", dtype=dtype), "gpu" if device == "cuda" else "cpu", loaded)


@cache
def base(setting: Setting) -> Any:
    """The base of all packs of a setting."""
    return network_of(setting.shape, setting.dtype, setting.device)


def settings_of(place: int, rows: int, **more: Any) -> dict[str, Any]:
    """A trial that takes all its rows at each step, and is never validated."""
    overrides = {
        "lora__rank": 16,
        "lora__alpha": 32,
        "lora__dropout": 0.0,
        "optimizer__lr": 1e-4,
        "schedule__warmup_steps": 2,
        "train__batch_size": rows,
        "train__micro_batch_size": rows,
        "train__max_steps": 1_000_000,
        "train__validate_every": 1_000_000,
        "train__seed": place,
    }
    packed = more.pop("packed", {})
    return {**tiny_settings(Path("random"), **{**overrides, **more}), "engine": "packed", "packed": packed}


def batches(setting: Setting, trials: int, rows: int, shared: int, own: int, completion: int) -> list[list[Row]]:
    """The rows of each trial."""
    shared, own, completion = (setting.tokens(count) if count else 0 for count in (shared, own, completion))
    vocabulary = setting.shape["vocab_size"]
    return [random_rows(rows, shared, own, completion, seed, vocabulary) for seed in range(trials)]


def pack_of(
    network: Any, folder: Path, rows: Sequence[Sequence[Row]], chunk: int | None = None, **settings: Any
) -> Any:
    """A pack with a trial for each batch, admitted and asked to train for ever.

    Args:
        folder: For the rows' files; a new one.
        chunk: How many trials share a pass, where the planner is not to find it out.
        settings: Overrides of all trials' recipes, by ``group__key``; ``packed`` of the engine's own block.
    """
    from recipes.engines.packed.pack import Pack
    from recipes.engines.packed.planner import Planner

    folder.mkdir(parents=True)
    known = {str(1 << power): chunk for power in range(24)} if chunk else {}
    pack = Pack(network, Planner(network.device.type, known))
    validation = _write(folder / "validation.jsonl", rows[0][:1])
    for place, batch in enumerate(rows):
        recipe = settings_of(place, len(batch), **settings)
        train = _write(folder / f"{place}.jsonl", batch)
        device = "gpu" if network.device.type == "cuda" else "cpu"
        pack.ask(pack.admit(Job(recipe, "random", train, validation, folder, device, 1), None))
    return pack


def rounds(setting: Setting, pack: Any) -> Step:
    """One optimizer step of all trials; those in which the planner decides are done before it is returned."""

    def step() -> None:
        pack.round()
        setting.wait()

    for count in itertools.count(1):
        known = len(pack.planner.known)
        step()
        if count >= 3 and (known or count >= 16):
            return step
    raise AssertionError


def peft_of(setting: Setting, rows: Sequence[Sequence[Row]]) -> Step:
    """A step of as many trials, one after the other, in plain PEFT.

    One trial stands for all: they are of one size, and a GPU does not hold a base for each.
    """
    import torch

    from tests.peers import PeftTrial

    model = plain_model(setting.shape, setting.dtype, setting.device)
    trial = PeftTrial(model, Recipe.model_validate(settings_of(0, len(rows[0]))))

    def step() -> None:
        with torch.device(setting.device):
            for batch in rows:
                trial.step(batch)
        setting.wait()

    step()
    return step


def _write(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            first = sum(label == -100 for label in row.labels)
            parts = {"user": row.ids[:first], "assistant": row.ids[first:]}
            messages = [{"role": role, "content": " ".join(map(str, ids))} for role, ids in parts.items()]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path
