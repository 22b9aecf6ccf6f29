"""A frozen linear layer with the adapters of many trials: ``y = x W' + s (x A') B'``, one A and B for each trial.

Ranks are padded with zeros to the chunk's largest. The padding stays zero: its gradients are products with zeros.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from recipes.engines.packed.product import linear, linears, suits


@dataclass
class Binding:
    """What one layer needs of the trials that are in its next forward passes.

    Attributes:
        a: (trials, rank, in) in the type that the layer computes in.
        b: (trials, out, rank).
        scale: (trials, 1, 1), float32: alpha / rank of each trial.
        common_scale: The same number where all trials have it in common; else None.
        grad_a, grad_b: float32, of the shapes of ``a`` and ``b``; backward adds to them.
        tick: A scalar that requires gradients, so that autograd visits layers whose input needs none.
        dropout: Makes a mask for the adapters' input, or None.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: torch.Tensor
    common_scale: float | None
    grad_a: torch.Tensor
    grad_b: torch.Tensor
    tick: torch.Tensor
    dropout: Any = None


class PackedLinear(torch.nn.Module):  # type: ignore[misc]
    """Stands in for a ``torch.nn.Linear`` (or bitsandbytes' 4-bit one). Without a binding it is the layer itself."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.binding: Binding | None = None

    @property
    def in_features(self) -> int:
        return int(self.layer.in_features)

    @property
    def out_features(self) -> int:
        return int(self.layer.out_features)

    @property
    def is_quantized(self) -> bool:
        """Whether W is stored in 4 bits."""
        return getattr(self.layer.weight, "quant_state", None) is not None

    def weight(self) -> torch.Tensor:
        """W, (out, in), unpacked where it is stored in 4 bits."""
        weight: Any = self.layer.weight
        if not self.is_quantized:
            return weight
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(trials * rows, tokens, in) to (trials * rows, tokens, out): the rows of a trial are neighbours."""
        if self.binding is None:
            # A 4-bit layer's own forward packs W anew on a CPU, in a way that no dequantize_4bit knows.
            return functional.linear(x, self.weight(), self.layer.bias) if self.is_quantized else self.layer(x)
        flat = x.reshape(self.binding.a.shape[0], -1, x.shape[-1])
        mask = self.binding.dropout(flat) if self.binding.dropout is not None else None
        product: Any = _GpuProduct if x.is_cuda else _PackedProduct
        return product.apply(flat, self.binding.tick, self, self.binding, mask).view(*x.shape[:-1], -1)


class _PackedProduct(torch.autograd.Function):  # type: ignore[misc]
    """The product. Gradients of A and B are added to the binding's buffers instead of going through autograd."""

    @staticmethod
    def forward(ctx: Any, x: Any, tick: Any, layer: PackedLinear, binding: Binding, mask: Any) -> Any:
        trials, tokens, width = x.shape
        fast, fast_each = suits(trials * tokens, x), suits(tokens, x)
        y = linear(x.reshape(trials * tokens, width), layer.weight(), layer.layer.bias, fast).view(trials, tokens, -1)
        h = linears(x if mask is None else x * mask, binding.a, fast_each).mul_(binding.scale)
        _add(y, h, binding.b, fast_each)
        ctx.save_for_backward(x, h, mask)
        ctx.layer, ctx.binding = layer, binding
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, h, mask = ctx.saved_tensors
        binding: Binding = ctx.binding
        grad = grads[0].contiguous()
        trials, tokens, width = grad.shape
        fast, fast_each = suits(trials * tokens, x), suits(tokens, x)
        to_h = linears(grad, binding.b.mT, fast_each).mul_(binding.scale)
        # B's gradient is computed as that of B': libraries are several times slower at a product this narrow.
        binding.grad_b.mT.add_(linears(h.mT, grad.mT, fast_each))
        binding.grad_a.add_(linears(to_h.mT, (x if mask is None else x * mask).mT, fast_each))
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = linear(grad.view(trials * tokens, width), ctx.layer.weight().t(), None, fast)
            to_x = to_x.view(trials, tokens, -1)
            if mask is None:
                _add(to_x, to_h, binding.a.mT, fast_each)
            else:
                to_x.add_(linears(to_h, binding.a.mT, fast_each).mul_(mask))
        return to_x, None, None, None, None


class _GpuProduct(torch.autograd.Function):  # type: ignore[misc]
    """The same in fewer kernels: to start one takes longer than a narrow product of a few thousand tokens.

    The frozen layer's product adds what the adapters' left, at no time of its own; the other way round, theirs would
    read and write all of the output once more. A scale that all trials share is a factor of the products.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, tick: Any, layer: PackedLinear, binding: Binding, mask: Any) -> Any:
        scale, bias = binding.common_scale, layer.layer.bias
        h = torch.bmm(x if mask is None else x * mask, binding.a.mT)
        h = h if scale is not None else h.mul_(binding.scale)
        y = _times(h, binding.b.mT, scale)
        y.view(-1, y.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), layer.weight().t())
        ctx.save_for_backward(x, h, mask)
        ctx.layer, ctx.binding = layer, binding
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, h, mask = ctx.saved_tensors
        binding: Binding = ctx.binding
        grad, scale = grads[0].contiguous(), binding.common_scale
        to_h = torch.bmm(grad, binding.b)
        to_h = to_h if scale is not None else to_h.mul_(binding.scale)
        _add_times(binding.grad_b, grad.mT, h, scale)
        _add_times(binding.grad_a, to_h.mT, x if mask is None else x * mask, scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = _times(to_h, binding.a, scale)
            to_x = to_x if mask is None else to_x.mul_(mask)
            to_x.view(-1, to_x.shape[-1]).addmm_(grad.view(-1, grad.shape[-1]), ctx.layer.weight())
        return to_x, None, None, None, None


def _add(total: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, fast: bool) -> None:
    """``total += x weight'`` of many trials."""
    if fast:
        total.add_(linears(x, weights, fast))
    else:
        total.baddbmm_(x, weights.mT)


def _times(x: torch.Tensor, y: torch.Tensor, scale: float | None) -> torch.Tensor:
    """``scale x y`` of many trials; None is 1."""
    out = x.new_empty(x.shape[0], x.shape[1], y.shape[2])
    return torch.baddbmm(out, x, y, beta=0, alpha=1.0 if scale is None else scale, out=out)


def _add_times(total: torch.Tensor, x: torch.Tensor, y: torch.Tensor, scale: float | None) -> None:
    """``total += scale x y`` of many trials, in the type of ``total``, which may be wider."""
    alpha = 1.0 if scale is None else scale
    if total.dtype == x.dtype:
        total.baddbmm_(x, y, alpha=alpha)
    else:
        torch.baddbmm(total, x, y, alpha=alpha, out_dtype=total.dtype, out=total)
