"""Make the demo's base model: ``python -m recipes.commerce.pretrain`` (or ``make base``).

A Llama-3.1-shaped model with a tokenizer of its own and the Llama 3.1 chat format, pre-trained on
``recipes.commerce.corpus``. Writes the model in bfloat16 with ``pretrain.json`` beside it: seed, settings, the loss
over time, versions and the SHA-256 of the weights.
"""

import argparse
import hashlib
import itertools
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

from recipes.commerce.corpus import BEGIN, END, END_HEADER, END_TURN, START_HEADER, chat, documents
from recipes.commerce.task import rows

BASE_DIR = Path(__file__).parent / "base"
VOCAB_SIZE = 2048
CONTEXT = 384  # tokens of one pre-training row
BATCH = 10  # rows a step
PEAK_LR = 3e-3
FLOOR = 0.05  # of the peak, at the end of the cosine
WARMUP_STEPS = 100

# As Llama 3.1 renders a conversation, with the assistant's words marked for loss masks.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{%- if message['role'] == 'assistant' %}"
    "{% generation %}{{- message['content'] + '<|eot_id|>' }}{% endgeneration %}"
    "{%- else %}{{- message['content'] + '<|eot_id|>' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
# The words of Llama 3's tokenizer: contractions, letters, up to three digits, punctuation, line ends, spaces.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(seed: int) -> Any:
    """A byte-level BPE over the demo's own text, as a ``PreTrainedTokenizerFast`` with the Llama 3.1 special tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [BEGIN, END, START_HEADER, END_HEADER, END_TURN, "<|finetune_right_pad_id|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    task = (
        chat(
            *(
                m["content"] if isinstance(m["content"], str) else json.dumps(m["content"], separators=(",", ":"))
                for m in row["messages"]
            )
        )
        for row in rows(1500, seed=1)
    )
    tokenizer.train_from_iterator(itertools.chain(itertools.islice(documents(seed), 15000), task), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END_TURN,
        pad_token="<|finetune_right_pad_id|>",
        model_max_length=1024,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: Any, seed: int) -> Any:
    """An untrained Llama of about two million parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batches(tokenizer: Any, seed: int) -> Any:
    """Rows of ``CONTEXT`` token ids, documents packed one after another: tensors of shape (BATCH, CONTEXT)."""
    import torch

    stream: list[int] = []
    for document in documents(seed):
        stream += [tokenizer.bos_token_id, *tokenizer.encode(document, add_special_tokens=False)]
        if len(stream) >= BATCH * CONTEXT:
            yield torch.tensor(stream[: BATCH * CONTEXT]).view(BATCH, CONTEXT)
            stream = stream[BATCH * CONTEXT :]


def pretrain(steps: int, seed: int, threads: int, out: Path) -> None:
    """Pre-train for ``steps`` steps of ``BATCH`` x ``CONTEXT`` tokens and write the model to ``out``."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    tokenizer = train_tokenizer(seed)
    model = build_model(tokenizer, seed)
    num_parameters = sum(p.numel() for p in model.parameters())
    print(
        f"vocabulary {len(tokenizer)} · {num_parameters:,} parameters · {steps} steps of {BATCH}x{CONTEXT}", flush=True
    )
    decay = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LR, betas=(0.9, 0.98), fused=True)
    log: list[dict[str, float]] = []
    start = time.perf_counter()
    recent: list[float] = []
    for step, ids in enumerate(itertools.islice(batches(tokenizer, seed), steps)):
        done = step / max(1, steps - 1)
        cosine = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, (step + 1) / WARMUP_STEPS) * cosine
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            entry = {"step": step + 1, "loss": sum(recent) / len(recent), "seconds": time.perf_counter() - start}
            recent.clear()
            log.append({key: round(value, 4) for key, value in entry.items()})
            print(f"step {step + 1:5d}  loss {entry['loss']:.4f}  {entry['seconds']:.0f} s", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            save(model, tokenizer, out)
    weights = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    record = {
        "script": "recipes/commerce/pretrain.py",
        "seed": seed,
        "steps": steps,
        "tokens": steps * BATCH * CONTEXT,
        "num_parameters": num_parameters,
        "threads": threads,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "sha256": {"model.safetensors": weights},
        "log": log,
    }
    (out / "pretrain.json").write_text(json.dumps(record, indent=1) + "\n")


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """Write tokenizer and weights, the weights in bfloat16 to keep the repository small."""
    import copy

    import torch

    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=BASE_DIR)
    args = parser.parse_args()
    pretrain(args.steps, args.seed, args.threads, args.out)


if __name__ == "__main__":
    main()
