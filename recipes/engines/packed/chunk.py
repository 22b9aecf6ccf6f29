"""Some trials of a pack in one forward pass: their adapters side by side, each with its own rows and optimizer."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from recipes.engines.packed import state as states
from recipes.engines.packed.linear import Binding
from recipes.engines.packed.loss import completion_losses
from recipes.engines.packed.network import Batch, Network, Site
from recipes.engines.packed.objective import Objective, objective_of
from recipes.engines.packed.optimizer import adam_step
from recipes.engines.packed.rows import Row
from recipes.engines.packed.state import State
from recipes.engines.packed.tree import lay_out
from recipes.schema import Recipe


@dataclass(frozen=True)
class Adapter:
    """An adapter as a chunk sees it. ``state`` is changed by training."""

    rank: int
    alpha: float
    sites: tuple[Site, ...]
    state: State


@dataclass(frozen=True)
class Member(Adapter):
    """A trial as a chunk sees it.

    Attributes:
        frozen: Of its ranks so many, the first ones, are not trained.
    """

    recipe: Recipe
    frozen: int = 0

    @property
    def objective(self) -> Objective:
        return objective_of(self.recipe)


class Chunk:
    """Trials that train in step. Between ``__init__`` and ``store`` their states are the chunk's, not the members'.

    Ranks are padded with zeros to the largest, and so are layers that a member does not adapt; both stay zero.
    A chunk of one works on its member's own tensors, without a copy.

    Args:
        training: False for validation: no gradients, no moments.
    """

    def __init__(self, network: Network, members: Sequence[Adapter], *, training: bool = True) -> None:
        self.network, self.members, self._training = network, list(members), training
        self.rank = max(member.rank for member in members)
        have = {site.name for member in members for site in member.sites}
        self.sites = network.sites_of(tuple(have))
        self._alone = len(members) == 1
        first = members[0].state
        self._moments: tuple[torch.Tensor, ...]
        if self._alone:
            self._weights, self._moments = first.weights[None], (first.first[None], first.second[None])
        else:
            shape = (len(members), states.num_parameters(self.sites, self.rank))
            self._weights = first.weights.new_zeros(shape)
            self._moments = (torch.zeros_like(self._weights), torch.zeros_like(self._weights)) if training else ()
            for place, member in enumerate(members):
                self._copy(place, member, inwards=True)
        self._grads = torch.zeros_like(self._weights) if training else self._weights[:, :0]
        scales = [member.alpha / member.rank for member in members]
        # In float32 for every type of base: PEFT, which will serve the adapter, scales by the number itself.
        self._scale = torch.tensor(scales, device=network.device, dtype=torch.float32)[:, None, None]
        self._common_scale = scales[0] if len(set(scales)) == 1 else None
        self._trained = [self._trained_of(member) for member in self.members] if training else []
        self._tick = torch.zeros((), device=network.device, requires_grad=training)

    def store(self) -> None:
        """Give the members what they have become."""
        if not self._alone:
            for place, member in enumerate(self.members):
                self._copy(place, member, inwards=False)

    def train_step(self, batches: Sequence[Sequence[Batch]]) -> list[float]:
        """One optimizer step of every member.

        Args:
            batches: Of each member the parts of its batch, one forward pass each, with as many rows as it likes.

        Returns:
            Each member's loss over its whole batch, as its objective has it. A member whose loss is not finite is not
            changed by the step.
        """
        losses = torch.zeros(len(self.members), device=self.network.device)
        with self.bound() as dropout:
            for number in range(max(len(parts) for parts in batches)):
                if dropout is not None:
                    dropout.part = number
                current = [parts[number] if number < len(parts) else _empty(parts[0]) for parts in batches]
                part = self._losses(current, batches)
                part.sum().backward()
                losses += part.detach()
        told: list[float] = losses.tolist()
        for place, member in enumerate(self.members):
            assert isinstance(member, Member)
            if math.isfinite(told[place]):
                self._adam_step(place, member)
                member.state.step += 1
        self._grads.zero_()
        return told

    def _adam_step(self, place: int, member: Member) -> None:
        rows = (self._weights[place], self._grads[place], *(moment[place] for moment in self._moments))
        trained = self._trained[place]
        if trained is None:
            adam_step(member.recipe, member.state.step, *rows)
            return
        # Apart from what is frozen, which has no part in the gradient's norm either.
        some = [row[trained] for row in rows]
        adam_step(member.recipe, member.state.step, *some)
        for row, changed in zip(rows, some, strict=True):
            row[trained] = changed

    def nats(self, batches: Sequence[Batch], runs: Sequence[Sequence[int]]) -> torch.Tensor:
        """Cross-entropy of the same rows by each member, summed over runs of targets, without training.

        Args:
            runs: Of each batch, how many targets each sum is over.

        Returns:
            (members, runs of all batches) in nats, float32.
        """
        found = []
        with torch.inference_mode(), self.bound():
            for batch, lengths in zip(batches, runs, strict=True):
                sums = self._sums([batch] * len(self.members), list(lengths) * len(self.members))
                found.append(sums.view(len(self.members), -1))
        return torch.cat(found, 1)

    def _losses(self, batches: Sequence[Batch], wholes: Sequence[Sequence[Batch]]) -> torch.Tensor:
        """What these parts add to each member's loss, (members,)."""
        objectives = [member.objective for member in self.members if isinstance(member, Member)]
        runs = [objective.runs(batch) for objective, batch in zip(objectives, batches, strict=True)]
        shares = zip(objectives, wholes, runs, strict=True)
        weights = [objective.weight(whole) for objective, whole, lengths in shares for _ in lengths]
        nats = self._sums(batches, [length for lengths in runs for length in lengths], weights)
        of_each = zip(objectives, nats.split([len(lengths) for lengths in runs]), batches, wholes, strict=True)
        return torch.stack([objective.loss(own, batch, whole) for objective, own, batch, whole in of_each])

    def _sums(self, batches: Sequence[Batch], counts: list[int], weights: list[float] | None = None) -> torch.Tensor:
        targets = [target for batch in batches for target in batch.layout.targets]
        hidden = self.network.outputs(batches)
        head: Any = self.network.head.weight
        return completion_losses(hidden, head, self.network.tensor(targets), counts, weights or [1.0] * len(counts))

    @contextmanager
    def bound(self) -> Iterator["_Dropout | None"]:
        """The network with these members' adapters; yields what draws a lone trial's dropout, where it has one."""
        compute = self._weights.to(self.network.dtype)  # itself where the types are the same
        dropout = _Dropout(self.members[0]) if self._drops() else None
        pairs = zip(
            self.sites,
            states.views(compute, self.sites, self.rank),
            states.views(self._grads, self.sites, self.rank)
            if self._training
            else [(compute, compute)] * len(self.sites),
            strict=True,
        )
        try:
            for number, (site, (a, b), (grad_a, grad_b)) in enumerate(pairs):
                drawn = partial(dropout.mask, number) if dropout is not None else None
                self.network.layers[site.name].binding = Binding(
                    a, b, self._scale, self._common_scale, grad_a, grad_b, self._tick, drawn
                )
            yield dropout
        finally:
            for site in self.sites:
                self.network.layers[site.name].binding = None

    def _trained_of(self, member: Adapter) -> torch.Tensor | None:
        """Which numbers of a member's row are trained; None for all."""
        if not isinstance(member, Member) or not member.frozen:
            return None
        trained = torch.ones(self._weights.shape[1], dtype=torch.bool)
        for a, b in states.views(trained, self.sites, self.rank):
            a[: member.frozen] = False
            b[:, : member.frozen] = False
        return trained.nonzero().squeeze(1).to(self._weights.device)

    def _drops(self) -> bool:
        trained = [member for member in self.members if isinstance(member, Member)] if self._training else []
        drops = any(member.recipe.lora.dropout > 0 for member in trained)
        assert not drops or self._alone, "a trial with dropout is a chunk of its own"
        return drops

    def _copy(self, place: int, member: Adapter, *, inwards: bool) -> None:
        rank, own = member.rank, {site.name for site in member.sites}
        pairs = [(self._weights, member.state.weights)]
        if self._training:
            pairs += [(self._moments[0], member.state.first), (self._moments[1], member.state.second)]
        for chunk, flat in pairs:
            if rank == self.rank and member.sites == self.sites:
                _move(chunk[place], flat, inwards)
                continue
            inside = (
                pair
                for site, pair in zip(self.sites, states.views(chunk[place], self.sites, self.rank), strict=True)
                if site.name in own
            )
            for (a, b), (own_a, own_b) in zip(inside, states.views(flat, member.sites, rank), strict=True):
                _move(a[:rank], own_a, inwards)
                _move(b[:, :rank], own_b, inwards)


class _Dropout:
    """Masks for the input of a lone trial's adapters.

    They follow from its seed, its step, the part of its batch and the layer alone, so a layer that is computed again in
    backward draws the same.
    """

    def __init__(self, member: Any) -> None:
        self._keep = 1.0 - member.recipe.lora.dropout
        self._seed = (member.recipe.train.seed, member.state.step)
        self._generator = torch.Generator(device=member.state.weights.device)
        self.part = 0

    def mask(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """For the input of the layer of this number, (1, tokens, width): zeros, and 1 / keep elsewhere."""
        digest = hashlib.sha256(repr((*self._seed, self.part, layer)).encode()).digest()
        self._generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        mask = torch.empty_like(x).bernoulli_(self._keep, generator=self._generator)
        return mask.div_(self._keep)


def _empty(like: Batch) -> Batch:
    """A batch of the same kind that predicts nothing: a member whose step has fewer parts takes it."""
    row = Row((0,), (-100,))
    return Batch(lay_out([row]), None if like.rows is None else (row,))


def _move(chunk: torch.Tensor, own: torch.Tensor, inwards: bool) -> None:
    if inwards:
        chunk.copy_(own)
    else:
        own.copy_(chunk)
