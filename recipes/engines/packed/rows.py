"""Rows as token ids, and the order in which a seed visits them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.generation import tokens_and_labels


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
    """The rows of a JSONL file, each tokenised when it is first asked for: a short trial never sees most of them."""

    def __init__(self, path: Path, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        with path.open(encoding="utf-8") as file:
            self._messages = [json.loads(line)["messages"] for line in file]
        self._rows: dict[int, Row] = {}

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


class Order:
    """Which rows each optimizer step of a trial sees: a fresh shuffle an epoch, the last step of an epoch may be short.

    The shuffles are those of ``torch.utils.data.DistributedSampler``, which NeMo AutoModel draws from, so both engines
    see the same rows at the same step. The step alone says where a trial stands in its data.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int) -> None:
        self._num_rows, self._batch_size, self._seed = num_rows, batch_size, seed
        self._epoch, self._shuffle = -1, [0]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in which each row is seen once."""
        return -(-self._num_rows // self._batch_size)

    def rows_of(self, step: int) -> list[int]:
        """The rows of a step, counted from 0."""
        import torch

        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self._seed + epoch)
            self._epoch, self._shuffle = epoch, torch.randperm(self._num_rows, generator=generator).tolist()
        return self._shuffle[place * self._batch_size : (place + 1) * self._batch_size]
