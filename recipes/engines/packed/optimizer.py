"""The learning rate of a step, and one step of Adam or AdamW on one trial's row of a chunk."""

import math
from typing import Any

import torch

from recipes.schema import Recipe

WARMUP_START = 0.1  # the warm-up begins at this share of the peak


def lr_at(recipe: Recipe, step: int) -> float:
    """The learning rate of optimizer step ``step``, counted from 0, by the formula of NeMo AutoModel's scheduler."""
    peak, schedule, last = recipe.optimizer.lr, recipe.schedule, recipe.train.max_steps
    floor, warmup = peak * schedule.min_lr_ratio, schedule.warmup_steps
    if warmup > 0 and step <= warmup:
        start = WARMUP_START * peak
        return start + (peak - start) * step / warmup
    if schedule.name == "constant":
        return peak
    done = min(1.0, (step - warmup) / (last - warmup))
    left = 1.0 - done if schedule.name == "linear" else 0.5 * (math.cos(math.pi * done) + 1.0)
    return floor + left * (peak - floor)


def adam_step(
    recipe: Recipe, step: int, weights: torch.Tensor, grads: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> None:
    """Change one trial's weights and moments in place, all (parameters,) in float32; zeros with zero gradients stay.

    The gradient is first scaled down to the norm ``train.clip``, as ``torch.nn.utils.clip_grad_norm_`` does. The fused
    operator takes one pass over the four tensors, several times faster than arithmetic over all trials at once.

    Args:
        step: Counted from 0.
    """
    optimizer = recipe.optimizer
    too_large = ((torch.linalg.vector_norm(grads) + 1e-6) / recipe.train.clip).clamp_(min=1.0)
    fused: Any = torch._fused_adamw_ if optimizer.name == "adamw" else torch._fused_adam_
    fused(
        [weights],
        [grads],
        [first],
        [second],
        [],
        [torch.full((), float(step + 1), device=weights.device)],  # filled there: a copy would wait for the GPU
        lr=lr_at(recipe, step),
        beta1=optimizer.betas[0],
        beta2=optimizer.betas[1],
        weight_decay=optimizer.weight_decay,
        eps=optimizer.eps,
        amsgrad=False,
        maximize=False,
        grad_scale=too_large,
        found_inf=None,
    )
