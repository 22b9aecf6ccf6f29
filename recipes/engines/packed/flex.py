"""Tree attention on a GPU: flex_attention (Dong et al. 2024) with the tree's rule as its mask, tried before it is used.

A mask of tokens × tokens is never made. Which blocks of keys a block of queries sees, in whole or in part, follows from
the first and the last place at which the block's keys stop being seen.
"""

import logging
from functools import cache
from typing import Any

import torch
from torch.nn import functional

BLOCK = 128  # tokens; what flex_attention's kernels are tuned for
MIN_WIDTH = 16  # of a head: its kernels take no less
MAX_KINDS = 64  # of calls it is compiled for: one row or many, one block or many, with gradients or without
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}  # of the largest number

_log = logging.getLogger(__name__)
_failed: list[str] = []


def why_not() -> str | None:
    """Why flex_attention is not used, where it was tried and failed."""
    return _failed[0] if _failed else None


def block_mask(stops: torch.Tensor) -> Any:
    """The mask of ``attention.Trees``, as flex_attention takes it.

    Args:
        stops: (rows, tokens): where each key stops being seen.
    """
    from torch.nn.attention.flex_attention import BlockMask

    rows, size = stops.shape
    blocks = -(-size // BLOCK)
    by_block = functional.pad(stops, (0, blocks * BLOCK - size), value=size).view(rows, 1, 1, blocks, BLOCK)
    start = torch.arange(blocks, device=stops.device) * BLOCK
    earlier = start[None, :] < start[:, None]  # (query block, key block)
    some = earlier & (by_block.amax(-1) > start[:, None])
    whole = earlier & (by_block.amin(-1) >= start[:, None] + BLOCK)
    part = (some & ~whole) | torch.eye(blocks, dtype=torch.bool, device=stops.device)
    return BlockMask.from_kv_blocks(
        *_in_order(part), *_in_order(whole), BLOCK_SIZE=BLOCK, mask_mod=_rule(stops), seq_lengths=(size, size)
    )


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, scale: float | None) -> Any:
    """Attention with a block mask, (rows, heads, tokens, width); None where flex_attention cannot be used."""
    if _failed:
        return None
    try:
        return _compiled()(query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # of the compiler, in many forms
        _give_up(f"{type(error).__name__}: {error}")
        return None


@cache
def works(heads: int, key_heads: int, width: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether flex_attention compiles on this device, forward and backward, and gives what a dense mask gives."""
    if device.type != "cuda":
        return False
    if width < MIN_WIDTH:
        return False
    try:
        with torch.inference_mode(False), torch.enable_grad():
            apart = prove(heads, key_heads, width, dtype, device)
    except Exception as error:
        _give_up(f"{type(error).__name__}: {error}")
        return False
    if apart > CLOSE[dtype]:
        _give_up(f"its results differ by {apart:.1e} from those of a dense mask")
    return not _failed


def prove(heads: int, key_heads: int, width: int, dtype: torch.dtype, device: torch.device, flex: Any = None) -> float:
    """The largest difference of outputs and gradients from scaled_dot_product_attention with a dense mask.

    Relative to the largest number of each; on two trees that have blocks of every kind.

    Args:
        flex: Instead of the compiled flex_attention. On a CPU, where it has no backward, outputs alone are compared.
    """
    size = 4 * BLOCK + 40
    stops = torch.arange(1, size + 1, device=device).repeat(2, 1)
    stops[0, :300], stops[0, 300:420], stops[0, 420:500] = 500, 420, 500
    stops[1, :150], stops[1, 150:size] = 150, size
    place = torch.arange(size, device=device)
    dense = ((place[None, :] <= place[:, None]) & (place[:, None] < stops[:, None, :]))[:, None]
    generator = torch.Generator(device).manual_seed(0)
    query, key, value, grad = (
        torch.randn(2, num, size, width, device=device, generator=generator).to(dtype)
        for num in (heads, key_heads, key_heads, heads)
    )
    groups = {"enable_gqa": heads != key_heads}
    found = []
    for attention, mask in (
        (flex or _compiled(), {"block_mask": block_mask(stops)}),
        (functional.scaled_dot_product_attention, {"attn_mask": dense}),
    ):
        leaves = [one.detach().requires_grad_(device.type == "cuda") for one in (query, key, value)]
        out = attention(*leaves, **mask, **groups)
        found.append([out.detach(), *(torch.autograd.grad(out, leaves, grad) if out.requires_grad else ())])
    pairs = ((one.float(), other.float()) for one, other in zip(*found, strict=True))
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def _rule(stops: torch.Tensor) -> Any:
    def sees(row: Any, head: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (query < stops[row, key])

    return sees


def _in_order(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(…, queries, keys) as the number of blocks of each query block, and which, those first."""
    count = blocks.sum(-1, dtype=torch.int32)
    return count, torch.argsort(blocks.to(torch.int32), dim=-1, descending=True, stable=True).to(torch.int32)


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # One kernel for rows of all lengths; a limit that is passed is an error, never a slow way in silence.
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, MAX_KINDS)

    def flex(query: Any, key: Any, value: Any, **more: Any) -> Any:
        return flex_attention(query, key, value, **more, kernel_options={"BACKEND": "TRITON"})

    return torch.compile(flex, dynamic=True, fullgraph=True)


def _give_up(why: str) -> None:
    if not _failed:
        _failed.append(" ".join(why.split())[:300])
        _log.warning("flex_attention is not used, a dense mask takes its place: %s", _failed[0])
