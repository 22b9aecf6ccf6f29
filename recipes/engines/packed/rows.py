"""Rows as token ids, and the order in which a seed visits them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recipes.generation import Messages, tokens_and_labels
from recipes.schema import Recipe


@dataclass(frozen=True)
class Row:
    """A conversation in tokens.

    Attributes:
        ids: Token ids.
        labels: The same, with -100 where the loss does not look.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def num_targets(self) -> int:
        """Tokens that the loss looks at. Nothing predicts the first token."""
        return sum(label != -100 for label in self.labels[1:])


class Rows(Sequence[Row]):
    """Conversations, each tokenised when it is first asked for: a short trial never sees most of them.

    Args:
        source: A JSONL file, or the conversations themselves.
    """

    def __init__(self, source: Path | Sequence[Messages], tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._messages = _read(source) if isinstance(source, Path) else source
        self._rows: dict[int, Row] = {}

    @cached_property
    def alike(self) -> tuple[int, ...]:
        """All rows, those that begin alike next to each other.

        They go by their texts, not by their tokens: that puts the same rows together, and needs no tokens of any.
        """
        texts = [[(message["role"], message["content"]) for message in messages] for messages in self._messages]
        return tuple(sorted(range(len(texts)), key=texts.__getitem__))

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        if place not in self._rows:
            ids, labels = tokens_and_labels(self._tokenizer, self._messages[place])
            self._rows[place] = Row(tuple(ids), tuple(labels))
        return self._rows[place]


def _read(path: Path) -> list[Messages]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line)["messages"] for line in file]


class Order:
    """Which rows each optimizer step of a trial sees: a fresh shuffle an epoch, the last step of an epoch may be short.

    The shuffles are those of ``torch.utils.data.DistributedSampler``, which NeMo AutoModel draws from, so both engines
    see the same rows at the same step. The step alone says where a trial stands in its data.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int) -> None:
        self._num_rows, self._batch_size, self._seed = num_rows, batch_size, seed
        self._epoch = -1
        self._batches: list[list[int]] = []

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which each row is seen once."""
        return -(-self._num_rows // self._batch_size)

    def rows_of(self, step: int) -> list[int]:
        """The rows of a step, counted from 0."""
        import torch

        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._batches = self._draw(torch.Generator().manual_seed(self._seed + epoch))
            self._epoch = epoch
        return self._batches[place]

    def _draw(self, generator: Any) -> list[list[int]]:
        """The batches of one epoch."""
        import torch

        return self._cut(torch.randperm(self._num_rows, generator=generator).tolist())

    def _cut(self, rows: Sequence[int]) -> list[list[int]]:
        return [list(rows[start : start + self._batch_size]) for start in range(0, self._num_rows, self._batch_size)]


class Regrouped(Order):
    """The same, with rows that begin alike in one batch: more is shared, and a trial learns something else.

    An epoch cuts the rows as they stand in ``alike`` into batches and shuffles the batches. It begins to cut at a
    random row, so that the next epoch has other batches; any of its steps may be the short one.
    """

    def __init__(self, alike: Sequence[int], batch_size: int, seed: int) -> None:
        super().__init__(len(alike), batch_size, seed)
        self._alike = alike

    def _draw(self, generator: Any) -> list[list[int]]:
        import torch

        start = int(torch.randint(self._num_rows, (), generator=generator))
        batches = self._cut([*self._alike[start:], *self._alike[:start]])
        return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def order_of(recipe: Recipe, rows: Rows) -> Order:
    """The order in which a trial of this recipe visits the rows."""
    train = recipe.train
    if recipe.packed.regroup:
        return Regrouped(rows.alike, train.batch_size, train.seed)
    return Order(len(rows), train.batch_size, train.seed)
