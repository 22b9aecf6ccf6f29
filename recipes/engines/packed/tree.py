"""Prefix trees: rows that begin with the same tokens are laid out so that the shared part is computed once.

A layout puts the nodes of the tree one after the other, parents before children: ``[prefix | row 1 | row 2 | …]``. A
token attends to itself, to what precedes it in its own node, and to its node's ancestors; its position is that of its
row. So every row sees exactly what it would see alone, and the gradient of a shared token is the sum over the rows that
share it. Rows that share nothing are trees of one node each, side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from recipes.engines.packed.rows import Row

MIN_SHARED = 16  # tokens; a node of its own costs two attention calls a layer


@dataclass(frozen=True)
class Node:
    """A run of tokens of a layout.

    Attributes:
        start: Its first token.
        end: One past its last.
        stop: One past the last token of the nodes below it; ``end`` for a leaf.
        first: Whether no node is above it.
    """

    start: int
    end: int
    stop: int
    first: bool


@dataclass(frozen=True)
class Layout:
    """Rows laid out for one forward pass.

    Attributes:
        ids: Token ids, (tokens,).
        positions: Each token's place in its row, (tokens,).
        nodes: Parents before children.
        sources: Tokens whose output predicts a target, (targets,); a shared token may occur for several rows.
        targets: The token ids to predict, (targets,).
        places: Of each row, where its tokens stand in the layout.
        counts: Of each row, how many targets are its own; theirs come row by row.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    nodes: tuple[Node, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]

    @property
    def num_plain(self) -> int:
        """Tokens of the same rows one by one, unpadded."""
        return sum(map(len, self.places))

    @property
    def saving(self) -> float:
        """How many times fewer tokens than the rows one by one."""
        return self.num_plain / max(1, len(self.ids))


def lay_out(rows: Sequence[Row], min_shared: int = MIN_SHARED) -> Layout:
    """Lay rows out as trees, of any depth, by their tokens.

    Args:
        rows: In any order; the layout does not depend on it, but for rows that are equal.
        min_shared: A shared run is a node of its own from so many tokens on.
    """
    return _Builder(rows, min_shared).layout()


def lay_out_apart(rows: Sequence[Row]) -> Layout:
    """Lay rows out side by side, with nothing shared."""
    builder = _Builder(rows, 0)
    for row, content in enumerate(rows):
        builder.append([row], 0, len(content.ids))
    return builder.layout()


class _Builder:
    def __init__(self, rows: Sequence[Row], min_shared: int) -> None:
        self._rows, self._min_shared = rows, min_shared
        self._ids: list[int] = []
        self._positions: list[int] = []
        self._nodes: list[Node] = []
        self._places: list[list[int]] = [[] for _ in rows]  # of each row's tokens in the layout

    def layout(self) -> Layout:
        if not self._nodes and self._rows:
            self._grow(sorted(range(len(self._rows)), key=lambda row: self._rows[row].ids), 0)
        sources: list[int] = []
        targets: list[int] = []
        for row, places in zip(self._rows, self._places, strict=True):
            for place, label in enumerate(row.labels):
                if label != -100 and place > 0:
                    sources.append(places[place - 1])
                    targets.append(label)
        return Layout(
            tuple(self._ids),
            tuple(self._positions),
            tuple(self._nodes),
            tuple(sources),
            tuple(targets),
            tuple(map(tuple, self._places)),
            tuple(row.num_targets for row in self._rows),
        )

    def append(self, group: list[int], depth: int, end: int) -> int:
        """A node of the tokens that these rows have between two depths; returns its number."""
        start = len(self._ids)
        self._ids += self._rows[group[0]].ids[depth:end]
        self._positions += range(depth, end)
        for row in group:
            self._places[row] += range(start, start + end - depth)
        self._nodes.append(Node(start, len(self._ids), len(self._ids), depth == 0))
        return len(self._nodes) - 1

    def _grow(self, group: list[int], depth: int) -> None:
        """Lay out what these rows, in lexicographic order, have from ``depth`` on; up to there they are the same."""
        first, last = self._rows[group[0]].ids, self._rows[group[-1]].ids
        parting = _common(first, last, depth)  # of rows in lexicographic order the outermost two share the least
        node = None
        if parting - depth >= self._min_shared or parting == len(last):  # enough is shared, or they are all the same
            node = self.append(group, depth, parting)
        below = []
        for token, same in groupby(group, key=lambda row: self._rows[row].ids[parting : parting + 1]):
            if token or node is None:
                below.append(list(same))
        # Leaves of one length next to each other: attention takes them in one call.
        below.sort(key=lambda rows: (len(rows) > 1, len(self._rows[rows[0]].ids)))
        for rows in below:
            self._grow(rows, depth if node is None else parting)
        if node is not None:
            made = self._nodes[node]
            self._nodes[node] = Node(made.start, made.end, len(self._ids), made.first)


def _common(first: Sequence[int], second: Sequence[int], start: int) -> int:
    """Up to where two rows are the same, from a place on up to which they are."""
    end = min(len(first), len(second))
    while start < end and first[start] == second[start]:
        start += 1
    return start
