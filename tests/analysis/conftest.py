"""A synthetic sweep in a real ledger, and a truly tiny model with a PEFT adapter."""

import json
from pathlib import Path

import pytest

from tests.analysis.synthetic import Tiny, items, synthetic
from tracking.ledger import SweepState


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def state(home: Path) -> SweepState:
    return synthetic(home)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A random Llama of 2 layers, hidden 32, with a word tokenizer and a LoRA adapter whose B is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    words = ["<unk>", "<eos>", *(f"w{index}" for index in range(62))]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    base = LlamaForCausalLM(config)
    base.save_pretrained(folder / "base")
    fast.save_pretrained(folder / "base")
    model = get_peft_model(
        base, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder / "adapter")
    return Tiny(folder / "base", folder / "adapter")


@pytest.fixture
def with_adapters(home: Path, tiny: Tiny) -> SweepState:
    """The synthetic sweep with an adapter, settings and items for every trial, on a base whose identity is known."""
    import shutil

    from recipes.bases import identity
    from recipes.schema import Base

    state = synthetic(home)
    for trial in state.trials.values():
        folder = state.folder / "trials" / trial.id
        shutil.copytree(tiny.adapter, folder / "adapter")
        (folder / "trial.yaml").write_text("optimizer: {lr: 5e-3}\nbase: {dtype: float32}\n", encoding="utf-8")
        (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items()), encoding="utf-8")
    state.facts["base_identity"] = identity(Base(path=str(tiny.base)), Path())
    return state
