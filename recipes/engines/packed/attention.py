"""Attention over prefix trees (see ``tree``), hooked into transformers' own modelling code by name.

A token sees a key if the key comes no later and the key's node, with all below it, has not ended:
``key <= query < stop[key]``. That one line is the mask of any tree, in the order in which ``tree`` lays it out.

On a CPU no mask is made: every node attends to itself causally, and all that lies below a node attends to it in one
call; the parts are merged by their logsumexp, and backward runs through each part with the merged output, as ring
attention does (Liu, Zaharia and Abbeel 2023). On a GPU the same rule is a block mask of flex_attention; see ``flex``.
Where neither is to be had, it is a dense mask.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.nn import functional

from recipes.engines.packed import flex
from recipes.engines.packed.tree import Layout, Node

NAME = "podium_tree"  # of the attention, where transformers looks it up
LONG = 1024  # tokens of a row; of shorter ones cuDNN gains too little
SETTLED = 16  # passes of one shape


@dataclass(frozen=True)
class Part:
    """Rows of a chunk's batch that have the same tree, and its nodes."""

    rows: slice
    nodes: tuple[Node, ...]


class Trees:
    """The trees of a chunk's batch: what attention needs to know of it.

    Args:
        layouts: One for each row of the batch; consecutive equal trees are computed together.
        tokens: Length to which the rows are padded.
    """

    def __init__(self, layouts: Sequence[Layout], tokens: int, device: torch.device) -> None:
        self.tokens, self.device = tokens, device
        self.parts: list[Part] = []
        self._stops: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None
        self._layouts = layouts
        self._block_mask: Any = None
        begin = 0
        for end in range(1, len(layouts) + 1):
            if end == len(layouts) or layouts[end].nodes != layouts[begin].nodes:
                self.parts.append(Part(slice(begin, end), layouts[begin].nodes))
                begin = end

    @property
    def are_rows(self) -> bool:
        """Whether each tree is one plain row, whose padding stands at the right: causal attention needs no mask."""
        return all(len(part.nodes) == 1 for part in self.parts)

    @property
    def stops(self) -> torch.Tensor:
        """Where each key stops being seen, (rows, tokens); a padding token sees itself alone."""
        if self._stops is None:
            stops = torch.arange(1, self.tokens + 1).repeat(len(self._layouts), 1)
            for row, layout in enumerate(self._layouts):
                for node in layout.nodes:
                    stops[row, node.start : node.end] = node.stop
            if self.device.type == "cuda":
                stops = stops.pin_memory()
            self._stops = stops.to(self.device, non_blocking=True)
        return self._stops

    def mask(self) -> torch.Tensor:
        """The dense mask, (rows, 1, tokens, tokens); True where a query (second to last) sees a key (last)."""
        if self._mask is None:
            place = torch.arange(self.tokens, device=self.device)
            query, key = place[:, None], place[None, :]
            self._mask = ((key <= query) & (query < self.stops[:, None, :]))[:, None]
        return self._mask

    def block_mask(self) -> Any:
        """The same for flex_attention."""
        if self._block_mask is None:
            self._block_mask = flex.block_mask(self.stops)
        return self._block_mask


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    trees: Trees | None = None,
    recorder: Any = None,
    cache: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer.

    Args:
        query: (rows, heads, tokens, width), and key and value with fewer heads where groups share them.
        trees: Handed to the model's forward as a keyword, as are the next two; None for plain causal rows.
        recorder: Is handed keys and values; see ``decode.Recorder``.
        cache: Attends in its own way, to what the rows have behind them; see ``decode.Cache``.

    Returns:
        (rows, tokens, heads, width).
    """
    if cache is not None:
        return cache.attend(module.layer_idx, query, key, value, scaling), None
    if recorder is not None:
        recorder.record(module.layer_idx, key, value)
    heads, key_heads, width = query.shape[1], key.shape[1], query.shape[3]
    groups = heads // key_heads
    if query.is_cuda and (trees.are_rows if trees is not None else attention_mask is None):
        return _attend_to_rows(query, key, value, scaling).transpose(1, 2).contiguous(), None
    if trees is not None and flex.works(heads, key_heads, width, query.dtype, query.device):
        out = flex.attend(query, key, value, trees.block_mask(), scaling)
        if out is not None:
            return out.transpose(1, 2).contiguous(), None
    if groups > 1:
        key, value = _repeated(key, groups), _repeated(value, groups)
    if trees is None:
        out = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, is_causal=attention_mask is None, scale=scaling
        )
    elif has_kernels(query.device):
        parts = [
            _TreeAttention.apply(query[part.rows], key[part.rows], value[part.rows], part.nodes, scaling)
            for part in trees.parts
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
    else:
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=trees.mask(), scale=scaling)
    return out.transpose(1, 2).contiguous(), None


class RowKernels:
    """Which kernels attend to plain rows on a GPU: flash attention, or cuDNN's where a shape has come often enough.

    On an H200 a row of 4,096 tokens takes flash attention 1.9 ms forward and backward, and cuDNN 1.0; but cuDNN builds
    its kernels for each shape of rows anew, which takes 0.1 s. PyTorch by itself takes cuDNN's at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._passes: Counter[tuple[int, int]] = Counter()
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            torch.backends.cuda.enable_cudnn_sdp(False)

    def chosen(self, rows: int, tokens: int) -> AbstractContextManager[None]:
        """What a forward pass over so many rows of so many tokens is to run within."""
        if not self._on_gpu or tokens < LONG:
            return nullcontext()
        self._passes[rows, tokens] += 1
        if self._passes[rows, tokens] <= SETTLED:
            return nullcontext()
        from torch.nn.attention import SDPBackend, sdpa_kernel

        order = (
            SDPBackend.CUDNN_ATTENTION,
            SDPBackend.FLASH_ATTENTION,
            SDPBackend.EFFICIENT_ATTENTION,
            SDPBackend.MATH,
        )
        chosen: AbstractContextManager[None] = sdpa_kernel(list(order), set_priority=True)
        return chosen


