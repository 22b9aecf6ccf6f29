"""Cross-entropy at the completion's tokens alone, a slice of the vocabulary's logits at a time.

The logits are the largest tensor of a small model's step and none of them is kept: each slice is turned into the
gradient of its hidden states at once, in forward (Hsu et al. 2024, Liger Kernel, fuse the same two).
"""

from typing import Any

import torch
from torch.nn import functional

from recipes.engines.packed.memory import MAX_LOGITS
from recipes.engines.packed.product import linear, padded, suits


def completion_losses(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, counts: list[int], weights: list[float]
) -> torch.Tensor:
    """The summed loss of each run of targets, weighted.

    Args:
        hidden: (targets, width): the outputs that predict, those of a run together, in the order of ``counts``.
        head: (vocabulary, width): the frozen output projection.
        targets: (targets,) token ids.
        counts: Targets of each run: of a trial, or of one of its rows.
        weights: Of each run's losses, e.g. 1 / tokens of a trial's batch.

    Returns:
        (runs,) in nats, float32. Each run is summed by itself, so a trial's neighbours do not change its rounding.
    """
    return _CompletionLosses.apply(hidden, head, targets, tuple(counts), tuple(weights))


class _CompletionLosses(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, hidden: Any, head: Any, targets: Any, counts: tuple[int, ...], weights: tuple[float, ...]
    ) -> Any:
        needs_grad = ctx.needs_input_grad[0]
        weight = torch.cat(
            [
                hidden.new_full((count,), value, dtype=torch.float32)
                for count, value in zip(counts, weights, strict=True)
            ]
        )
        nats = hidden.new_empty(targets.shape, dtype=torch.float32)
        to_hidden = torch.empty_like(hidden) if needs_grad else None
        step = max(1, MAX_LOGITS[hidden.device.type] // head.shape[0])
        for start in range(0, targets.shape[0], step):
            part = slice(start, min(start + step, targets.shape[0]))
            num = part.stop - start
            rows = padded(num, hidden.device, hidden.dtype)
            fast = suits(rows, hidden)
            every = linear(functional.pad(hidden[part], (0, 0, 0, rows - num)), head, None, fast).float()
            logits = every[:num]  # without the padding
            right = logits.gather(1, targets[part, None]).squeeze(1)
            most = logits.amax(1)
            powers = logits.sub_(most[:, None]).exp_()
            total = powers.sum(1)
            nats[part] = total.log() + (most - right)
            if to_hidden is not None:
                share = powers.mul_((weight[part] / total)[:, None])  # softmax, weighted
                share.scatter_add_(1, targets[part, None], -weight[part, None])
                to_hidden[part] = linear(every.to(head.dtype), head.t(), None, fast)[:num]
        ctx.save_for_backward(to_hidden)
        ctx.counts = counts
        return torch.stack([part.sum() * value for part, value in zip(nats.split(counts), weights, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (to_hidden,) = ctx.saved_tensors
        scale = torch.cat([grad.expand(count) for grad, count in zip(grads[0], ctx.counts, strict=True)])
        return to_hidden * scale[:, None].to(to_hidden.dtype), None, None, None, None
