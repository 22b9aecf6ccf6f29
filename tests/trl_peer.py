"""What a user would write today for a preference trial: trl's DPOTrainer on a PEFT adapter. The yardstick of ours."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.engines.packed.optimizer import lr_at
from recipes.engines.packed.rows import Pairs, order_of
from recipes.engines.start import start_a
from recipes.engines.targets import select
from recipes.schema import Preference, Recipe

MARGINS, ACCURACY = "rewards/margins", "rewards/accuracies"


@dataclass
class Told:
    """What trl says of a trial, step by step.

    Attributes:
        losses: Of the training batch.
        validation: At each report, of the validation pairs, by trl's names; none where they are not asked for.
        trainer: The trainer, once it is done.
    """

    losses: list[float] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)
    trainer: Any = None


def loss_terms(preference: Preference) -> tuple[list[str], list[float]]:
    """A preference of ours as trl's losses and their weights.

    trl's ``sigmoid`` smooths no labels, its ``robust`` is ``((1 - s) A - s B) / (1 - 2 s)`` with A the loss of a pair
    and B that of the pair turned round. Ours, ``(1 - s) A + s B``, is then ``2 (1 - s) A - (1 - 2 s) robust``.
    """
    smoothing = preference.label_smoothing
    kinds: list[str] = [preference.loss]
    weights = [1.0]
    if smoothing and preference.loss == "sigmoid":
        kinds, weights = ["sigmoid", "robust"], [2 * (1 - smoothing), -(1 - 2 * smoothing)]
    if preference.sft_weight:
        kinds, weights = [*kinds, "sft"], [*weights, preference.sft_weight]
    return kinds, weights


def adapted(base: Path, recipe: Recipe, start: Path | None) -> Any:
    """The base with the trial's adapter, as every engine of ours starts it."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if start is not None:
        return PeftModel.from_pretrained(network, start, is_trainable=True)
    linear = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
    lora = recipe.lora
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=select(lora.targets, linear), bias="none")
    model = get_peft_model(network, config)
    with torch.no_grad():
        for name, module in model.base_model.model.named_modules():
            if hasattr(module, "lora_A") and "default" in module.lora_A:
                weight = module.lora_A["default"].weight
                weight.copy_(start_a(name, weight.shape[0], weight.shape[1], recipe.train.seed))
    return model


def train(
    base: Path, recipe: Recipe, train_path: Path, validation_path: Path | None, folder: Path, start: Path | None = None
) -> Told:
    """A trial by trl, over the pairs that ours sees at the same steps.

    Args:
        validation_path: Evaluated in one batch, whenever ours reports.
        folder: trl's own.
    """
    told = Told()
    told.trainer = make_trainer(base, recipe, train_path, validation_path, folder, told, start)
    told.trainer.train()
    for entry in told.trainer.state.log_history:
        if f"eval_{MARGINS}" in entry:
            told.validation.append({name.removeprefix("eval_"): value for name, value in entry.items()})
    return told


def make_trainer(
    base: Path,
    recipe: Recipe,
    train_path: Path,
    validation_path: Path | None,
    folder: Path,
    told: Told,
    start: Path | None = None,
) -> Any:
    """The trainer of ``train``, before its first step."""
    os.environ["TQDM_DISABLE"] = "1"
    import datasets
    import torch
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = [json.loads(line) for line in train_path.read_text(encoding="utf-8").splitlines()]
    order = order_of(recipe, Pairs(train_path, tokenizer))
    seen = [rows[place] for step in range(recipe.train.max_steps) for place in order.rows_of(step)]
    beside = None
    if validation_path is not None:
        beside = _dataset([json.loads(line) for line in validation_path.read_text(encoding="utf-8").splitlines()])
    model = adapted(base, recipe, start)
    settings = recipe.optimizer
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = kind(
        trained, lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_at(recipe, step) / settings.lr)
    kinds, weights = loss_terms(recipe.preference)
    batch = recipe.train.micro_batch_size

    class InOrder(DPOTrainer):  # type: ignore[misc]
        """Sees the pairs in the order that they are given in, and keeps each step's loss."""

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            told.losses.append(float(loss))
            return loss

    config = DPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=len(beside) if beside is not None else 1,
        gradient_accumulation_steps=recipe.train.batch_size // batch,
        max_steps=recipe.train.max_steps,
        max_grad_norm=recipe.train.clip,
        beta=recipe.preference.beta,
        loss_type=kinds,
        loss_weights=weights,
        label_smoothing=recipe.preference.label_smoothing,
        precompute_ref_log_probs=True,
        max_length=None,
        bf16=False,
        fp16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="steps" if beside is not None else "no",
        eval_steps=recipe.train.validate_every,
        disable_tqdm=True,
    )
    return InOrder(
        model=model,
        args=config,
        train_dataset=_dataset(seen),
        eval_dataset=beside,
        processing_class=tokenizer,
        optimizers=(optimizer, schedule),
    )


def _dataset(rows: Sequence[dict[str, Any]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(
        [
            {
                "prompt": row["messages"][:-1],
                "chosen": row["messages"][-1:],
                "rejected": [{"role": "assistant", "content": row["rejected"]}],
            }
            for row in rows
        ]
    )