def register() -> None:
    """Make the attention known to transformers. It makes its own masks, so transformers makes none."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, lambda *args, **kwargs: None)


def is_flexible(config: Any, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether trees of this base go through flex_attention, which is tried for it."""
    text = config.get_text_config()
    heads, width = text.num_attention_heads, getattr(text, "head_dim", None)
    key_heads = getattr(text, "num_key_value_heads", None) or heads
    return flex.works(heads, key_heads, width or text.hidden_size // heads, dtype, device)


def has_kernels(device: torch.device) -> bool:
    """Whether the parts of a tree can be computed by themselves and merged on this device."""
    return device.type == "cpu" and has_cpu_kernels()


@cache
def has_cpu_kernels() -> bool:
    """Whether this torch has the CPU operators that give a part's logsumexp; they are not public, so they may go."""
    aten = torch.ops.aten
    return hasattr(aten, "_scaled_dot_product_flash_attention_for_cpu") and hasattr(
        aten, "_scaled_dot_product_flash_attention_for_cpu_backward"
    )


def _attend_to_rows(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Causal attention of plain rows on a GPU, (rows, heads, tokens, width), which needs no mask."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and query.dtype == torch.float32:  # whose kernels take no groups
        key, value, groups = _repeated(key, groups), _repeated(value, groups), 1
    out: torch.Tensor = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=groups > 1
    )
    return out


def _repeated(heads: torch.Tensor, groups: int) -> torch.Tensor:
    rows, num, tokens, width = heads.shape
    return heads[:, :, None].expand(rows, num, groups, tokens, width).reshape(rows, num * groups, tokens, width)


@dataclass(frozen=True)
class _Call:
    """One attention call: queries, keys, and whether it is causal.

    Attributes:
        first: These queries have seen nothing before.
        copies: Runs of equal length, side by side, each of which attends to itself.
    """

    queries: slice
    keys: slice
    causal: bool
    first: bool
    copies: int = 1


@cache
def _calls(nodes: tuple[Node, ...]) -> tuple[_Call, ...]:
    return tuple(_make_calls(nodes))


def _make_calls(nodes: tuple[Node, ...]) -> Iterator[_Call]:
    """Parents before children. Neighbouring leaves of one length attend to themselves in one call."""
    place = 0
    while place < len(nodes):
        node = nodes[place]
        length, copies = node.end - node.start, 1
        if node.stop == node.end:
            while place + copies < len(nodes) and _is_like(nodes[place + copies], node):
                copies += 1
        end = node.start + copies * length
        yield _Call(slice(node.start, end), slice(node.start, end), True, node.first, copies)
        if node.stop > node.end:
            yield _Call(slice(node.end, node.stop), slice(node.start, node.end), False, node.first)
        place += copies


def _is_like(node: Node, leaf: Node) -> bool:
    is_leaf = node.stop == node.end
    return is_leaf and node.end - node.start == leaf.end - leaf.start and node.first == leaf.first


def _fold(tensor: torch.Tensor, copies: int) -> torch.Tensor:
    """(rows, heads, copies * n, width) as (rows * copies, heads, n, width)."""
    if copies == 1:
        return tensor
    rows, heads, tokens, width = tensor.shape
    apart = tensor.reshape(rows, heads, copies, tokens // copies, width).transpose(1, 2)
    return apart.reshape(rows * copies, heads, tokens // copies, width)


def _unfold(tensor: torch.Tensor, copies: int) -> torch.Tensor:
    """The other way."""
    if copies == 1:
        return tensor
    rows, heads, tokens, width = tensor.shape
    apart = tensor.reshape(rows // copies, copies, heads, tokens, width).transpose(1, 2)
    return apart.reshape(rows // copies, heads, copies * tokens, width)


class _TreeAttention(torch.autograd.Function):  # type: ignore[misc]
    """Queries, keys and values (rows, heads, tokens, width) of rows with one tree; tokens past it give zeros."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, nodes: tuple[Node, ...], scale: float | None) -> Any:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out = torch.zeros_like(query)
        lse = query.new_full(query.shape[:3], float("-inf"), dtype=torch.float32)
        for call in _calls(nodes):
            q, k, v = query[:, :, call.queries], key[:, :, call.keys], value[:, :, call.keys]
            if call.copies > 1:
                q, k, v = (_fold(one, call.copies) for one in (q, k, v))
            part, part_lse = flash(q, k, v, 0.0, call.causal, scale=scale)
            if call.copies > 1:
                part, part_lse = _unfold(part, call.copies), _unfold(part_lse.unsqueeze(-1), call.copies).squeeze(-1)
            if call.first:
                out[:, :, call.queries] = part
                lse[:, :, call.queries] = part_lse
            else:
                _merge(out[:, :, call.queries], lse[:, :, call.queries], part, part_lse)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.nodes, ctx.scale = nodes, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        query, key, value, out, lse = ctx.saved_tensors
        (grad,) = grads
        to_query, to_key, to_value = (torch.zeros_like(one) for one in (query, key, value))
        for call in _calls(ctx.nodes):
            tensors = [
                grad[:, :, call.queries],
                query[:, :, call.queries],
                key[:, :, call.keys],
                value[:, :, call.keys],
                out[:, :, call.queries],
            ]
            part_lse = lse[:, :, call.queries]
            if call.copies > 1:
                tensors = [_fold(one, call.copies) for one in tensors]
                part_lse = _fold(part_lse.unsqueeze(-1), call.copies).squeeze(-1)
            parts = flash_backward(*tensors, part_lse.contiguous(), 0.0, call.causal, scale=ctx.scale)
            for whole, place, part in zip(
                (to_query, to_key, to_value), (call.queries, call.keys, call.keys), parts, strict=True
            ):
                whole[:, :, place] += _unfold(part, call.copies)
        return to_query, to_key, to_value, None, None


def _merge(out: torch.Tensor, lse: torch.Tensor, part: torch.Tensor, part_lse: torch.Tensor) -> None:
    """Add a part to what the same queries have seen so far, in place."""
    both = torch.logaddexp(lse, part_lse)
    old, new = (lse - both).exp_().unsqueeze(-1).to(out.dtype), (part_lse - both).exp_().unsqueeze(-1).to(out.dtype)
    out.mul_(old).add_(part * new)
    lse.copy_(both)
