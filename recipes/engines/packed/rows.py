"""Rows as token ids, and the order in which a seed visits them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recipes.generation import Messages, tokens_and_labels
from recipes.schema import Recipe
from sweeps.errors import InvalidInput, Problem


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

    What a batch is made of are examples: here each row is one.

    Args:
        source: A JSONL file, or the conversations themselves.
    """

    per_example = 1

    def __init__(self, source: Path | Sequence[Messages], tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._messages = self._read(source) if isinstance(source, Path) else source
        self._rows: dict[int, Row] = {}

    @property
    def num_examples(self) -> int:
        return len(self) // self.per_example

    def places(self, examples: Iterable[int]) -> list[int]:
        """The rows of these examples, one example's next to each other."""
        return [one * self.per_example + which for one in examples for which in range(self.per_example)]

    @cached_property
    def alike(self) -> tuple[int, ...]:
        """All examples, those that begin alike next to each other.

        They go by their texts, not by their tokens: that puts the same rows together, and needs no tokens of any.
        """
        firsts = self._messages[:: self.per_example]
        texts = [[(message["role"], message["content"]) for message in messages] for messages in firsts]
        return tuple(sorted(range(len(texts)), key=texts.__getitem__))

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        if place not in self._rows:
            ids, labels = self._tokens(self._messages[place])
            self._rows[place] = Row(tuple(ids), tuple(labels))
        return self._rows[place]

    def _tokens(self, messages: Messages) -> tuple[list[int], list[int]]:
        return tokens_and_labels(self._tokenizer, messages)

    @staticmethod
    def _read(path: Path) -> list[Messages]:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line)["messages"] for line in file]


class Pairs(Rows):
    """Preference pairs: of each the conversation with the preferred answer, then the one with the other answer.

    The loss looks at the answers alone: at earlier turns of the assistant, which both share, nothing is preferred.
    """

    per_example = 2

    def _tokens(self, messages: Messages) -> tuple[list[int], list[int]]:
        ids, labels = tokens_and_labels(self._tokenizer, messages)
        if sum(message["role"] == "assistant" for message in messages) > 1:
            earlier = next(end for end in range(len(messages) - 1, 0, -1) if messages[end - 1]["role"] == "assistant")
            shared = len(tokens_and_labels(self._tokenizer, messages[:earlier])[0])
            labels = [-100] * shared + labels[shared:]
        return ids, labels

    @staticmethod
    def _read(path: Path) -> list[Messages]:
        rows: list[Messages] = []
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                row = json.loads(line)
                if not row.get("rejected"):
                    rule = f"method dpo learns from pairs of answers, but row {number} of {path.name} has none rejected"
                    raise InvalidInput(Problem("method", rule, "set method: sft, or give rows with a rejected answer"))
                chosen = row["messages"]
                rows += [chosen, [*chosen[:-1], {"role": "assistant", "content": row["rejected"]}]]
        return rows


def rows_of(path: Path, tokenizer: Any, method: str) -> Rows:
    """The rows of a file as a trial of this method learns from them.

    Raises:
        InvalidInput: The method needs pairs, and a row is none.
    """
    return (Pairs if method == "dpo" else Rows)(path, tokenizer)


class Order:
    """Which examples each step of a trial sees: a fresh shuffle an epoch, the last step of an epoch may be short.

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
    """The order in which a trial of this recipe visits the examples."""
    train = recipe.train
    if recipe.packed.regroup:
        return Regrouped(rows.alike, train.batch_size, train.seed)
    return Order(rows.num_examples, train.batch_size, train.seed)
