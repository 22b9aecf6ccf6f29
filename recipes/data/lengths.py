"""How many tokens rows have: a histogram of them, and those that are too long."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recipes.data.findings import Finding

NUM_BINS = 16


@dataclass(frozen=True)
class Lengths:
    """Tokens of a row.

    Attributes:
        is_estimate: Counted by characters, as no base was named.
        bins: From, up to (exclusive), and how many rows.
    """

    median: int
    p95: int
    longest: int
    longest_line: int
    is_estimate: bool
    bins: tuple[tuple[int, int, int], ...]


def too_long(
    lengths: NDArray[np.int32], numbers: NDArray[np.uint32], limit: int | None, is_estimate: bool
) -> Iterator[Finding]:
    """The rows that are longer than the limit: an error where tokens are counted, a warning where they are estimated.

    Args:
        lengths: (rows,) in tokens.
        numbers: (rows,) their lines.
        limit: None for none.
    """
    long = np.flatnonzero(lengths > limit) if limit is not None else np.empty(0, np.int64)
    if long.size:
        worst = long[np.argmax(lengths[long])]
        about = "about " if is_estimate else ""
        rule = (
            f"a row has more than {limit:,} tokens; the longest, line {numbers[worst]}, has {about}{lengths[worst]:,}"
        )
        hint = "shorten the rows, or raise the limit with --max-tokens, if the base reads more"
        if is_estimate:
            hint += "; --base counts exactly"
        lines = tuple(int(numbers[place]) for place in long[:5])
        yield Finding("warning" if is_estimate else "error", "too long", int(long.size), lines, rule, hint)


def lengths_of(lengths: NDArray[np.int32], numbers: NDArray[np.uint32], is_estimate: bool) -> Lengths | None:
    """What there is to tell of the lengths, (rows,) in tokens, below 0 where a row has none; None without any."""
    usable = lengths[lengths >= 0]
    if not usable.size:
        return None
    longest = int(np.argmax(lengths))
    low, high = int(usable.min()), int(usable.max())
    step = max(1, -(-(high - low + 1) // NUM_BINS))
    edges = np.arange(low, high + step + 1, step)
    counts, _ = np.histogram(usable, edges)
    bins = [(int(edges[place]), int(edges[place + 1]), int(count)) for place, count in enumerate(counts)]
    while bins and not bins[-1][2]:
        bins.pop()
    return Lengths(
        median=int(np.median(usable)),
        p95=int(np.percentile(usable, 95, method="inverted_cdf")),
        longest=high,
        longest_line=int(numbers[longest]),
        is_estimate=is_estimate,
        bins=tuple(bins),
    )
