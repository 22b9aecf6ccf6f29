"""Which rows belong together: links between rows, and the components that they make.

Rows are linked that are of one conversation or group, ask the same under any system prompt, of which one is the
beginning of the other, that were written from one template, or that are nearly the same. Whatever links join, however
many there are between two rows, is one component, and no component is ever on two sides of a split.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.looks import First, Keys, Second
from recipes.data.signatures import Bands, Compared, Ints, Signatures, estimates, pairs

Edges = tuple[Ints, Ints]
Labels = NDArray[np.int32]
KINDS = ("conversation", "prompt", "beginning", "template", "near")
BYTES_A_ROW = 4 + 5 * 8 + 1 + 8
"""In memory: line, keys of row, prompt, what is asked, group and template, whether it is signed, label and side. Links,
8 bytes each, and what sorting takes come beside them."""


def no_edges() -> Edges:
    """No links."""
    return np.empty(0, np.int64), np.empty(0, np.int64)


class Columns:
    """What was taken down of all rows, in the order of the file."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._whole: dict[str, NDArray[Any]] = {}
        self._num_rows = 0

    def __len__(self) -> int:
        return self._num_rows

    def add(self, found: First) -> None:
        """Take the first look at the next chunk."""
        keys, places = found.beginnings
        self._add("numbers", found.numbers.astype(np.uint32))
        self._add("rows", found.rows)
        self._add("prompts", found.prompts)
        self._add("asked", found.asked)
        self._add("groups", found.groups)
        self._add("named", found.templates)
        self._add("begin_keys", keys)
        self._add("begin_rows", (places + self._num_rows).astype(np.uint32))
        self._num_rows += found.rows.size

    def add_second(self, found: Second) -> None:
        """Take the second look at the next chunk."""
        self._add("masked", found.templates)
        self._add("is_signed", found.is_signed)

    def _add(self, name: str, values: NDArray[Any]) -> None:
        self._parts.setdefault(name, []).append(values)

    def _of(self, name: str, kind: Any) -> NDArray[Any]:
        if parts := self._parts.pop(name, None):
            self._whole[name] = np.concatenate(parts)
        return self._whole.get(name, np.empty(0, kind))

    @property
    def numbers(self) -> NDArray[np.uint32]:
        """The rows' lines."""
        return self._of("numbers", np.uint32)

    @property
    def rows(self) -> Keys:
        """Keys of whole rows."""
        return self._of("rows", np.uint64)

    @property
    def prompts(self) -> Keys:
        """Keys of prompts."""
        return self._of("prompts", np.uint64)

    @property
    def asked(self) -> Keys:
        """Keys of what is asked, under whatever system prompt."""
        return self._of("asked", np.uint64)

    @property
    def groups(self) -> Keys:
        """Keys of conversations or groups; 0: none."""
        return self._of("groups", np.uint64)

    @property
    def templates(self) -> Keys:
        """Keys of templates; 0: none. A field that names them goes before what was found."""
        named = self._of("named", np.uint64)
        return named if named.any() else self._of("masked", np.uint64)

    def representatives(self) -> Ints:
        """One row of each distinct prompt that has something of its own, in the order of the prompts' keys."""
        _, first = np.unique(self.prompts, return_index=True)
        signed: Ints = first[self._of("is_signed", np.bool_)[first]]
        return signed

    def exact_links(self) -> dict[str, Edges]:
        """The links that follow from equal keys."""
        keys, rows = self._of("begin_keys", np.uint64), self._of("begin_rows", np.uint32).astype(np.int64)
        values, first = np.unique(self.asked, return_index=True)
        beginning = no_edges()
        if keys.size:
            places = np.minimum(np.searchsorted(values, keys), values.size - 1)
            there = values[places] == keys
            beginning = (first[places[there]], rows[there])
        return {
            "conversation": _chain(self.groups),
            "prompt": _chain(self.asked),
            "beginning": beginning,
            "template": _chain(self.templates),
        }


def _chain(keys: Keys) -> Edges:
    """Links between rows of one key that is not 0, each with the next."""
    if keys.size == 0:
        return no_edges()
    order = np.argsort(keys, kind="stable")
    same = (keys[order[1:]] == keys[order[:-1]]) & (keys[order[1:]] != 0)
    return order[:-1][same], order[1:][same]


def components(num_rows: int, links: Mapping[str, Edges]) -> Labels:
    """The number of each row's component."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if num_rows == 0:
        return np.empty(0, np.int32)
    first = np.concatenate([np.empty(0, np.int64), *(edges[0] for edges in links.values())])
    second = np.concatenate([np.empty(0, np.int64), *(edges[1] for edges in links.values())])
    graph = coo_matrix((np.ones(first.size, np.bool_), (first, second)), shape=(num_rows, num_rows))
    _, labels = connected_components(graph, directed=False)
    return labels.astype(np.int32)  # type: ignore[no-any-return]


def near_links(
    columns: Columns,
    signed: tuple[Signatures, Bands],
    links: Mapping[str, Edges],
    threshold: float,
    compared: Compared,
    tell: Callable[[str], None] = lambda _: None,
) -> Edges:
    """Links between prompts whose estimated similarity reaches the threshold and that are not joined otherwise."""
    signatures, bands = signed
    labels = components(len(columns), links)
    found: list[Edges] = []
    at_band: list[Edges] = []
    num_bands = 0

    def apart() -> Labels:
        nonlocal labels, num_bands
        num_bands += 1
        tell(f"comparing prompts, band {num_bands} of {bands.shape[1]}")
        if at_band:
            first, second = (labels[_all(at_band, side)].astype(np.int64) for side in (0, 1))
            joined = {"near": (first, second)}
            labels = components(int(labels.max()) + 1, joined)[labels]
            at_band.clear()
        return labels

    for first, second in pairs(bands, columns.representatives(), apart, compared):
        alike = estimates(signatures, first, second) >= threshold
        if alike.any():
            found.append((first[alike], second[alike]))
            at_band.append(found[-1])
    return (_all(found, 0), _all(found, 1)) if found else no_edges()


def _all(edges: list[Edges], side: int) -> Ints:
    return np.concatenate([one[side] for one in edges])


def across(
    columns: Columns, signed: tuple[Signatures, Bands], sides: NDArray[Any], most: int, compared: Compared
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """The pairs of prompts on two sides that are the most alike, by estimate; at most so many."""
    signatures, bands = signed
    first, second, alike = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    for one, other in pairs(bands, columns.representatives(), lambda: sides, compared):
        first, second = np.concatenate([first, one]), np.concatenate([second, other])
        alike = np.concatenate([alike, estimates(signatures, one, other)])
        if first.size > 4 * most:
            first, second, alike = _best(columns, first, second, alike, most)
    return _best(columns, first, second, alike, most)


def _best(
    columns: Columns, first: Ints, second: Ints, alike: NDArray[np.float64], most: int
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """The most alike of distinct pairs; among equals the order of the file decides nothing."""
    swap = columns.prompts[first] > columns.prompts[second]
    low, high = np.where(swap, second, first), np.where(swap, first, second)
    _, distinct = np.unique(np.stack([low, high]), axis=1, return_index=True)
    keys = (columns.prompts[high[distinct]], columns.prompts[low[distinct]], -alike[distinct])
    kept = distinct[np.lexsort(keys)[:most]]
    return low[kept], high[kept], alike[kept]
