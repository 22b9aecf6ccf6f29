"""The frozen base with its hooks: stacked linear layers, tree attention, and outputs at chosen tokens alone."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recipes import bases, generation
from recipes.engines import targets
from recipes.engines.packed import attention, fused, memory, product
from recipes.engines.packed.linear import PackedLinear
from recipes.engines.packed.rows import Row
from recipes.engines.packed.sparing import Sparing, places_of, spare_last_layer
from recipes.engines.packed.tree import Layout, lay_out, lay_out_apart
from recipes.schema import Base, Recipe
from sweeps.errors import InvalidInput, Problem

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
"""Whose attention is known to pass everything that tree attention needs. Others train on plain padded rows."""


@dataclass(frozen=True)
class Site:
    """A linear layer that may be adapted."""

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True)
class Batch:
    """One forward pass of one trial: rows that share trees, or rows padded to one length.

    Attributes:
        layout: The tokens, with where the targets are predicted.
        rows: None for trees; else the same rows, one by one.
        reference: Of each row, how likely the start found its targets (log-probability in nats); empty where nobody
            asks.
    """

    layout: Layout
    rows: tuple[Row, ...] | None
    reference: tuple[float, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that are computed for it, padding included."""
        if self.rows is None:
            return len(self.layout.ids)
        return len(self.rows) * max(len(row.ids) for row in self.rows)

    @property
    def read(self) -> int:
        """Tokens that the last layer computes to its end; see ``sparing``."""
        return len(set(self.layout.sources)) if self.rows is None else self.tokens


