"""How much of a data set its rows share, and what a prefix tree makes of that: counted, not estimated.

Batches are those that a trial would see: the seed's order, cut as the recipe says, laid out by the packed engine's own
code. So a factor here is the factor of the tokens that are computed there.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.data.constant_text import ConstantText, Messages, find, move
from recipes.engines.packed.rows import Order, Regrouped, Row, Rows
from recipes.engines.packed.tree import MIN_SHARED, lay_out

NUM_ROWS = 2000  # looked at, of a larger set
NUM_BATCHES = 200  # laid out, of an epoch that has more
SIZES = (2, 4, 8, 16)  # rows of a batch that are shown besides the recipe's own


@dataclass(frozen=True)
class Lengths:
    """Tokens of a row; means are over the rows that were looked at.

    Attributes:
        mean, median, p95, longest: Of whole rows.
        completion: On average those that the loss looks at.
        shared: The prefix that all rows share.
        bar: The mean row in four parts: shared by all, its own, constant text after what differs, completion.
    """

    mean: float
    median: float
    p95: int
    longest: int
    completion: float
    shared: int
    bar: tuple[float, float, float, float]


@dataclass(frozen=True)
class Saving:
    """Batches of one size, over one epoch or its first batches.

    Attributes:
        batch_size: Rows of an optimizer step; ``micro_batch_size`` of a forward pass, which a tree spans.
        num_batches: That were laid out, of ``epoch_batches``.
        tokens: Of a batch on average, its rows one by one and unpadded; ``tree_tokens`` in the tree.
        saving: How many times fewer tokens the tree has.
        regrouped: The same with rows that begin alike in one batch (``packed.regroup``).
        moved: The same batches with constant texts moved ahead of what differs; None where there are none.
        moved_and_regrouped: Both; None likewise.
    """

    batch_size: int
    micro_batch_size: int
    num_batches: int
    epoch_batches: int
    tokens: float
    tree_tokens: float
    saving: float
    regrouped: float
    moved: float | None
    moved_and_regrouped: float | None


@dataclass(frozen=True)
class Sharing:
    """What the rows share.

    Attributes:
        num_rows: Of the set; ``num_seen`` of them were looked at for ``lengths`` and ``constants``.
        constants: Texts of nearly all rows that stand after what differs.
        savings: The first is of the recipe's own batch size.
    """

    num_rows: int
    num_seen: int
    lengths: Lengths
    constants: tuple[ConstantText, ...]
    savings: tuple[Saving, ...]


def sharing(
    conversations: Sequence[Messages],
    tokenizer: Any,
    *,
    batch_size: int,
    micro_batch_size: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Sharing:
    """Count what rows share.

    Args:
        conversations: Each ends with the answer.
        tokenizer: A transformers tokenizer with a chat template.
        batch_size: Rows of an optimizer step; ``micro_batch_size`` of a forward pass.
        seed: Of the order of the rows.
        progress: Told what is being counted.
    """
    rows = Rows(conversations, tokenizer)
    seen = sorted(Order(len(rows), min(NUM_ROWS, len(rows)), seed).rows_of(0))  # where there are more, a fair sample
    progress("counting tokens")
    sample = [rows[place] for place in seen]
    progress("looking for constant text")
    found = find([conversations[place] for place in seen], lambda text: len(_ids(tokenizer, text)), MIN_SHARED)
    moved = Rows([move(messages, found) for messages in conversations], tokenizer) if found.texts else None
    own = (batch_size, micro_batch_size)
    sizes = [own, *((size, size) for size in SIZES if (size, size) != own)]
    savings = []
    for size, micro in sizes:
        progress(f"laying out batches of {size}")
        savings.append(_saving(rows, moved, size, micro, seed))
    return Sharing(len(rows), len(seen), _lengths(sample, found.texts), found.texts, tuple(savings))


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _lengths(rows: Sequence[Row], constants: Sequence[ConstantText]) -> Lengths:
    lengths = sorted(len(row.ids) for row in rows)
    shared = shared_prefix(rows)
    mean = statistics.fmean(lengths)
    # What the loss looks at within the shared prefix is shown as shared.
    answered = statistics.fmean(sum(label != -100 for label in row.labels[max(1, shared) :]) for row in rows)
    constant = min(sum(text.tokens * text.share for text in constants), mean - shared - answered)
    return Lengths(
        mean=mean,
        median=statistics.median(lengths),
        p95=lengths[math.ceil(0.95 * len(lengths)) - 1],
        longest=lengths[-1],
        completion=statistics.fmean(row.num_targets for row in rows),
        shared=shared,
        bar=(shared, mean - shared - constant - answered, constant, answered),
    )


def shared_prefix(rows: Sequence[Row]) -> int:
    """The tokens with which all rows begin."""
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)  # these two share the least
    differing = (place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(first), len(last)))


def _saving(rows: Rows, moved: Rows | None, batch_size: int, micro_batch_size: int, seed: int) -> Saving:
    plain = Order(len(rows), batch_size, seed)
    tokens, in_tree = _tokens(rows, plain, micro_batch_size)
    num_batches = min(plain.steps_per_epoch, NUM_BATCHES)

    def factor(rows: Rows, order: Order) -> float:
        apart, together = _tokens(rows, order, micro_batch_size)
        return apart / together

    return Saving(
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        num_batches=num_batches,
        epoch_batches=plain.steps_per_epoch,
        tokens=tokens / num_batches,
        tree_tokens=in_tree / num_batches,
        saving=tokens / in_tree,
        regrouped=factor(rows, Regrouped(rows.alike, batch_size, seed)),
        moved=None if moved is None else factor(moved, plain),
        moved_and_regrouped=None if moved is None else factor(moved, Regrouped(moved.alike, batch_size, seed)),
    )


def _tokens(rows: Rows, order: Order, micro_batch_size: int) -> tuple[int, int]:
    """The tokens of an epoch's batches, rows one by one and in trees; of the first batches where it has very many."""
    apart = together = 0
    for step in range(min(order.steps_per_epoch, NUM_BATCHES)):
        batch = [rows[place] for place in order.rows_of(step)]
        for start in range(0, len(batch), micro_batch_size):
            layout = lay_out(batch[start : start + micro_batch_size])
            apart += layout.num_plain
            together += len(layout.ids)
    return apart, together
