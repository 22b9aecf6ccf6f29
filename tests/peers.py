"""What a user would write today, the packed engine's yardstick: a LoRA trial with transformers, PEFT and a loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.engines.packed.optimizer import lr_at
from recipes.engines.packed.rows import Row, Rows, order_of
from recipes.engines.start import start_a
from recipes.engines.targets import select
from recipes.schema import Recipe


class PeftTrial:
    """One trial in plain PEFT.

    Args:
        network: A transformers model of its own; PEFT changes it.
        completion_logits: Compute the vocabulary's projection where the loss looks alone, as a careful user would.
        noise: Standard deviation, relative to each weight, of a disturbance of base and adapter before every step:
            shows what a loss is worth, since each product of each step rounds anew.
    """

    def __init__(
        self, network: Any, recipe: Recipe, *, completion_logits: bool = False, noise: float = 0.0, noise_seed: int = 0
    ) -> None:
        import torch
        from peft import LoraConfig, get_peft_model

        self.recipe, self._completion_logits = recipe, completion_logits
        lora = recipe.lora
        linear = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
        targets = select(lora.targets, linear)
        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none"
        )
        self.model: Any = get_peft_model(network, config)
        self._noise, self._generator = noise, torch.Generator().manual_seed(noise_seed)
        with torch.no_grad():
            for name, module in self.model.base_model.model.named_modules():
                if hasattr(module, "lora_A") and "default" in module.lora_A:
                    weight = module.lora_A["default"].weight
                    weight.copy_(start_a(name, weight.shape[0], weight.shape[1], recipe.train.seed))
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        kind = torch.optim.AdamW if recipe.optimizer.name == "adamw" else torch.optim.Adam
        settings = recipe.optimizer
        self.optimizer = kind(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )
        self.model.train()
        self.done = 0

    def step(self, rows: Sequence[Row]) -> float:
        """One optimizer step on these rows; returns their mean loss."""
        import torch

        if self._noise:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter *= 1 + self._noise * torch.randn(parameter.shape, generator=self._generator)
        count, total = sum(row.num_targets for row in rows), 0.0
        size = self.recipe.train.micro_batch_size
        for start in range(0, len(rows), size):
            loss = self._loss_sum(rows[start : start + size]) / count
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.train.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.recipe, self.done)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return total

    def loss(self, rows: Sequence[Row]) -> float:
        """The mean loss over rows, without training."""
        import torch

        self.model.eval()
        size, total = 8, 0.0
        with torch.inference_mode():
            for start in range(0, len(rows), size):
                total += float(self._loss_sum(rows[start : start + size]))
        self.model.train()
        return total / sum(row.num_targets for row in rows)

    def _loss_sum(self, rows: Sequence[Row]) -> Any:
        import torch

        length = max(len(row.ids) for row in rows)
        ids = torch.tensor([row.ids + (0,) * (length - len(row.ids)) for row in rows])
        mask = torch.tensor([(1,) * len(row.ids) + (0,) * (length - len(row.ids)) for row in rows])
        labels = torch.tensor([row.labels + (-100,) * (length - len(row.labels)) for row in rows])[:, 1:]
        if self._completion_logits:
            inner = self.model.base_model.model
            hidden = inner.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
            logits, labels = inner.lm_head(hidden[labels != -100]), labels[labels != -100]
        else:
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].flatten(0, 1)
            labels = labels.flatten()
        return torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum")


def peft_losses(network: Any, recipe: Recipe, train: Path | Rows, tokenizer: Any, **options: Any) -> list[float]:
    """A trial's training losses, step by step, over the rows that every engine of ours sees."""
    rows = train if isinstance(train, Rows) else Rows(train, tokenizer)
    trial = PeftTrial(network, recipe, **options)
    order = order_of(recipe, rows)
    return [trial.step([rows[place] for place in order.rows_of(step)]) for step in range(recipe.train.max_steps)]
