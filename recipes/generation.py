"""Answering with a base model and, where there is one, an adapter in plain PEFT: in batches, greedily or drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recipes.guiding import guides
from recipes.sampling import Sampler, Sampling
from recipes.schema import Base

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Model:
    """A loaded model with its tokenizer, ready to answer."""

    network: Any
    tokenizer: Any
    max_new_tokens: int
    batch_size: int

    def answer(
        self,
        prompts: Sequence[Messages],
        schema: dict[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
        sampling: Sampling | None = None,
        keys: Sequence[str] | None = None,
    ) -> list[str]:
        """The assistant's text for each conversation, in order; the same every time.

        Args:
            prompts: Conversations that end with the user's turn.
            schema: A JSON schema that every answer is forced into, token by token; see ``recipes.guiding``.
            progress: Called with the number of answers so far.
            sampling: How answers are drawn; None takes the likeliest token each time.
            keys: Of the answers that are drawn, see ``recipes.sampling``; the places of their prompts by default.
        """
        import torch

        keys = list(map(str, range(len(prompts)))) if keys is None else keys

        order = sorted(range(len(prompts)), key=lambda place: sum(len(m["content"]) for m in prompts[place]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            with torch.inference_mode():
                sampler = Sampler(sampling, [keys[place] for place in places]) if sampling else None
                texts = self._batch([prompts[place] for place in places], schema, sampler)
            for place, text in zip(places, texts, strict=True):
                answers[place] = text
            if progress:
                progress(start + len(places))
        return answers

    def _batch(self, prompts: Sequence[Messages], schema: dict[str, Any] | None, sampler: Sampler | None) -> list[str]:
        rendered = [
            self.tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
            for prompt in prompts
        ]
        batch = self.tokenizer(rendered, return_tensors="pt", padding=True, add_special_tokens=False)
        batch = batch.to(self.network.device)
        masks = [_SchemaProcessor(self.tokenizer, schema, self.max_new_tokens, len(prompts))] if schema else []
        processors = [*masks, *([sampler] if sampler else [])]  # what is drawn is what the schema allows
        out = self.network.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            logits_processor=processors or None,
        )
        new = out[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]


class _SchemaProcessor:
    """Masks every token that would leave the schema, for each row of a batch."""

    def __init__(self, tokenizer: Any, schema: dict[str, Any], limit: int, num_rows: int) -> None:
        new = guides(tokenizer, schema, limit)
        self._guides = [new() for _ in range(num_rows)]
        self._started = False

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        for row, guide in enumerate(self._guides):
            if self._started:
                guide.take(int(input_ids[row, -1]))
            guide.mask(scores[row : row + 1])
        self._started = True
        return scores


@lru_cache(maxsize=1)
def _base(path: str, base: Base, device: str) -> tuple[Any, Any]:
    """The base and its tokenizer, kept for the next adapter of the same process."""
    return load_base(path, base, device)


def load_base(path: str, base: Base, device: str) -> tuple[Any, Any]:
    """The base, ready to answer, and its tokenizer, which pads at the left.

    Args:
        path: The base's folder, or its id on the hub.
        base: How it is loaded: type of its weights, revision, attention, quantisation.
        device: "cpu" or "gpu".
    """
    quiet()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"dtype": getattr(torch, base.dtype), "attn_implementation": base.attention}
    if base.quantize == "nf4":
        from transformers import BitsAndBytesConfig

        # As recipes.engines.nemo.config quantises it for training.
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    network = AutoModelForCausalLM.from_pretrained(path, revision=base.revision or "main", **options)
    tokenizer = AutoTokenizer.from_pretrained(path, revision=base.revision or "main", padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return network.to("cuda" if device == "gpu" else "cpu").eval(), tokenizer


def end_tokens(network: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's, and those of the model's own generation settings."""
    configured = getattr(network.generation_config, "eos_token_id", None)
    more = configured if isinstance(configured, list) else [configured]
    return tuple(dict.fromkeys(end for end in (tokenizer.eos_token_id, *more) if end is not None))


def quiet() -> None:
    """Keep the libraries' notes about themselves from the terminal."""
    import logging

    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def best_device() -> str:
    """ "gpu" where there is one, else "cpu"."""
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def load(
    path: str, base: Base, adapter: Path | None, *, max_new_tokens: int, batch_size: int, device: str = "cpu"
) -> Model:
    """Load a base and put an adapter on it with plain PEFT.

    The base stays in memory for the next call; an adapter that a former call put on it is taken off first.

    Args:
        path: The base's folder, or its id on the hub.
        base: How it is loaded: type of its weights, revision, attention, quantisation.
        adapter: A PEFT folder; None for the untouched base.
    """
    network, tokenizer = _base(path, base, device)
    network = _plain(network)
    if adapter is not None:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter).eval()
    return Model(network, tokenizer, max_new_tokens, batch_size)


def _plain(network: Any) -> Any:
    """The base without the layers that PEFT may have put into it."""
    if any("lora_" in name for name, _ in network.named_modules()):
        from peft.tuners.lora import LoraLayer

        for name, module in list(network.named_modules()):
            if isinstance(module, LoraLayer):
                parent, _, leaf = name.rpartition(".")
                setattr(network.get_submodule(parent), leaf, module.get_base_layer())
        network._hf_peft_config_loaded = False
        if hasattr(network, "peft_config"):
            del network.peft_config
    return network


def validation_loss(model: Model, rows: Sequence[Messages]) -> float:
    """Mean negative log-likelihood (nats) over the tokens of the assistant's turns, as the engines report it."""
    import torch

    total, count = 0.0, 0
    with torch.inference_mode():
        for messages in rows:
            ids, labels = tokens_and_labels(model.tokenizer, messages)
            logits = model.network(input_ids=torch.tensor([ids], device=model.network.device)).logits[0, :-1].float()
            targets = torch.tensor(labels[1:], device=logits.device)
            total += float(torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100, reduction="sum"))
            count += int((targets != -100).sum())
    return total / max(1, count)


def tokens_and_labels(tokenizer: Any, messages: Messages) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and the same with -100 wherever the loss must not look.

    The loss looks at the assistant's words and the token that ends its turn, never at the header before them.
    """
    ids: list[int] = []
    labels: list[int] = []
    for place, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(
            list(messages[:place]), add_generation_prompt=True, tokenize=True, return_dict=False
        )
        whole = tokenizer.apply_chat_template(list(messages[: place + 1]), tokenize=True, return_dict=False)
        labels += [-100] * (len(before) - len(ids)) + whole[len(before) :]
        ids = whole
    return ids, labels