class Network:
    """A base in memory, shared by all trials of a pack. Used by one thread at a time.

    Args:
        loaded: The model and its tokenizer, where they are there already; the network changes the model.

    Raises:
        InvalidInput: The base is larger than the memory that is free.
    """

    def __init__(self, path: str, base: Base, device: str, loaded: tuple[Any, Any] | None = None) -> None:
        self.path, self.base = path, base
        if loaded is None:
            _refuse_large(path, base, device)
        self.model, self.tokenizer = loaded or generation.load_base(path, base, device)
        self.model.requires_grad_(False)
        self.device: torch.device = self.model.device
        self.dtype: torch.dtype = self.model.dtype
        self.head: torch.nn.Module = self.model.get_output_embeddings()
        linear = [name for name, module in self.model.named_modules() if _is_linear(module)]
        self.linear_names = linear
        head_names = {name for name, module in self.model.named_modules() if module is self.head}
        self.layers: dict[str, PackedLinear] = {}
        for name in linear:
            if name not in head_names:
                self.layers[name] = _replace(self.model, name)
        self.why_no_trees = _why_no_trees(self.model.config)
        self._sparing: tuple[Sparing, ...] = ()
        if self.why_no_trees is None:
            attention.register()
            self.model.set_attn_implementation(attention.NAME)
            self._sparing = spare_last_layer(self.model.get_decoder())
        known = self.device.type == "cuda" and self.model.config.model_type in FAMILIES
        self._fused = known and fused.install(self.model) is None
        self._row_kernels, self._recomputes = attention.RowKernels(self.device), False
        self.shape = self._shape()

    @contextmanager
    def recomputing(self, on: bool) -> Iterator[None]:
        """Whether the passes within keep each layer's input alone, and compute the rest again in backward.

        Transformers asks whether a layer is in training; its parts are left as they are, so nothing is dropped out.
        """
        blocks = self._recomputing() if on else []
        for block in blocks:
            block.training = True
        self._recomputes = on
        try:
            yield
        finally:
            self._recomputes = False
            for block in blocks:
                block.training = False

    def _recomputing(self) -> list[torch.nn.Module]:
        from transformers.modeling_layers import GradientCheckpointingLayer

        if not self.model.is_gradient_checkpointing:
            # All that is random here draws by itself; see ``chunk``.
            self.model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
            self.model.disable_input_require_grads()  # which that turned on; only the reentrant kind needs it
        return [one for one in self.model.modules() if isinstance(one, GradientCheckpointingLayer)]

    def sites(self, recipe: Recipe) -> tuple[Site, ...]:
        """The layers that a recipe adapts.

        Raises:
            InvalidInput: A pattern names no layer, or the output projection, which a pack shares.
        """
        try:
            names = targets.select(recipe.lora.targets, self.linear_names)
        except ValueError as error:
            raise InvalidInput(Problem("recipe", str(error))) from None
        shared = [name for name in names if name not in self.layers]
        if shared:
            rule = f"{shared[0]} is the output projection, which all trials of a pack share"
            raise InvalidInput(Problem("lora.targets", f"{rule}; leave it out, or set engine: nemo"))
        return self.sites_of(names)

    def sites_of(self, names: Sequence[str]) -> tuple[Site, ...]:
        """These layers, in the base's order."""
        chosen = set(names)
        return tuple(
            Site(name, layer.in_features, layer.out_features) for name, layer in self.layers.items() if name in chosen
        )

    def batch(self, rows: Sequence[Row], *, trees: bool = True) -> Batch:
        """Rows as this base takes them: as trees where that is exact, padded otherwise.

        Args:
            rows: Of one trial.
            trees: False where the trial's recipe forbids it (dropout would draw one mask for what rows share).
        """
        if trees and self.why_no_trees is None:
            return Batch(lay_out(rows), None)
        return Batch(lay_out_apart(rows), tuple(rows))

    def passes(
        self, rows: Sequence[Row], groups: Sequence[Sequence[int]], tokens: int
    ) -> Iterator[tuple[list[int], Batch]]:
        """Rows in forward passes of at most so many tokens (or one group): the places of each, and its batch.

        Args:
            groups: Places of rows that stay together, in the order in which they are taken.
        """
        places: list[int] = []
        for group in groups:
            grown = [*places, *group]
            if places and self.batch([rows[place] for place in grown]).tokens > tokens:
                yield places, self.batch([rows[place] for place in places])
                grown = list(group)
            places = grown
        if places:
            yield places, self.batch([rows[place] for place in places])

    def outputs(self, batches: Sequence[Batch]) -> torch.Tensor:
        """The last hidden states where a target is predicted, (targets of all batches, width).

        Args:
            batches: One for each trial that is bound, all trees or all rows.
        """
        if batches[0].rows is None:
            layouts = [batch.layout for batch in batches]
            return self.tree_outputs(layouts, [layout.sources for layout in layouts])
        return self._row_outputs(batches)

    def tree_outputs(
        self, layouts: Sequence[Layout], sources: Sequence[Sequence[int]], recorder: Any = None
    ) -> torch.Tensor:
        """The last hidden states at chosen tokens, (chosen tokens of all layouts, width).

        Args:
            layouts: One for each trial that is bound.
            sources: Of each layout, the tokens.
            recorder: Is handed each layer's keys and values; see ``decode.Recorder``.
        """
        length = product.padded(max(len(layout.ids) for layout in layouts), self.device, self.dtype)
        ids = self.tensor([layout.ids + (0,) * (length - len(layout.ids)) for layout in layouts])
        positions = self.tensor([layout.positions + (0,) * (length - len(layout.ids)) for layout in layouts])
        trees = attention.Trees(layouts, length, self.device)
        read = places_of(sources, length, lambda number: product.padded(number, self.device, self.dtype))
        with self._kernels(len(layouts), length) if trees.are_rows else nullcontext():
            hidden = self._forward(ids, positions, None, read, trees=trees, recorder=recorder)
        places = [number * length + source for number, chosen in enumerate(sources) for source in chosen]
        return hidden.reshape(-1, hidden.shape[-1]).index_select(0, self.tensor(places))

    def next_outputs(self, ids: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """The last hidden state of one new token a row, (rows, width).

        Args:
            ids: (rows, 1); ``positions`` too.
            cache: What the rows have behind them; see ``decode.Cache``.
        """
        return self._forward(ids, positions, None, cache=cache)[:, 0]

    def _row_outputs(self, batches: Sequence[Batch]) -> torch.Tensor:
        most = max(len(batch.rows or ()) for batch in batches)
        nothing = Row((0,), (-100,))  # every trial has as many rows as the one with the most
        rows = [row for batch in batches for row in [*(batch.rows or ()), *[nothing] * (most - len(batch.rows or ()))]]
        length = product.padded(max(len(row.ids) for row in rows), self.device, self.dtype)
        ids = self.tensor([row.ids + (0,) * (length - len(row.ids)) for row in rows])
        mask = self.tensor([(1,) * len(row.ids) + (0,) * (length - len(row.ids)) for row in rows])
        # Padding stands at the right, so causal attention never looks at it: the hook needs no mask at all.
        with self._kernels(len(rows), length):
            hidden = self._forward(ids, None, mask if self.why_no_trees else None)
        places = [
            number * length + place - 1
            for number, row in enumerate(rows)
            for place, label in enumerate(row.labels)
            if place > 0 and label != -100
        ]
        return hidden.reshape(-1, hidden.shape[-1]).index_select(0, self.tensor(places))

    def _kernels(self, rows: int, tokens: int) -> AbstractContextManager[None]:
        # Backward computes layers again outside of what is chosen here, and must find the same kernels.
        return nullcontext() if self._recomputes else self._row_kernels.chosen(rows, tokens)

    def _forward(
        self, ids: torch.Tensor, positions: Any, mask: Any, read: Sequence[int] | None = None, **kwargs: Any
    ) -> torch.Tensor:
        for module in self._sparing:
            module.places = None if read is None else self.tensor(read)
        if positions is None:
            positions = torch.arange(ids.shape[1], device=self.device).expand_as(ids)
        decoder = self.model.get_decoder()
        out = decoder(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False, **kwargs)
        hidden: torch.Tensor = out.last_hidden_state
        return hidden

    def tensor(self, values: Any) -> torch.Tensor:
        """Whole numbers on the device. A GPU is not waited for: what is queued goes on while they are copied."""
        made = torch.tensor(values, dtype=torch.long)
        return made.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else made

    def _shape(self) -> memory.Shape:
        names = {name.rsplit(".", 1)[-1] for name, _ in self.model.named_modules()}
        packed = [layer for layer in self.layers.values() if layer.is_quantized]
        flexible = self.why_no_trees is None and attention.is_flexible(self.model.config, self.dtype, self.device)
        return memory.shape_of(
            self.model.config,
            self.dtype.itemsize,
            repeats_keys=not flexible,
            norms_queries="q_norm" in names,
            dense_mask=not flexible and self.why_no_trees is None and not attention.has_kernels(self.device),
            unpacked=max((layer.in_features * layer.out_features for layer in packed), default=0),
            recomputes=bool(self.model.supports_gradient_checkpointing),
            logits=memory.MAX_LOGITS[self.device.type],
            fused=self._fused,
        )


def _refuse_large(path: str, base: Base, device: str) -> None:
    """See ``memory.refuse_base``; a base whose size nobody knows is tried."""
    try:
        num_parameters, _ = bases.num_parameters(base.model_copy(update={"path": path}), Path.cwd())
    except InvalidInput:
        return
    free = memory.free_bytes("cuda" if device == "gpu" else "cpu")
    number_bytes = getattr(torch, base.dtype).itemsize
    memory.refuse_base(num_parameters, number_bytes, quantized=base.quantize == "nf4", free=free)


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear)  # bitsandbytes' 4-bit layer is one, too


def _replace(model: torch.nn.Module, name: str) -> PackedLinear:
    parent, _, leaf = name.rpartition(".")
    packed = PackedLinear(model.get_submodule(name))
    setattr(model.get_submodule(parent), leaf, packed)
    return packed


def _why_no_trees(config: Any) -> str | None:
    """Why rows of this base cannot share their prefixes; None where they can."""
    if config.model_type not in FAMILIES:
        return f"tree attention is hooked into {', '.join(FAMILIES)}, the base is {config.model_type}"
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        return f"the base attends within a window of {window} tokens"
    return None
