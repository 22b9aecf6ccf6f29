"""A random Llama of a few thousand weights with the demo's tokenizer, and rows short enough to train on in seconds."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recipes.bases import BUILTIN

DEMO_BASE = BUILTIN["builtin:tiny_commerce"]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
WORDS = ["black", "cotton", "leather", "steel", "oak", "velvet", "glass", "linen", "wool", "bamboo", "silent", "modern"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny products run many times slower on two threads of a busy machine than on one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_base(folder: Path, seed: int = 0, dtype: str = "float32") -> Path:
    """Two layers of width 32 over the demo's vocabulary, with weights drawn from ``seed``."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copy(DEMO_BASE / name, folder / name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, seed: int, std: float = 0.5) -> Path:
    """A PEFT adapter whose both matrices are random, so that it changes every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(network, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=std)
    adapted.save_pretrained(folder)
    return folder


def chat_rows(number: int, start: int = 0) -> list[list[dict[str, str]]]:
    """Conversations of unequal length whose answer repeats a word of the question."""
    rows = []
    for place in range(start, start + number):
        first, second = WORDS[place % 12], WORDS[(place * 5 + 1) % 12]
        question = "Please suggest " + f"{first} and " * (1 + place % 3) + f"{second}."
        rows.append(
            [
                {"role": "system", "content": "Answer the user."},
                {"role": "user", "content": question},
                {"role": "assistant", "content": json.dumps({"products": [first, second]}, separators=(",", ":"))},
            ]
        )
    return rows


def write_rows(path: Path, rows: list[list[dict[str, str]]]) -> Path:
    """The rows as JSONL."""
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows), encoding="utf-8")
    return path


def tiny_settings(base: Path, **overrides: Any) -> dict[str, Any]:
    """A recipe of eleven steps with four reports; ``overrides`` by dotted path, with ``__`` for the dot."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "engine": "nemo",
        "base": {"path": str(base), "dtype": "float32", "attention": "sdpa"},
        "data": {"path": "unused.jsonl"},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": ["*_proj"]},
        "optimizer": {"name": "adamw", "lr": 1e-2, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.1},
        "schedule": {"name": "cosine", "warmup_steps": 2, "min_lr_ratio": 0.1},
        # Twelve rows in twos: an epoch ends at step 6, a report boundary; the last step, 11, is no multiple of 3.
        "train": {"max_steps": 11, "batch_size": 2, "micro_batch_size": 1, "validate_every": 3, "seed": 3},
        "parallel": {"gpus": 1, "strategy": "ddp"},
        "generate": {"max_new_tokens": 16, "batch_size": 4},
    }
    for path, value in overrides.items():
        group, key = path.split("__")
        settings[group][key] = value
    return settings
