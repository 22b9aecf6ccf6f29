"""What a layer does token by token, on a GPU: a kernel for each, in Triton, where eager torch runs several.

Norms and the gate take no arithmetic to speak of, but each of eager torch's kernels for them reads and writes all of a
layer's activations. Numbers are rounded where transformers' own code rounds them, so results stay what they are without
these kernels, but for the order of a norm's sum.
"""

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 1024  # numbers that a program of the gate's kernels takes


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``x / rms(x) * weight`` over the last dimension, (…, width), as transformers' Llama, Qwen and Mistral have it.

    Args:
        weight: (width,); frozen, so it gets no gradient.
    """
    return _Norm.apply(x, weight, eps)


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up``, number by number. Keeps those two for backward, and not ``silu(gate)``."""
    return _Gated.apply(gate, up)


def rotated(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys with their positions turned in (rotary embeddings, Su et al. 2021), as transformers' Llama does.

    Args:
        query: (rows, heads, tokens, width), where a token's heads lie side by side; ``key`` too, with heads of its own.
        cos: (rows, tokens, width), or (1, tokens, width) where all rows have the same positions; its second half is
            its first once more. ``sin`` too.
    """
    turned: tuple[torch.Tensor, torch.Tensor] = _Rotated.apply(query, key, cos, sin)
    return turned


class _Norm(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, eps: float) -> Any:
        rows, width = x.reshape(-1, x.shape[-1]).contiguous(), x.shape[-1]
        y = torch.empty_like(rows)
        scale = torch.empty(rows.shape[0], device=x.device, dtype=torch.float32)
        _norm[(rows.shape[0],)](
            rows, weight, y, scale, eps, width, triton.next_power_of_2(width), num_warps=_warps(width)
        )
        ctx.save_for_backward(rows, weight, scale)
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        rows, weight, scale = ctx.saved_tensors
        width = rows.shape[1]
        grad = grads[0].reshape(rows.shape).contiguous()
        to_x = torch.empty_like(rows)
        block = triton.next_power_of_2(width)
        _norm_backward[(rows.shape[0],)](grad, rows, weight, scale, to_x, width, block, num_warps=_warps(width))
        return to_x.view(grads[0].shape), None, None


class _Gated(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, gate: Any, up: Any) -> Any:
        gate, up = gate.contiguous(), up.contiguous()
        y = torch.empty_like(gate)
        _gate[(triton.cdiv(y.numel(), BLOCK),)](gate, up, y, y.numel(), BLOCK)
        ctx.save_for_backward(gate, up)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gate, up = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
        _gate_backward[(triton.cdiv(gate.numel(), BLOCK),)](grad, gate, up, to_gate, to_up, gate.numel(), BLOCK)
        return to_gate, to_up


class _Rotated(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, cos: Any, sin: Any) -> Any:
        cos, sin = cos.contiguous(), sin.contiguous()
        ctx.save_for_backward(cos, sin)
        return _turn(query, cos, sin, 1.0), _turn(key, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, sin, -1.0), _turn(grads[1], cos, sin, -1.0), None, None


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: float) -> torch.Tensor:
    """By the angles or, where ``direction`` is -1, back."""
    rows, heads, tokens, width = x.shape
    x = x.transpose(1, 2).contiguous()  # as it lies there in most cases: no copy
    y = torch.empty_like(x)
    per_row = tokens * width if cos.shape[0] > 1 else 0
    block = triton.next_power_of_2(heads)
    half = triton.next_power_of_2(width // 2)
    _rotate[(rows * tokens,)](x, cos, sin, y, heads, tokens, width, per_row, direction, half, block)
    return y.transpose(1, 2)


def _warps(width: int) -> int:
    return 1 if width <= 256 else 4 if width <= 2048 else 8


@triton.jit  # type: ignore[untyped-decorator]
def _norm(x, weight, y, scale, eps, width, block: tl.constexpr):  # type: ignore[no-untyped-def]
    start = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, block)
    inside = at < width
    row = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)
    by = 1.0 / tl.sqrt(tl.sum(row * row, axis=0) / width + eps)
    normed = (row * by).to(y.dtype.element_ty)
    weights = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + start + at, (normed.to(tl.float32) * weights).to(y.dtype.element_ty), mask=inside)
    tl.store(scale + tl.program_id(0), by)


@triton.jit  # type: ignore[untyped-decorator]
def _norm_backward(grad, x, weight, scale, to_x, width, block: tl.constexpr):  # type: ignore[no-untyped-def]
    start = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, block)
    inside = at < width
    by = tl.load(scale + tl.program_id(0))
    normed = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32) * by
    weights = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    to_y = tl.load(grad + start + at, mask=inside, other=0.0).to(tl.float32)
    to_normed = (to_y * weights).to(to_x.dtype.element_ty).to(tl.float32)
    along = tl.sum(to_normed * normed, axis=0) / width
    tl.store(to_x + start + at, (by * (to_normed - normed * along)).to(to_x.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gate(gate, up, y, size, block: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < size
    opened = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    silu = (opened * tl.sigmoid(opened)).to(y.dtype.element_ty).to(tl.float32)
    passed = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + at, (silu * passed).to(y.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gate_backward(grad, gate, up, to_gate, to_up, size, block: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < size
    to_y = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
    opened = tl.load(gate + at, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(opened)
    silu = (opened * share).to(to_up.dtype.element_ty).to(tl.float32)
    tl.store(to_up + at, (to_y * silu).to(to_up.dtype.element_ty), mask=inside)
    passed = tl.load(up + at, mask=inside, other=0.0).to(tl.float32)
    to_silu = (to_y * passed).to(to_gate.dtype.element_ty).to(tl.float32)
    slope = share * (1.0 + opened * (1.0 - share))
    tl.store(to_gate + at, (to_silu * slope).to(to_gate.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rotate(x, cos, sin, y, heads, tokens, width, per_row, direction, half: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    token = tl.program_id(0)
    kind = y.dtype.element_ty
    at = tl.arange(0, half)
    head = tl.arange(0, block)
    one = token.to(tl.int64) * heads * width + head[:, None] * width + at[None, :]
    other = one + width // 2
    inside = (head < heads)[:, None] & (at < width // 2)[None, :]
    angle = (token // tokens).to(tl.int64) * per_row + (token % tokens) * width + at
    known = at < width // 2
    cos_one = tl.load(cos + angle, mask=known, other=0.0)[None, :].to(tl.float32)
    cos_other = tl.load(cos + angle + width // 2, mask=known, other=0.0)[None, :].to(tl.float32)
    sin_one = tl.load(sin + angle, mask=known, other=0.0)[None, :].to(tl.float32) * direction
    sin_other = tl.load(sin + angle + width // 2, mask=known, other=0.0)[None, :].to(tl.float32) * direction
    x_one = tl.load(x + one, mask=inside, other=0.0).to(tl.float32)
    x_other = tl.load(x + other, mask=inside, other=0.0).to(tl.float32)
    y_one = (x_one * cos_one).to(kind).to(tl.float32) - (x_other * sin_one).to(kind).to(tl.float32)
    y_other = (x_other * cos_other).to(kind).to(tl.float32) + (x_one * sin_other).to(kind).to(tl.float32)
    tl.store(y + one, y_one.to(kind), mask=inside)
    tl.store(y + other, y_other.to(kind), mask=inside)
