"""MinHash signatures of prompts (Broder 1997), and the pairs of them that are alike, by locality-sensitive hashing.

Signatures are those of ``datasketch``, each number cut to its last byte (b-bit minwise hashing, Li and König 2010). Two
prompts are compared where a band of their signatures is equal, so that of all pairs only few are; bands are as narrow
as it takes for prompts whose similarity is the threshold to be compared with the probability ``MIN_RECALL`` at least.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.words import Hashes

NUM_HASHES = 120
BAND_ROWS = 6
"""Numbers of a band where the threshold is high; a lower one needs narrower bands, see :func:`band_rows`."""
MIN_RECALL = 0.99
SEED = 1
BLOCK = 100_000  # pairs that are compared at once
SMALL = 64  # a bucket with more members is not compared all with all
MAX_PAIRS = 20_000_000  # that are compared in one band
SIGNATURES, BANDS = "signatures.u8", "bands.u32"
BYTES_A_ROW = NUM_HASHES + 4 * NUM_HASHES // BAND_ROWS
"""On the disk, while rows are compared at a high threshold; up to 3 times as many at a low one."""

Ints = NDArray[np.int64]
Signatures = NDArray[np.uint8]
Bands = NDArray[np.uint32]

_BASE = 1 / 256  # of two unlike prompts so many cut numbers agree by chance
_MIX = np.array([(0x9E3779B97F4A7C15 * (2 * place + 1)) % 2**64 for place in range(BAND_ROWS)], np.uint64)


@cache
def _permutations() -> Any:
    from datasketch import MinHash

    return MinHash(NUM_HASHES, seed=SEED).permutations


def sign(sets: list[Hashes], rows_of_band: int = BAND_ROWS) -> tuple[Signatures, Bands]:
    """The signatures of sets of shingles, and the numbers of their bands; an empty set has zeros.

    Returns:
        Shapes (sets, NUM_HASHES) and (sets, NUM_HASHES // rows_of_band).
    """
    from datasketch import MinHash

    values = np.zeros((len(sets), NUM_HASHES), np.uint32)
    for place, one in enumerate(sets):
        if one.size:
            found = MinHash(NUM_HASHES, permutations=_permutations(), scheme="affine32", hashfunc=int)
            found.update_batch(one.tolist())
            values[place] = found.hashvalues
    wide = values.astype(np.uint64).reshape(len(sets), NUM_HASHES // rows_of_band, rows_of_band)
    bands = ((wide * _MIX[:rows_of_band]).sum(axis=2) >> np.uint64(32)).astype(np.uint32)
    return values.astype(np.uint8), bands


def recall(similarity: float, rows_of_band: int) -> float:
    """The probability that two prompts of this similarity are compared."""
    return 1.0 - (1 - similarity**rows_of_band) ** (NUM_HASHES // rows_of_band)


def band_rows(threshold: float) -> int:
    """The numbers of a band, the most by which pairs at the threshold are missed in one case of a hundred at most."""
    widths = [rows for rows in range(1, BAND_ROWS + 1) if NUM_HASHES % rows == 0]
    return max(rows for rows in widths if rows == 1 or recall(threshold, rows) >= MIN_RECALL)


def estimates(signatures: Signatures, first: Ints, second: Ints) -> NDArray[np.float64]:
    """The estimated similarities of pairs."""
    agree = np.empty(first.size)
    for start in range(0, first.size, BLOCK):
        part = slice(start, start + BLOCK)
        agree[part] = (signatures[first[part]] == signatures[second[part]]).mean(axis=1)
    return (agree - _BASE) / (1 - _BASE)


@dataclass
class Compared:
    """How much was compared: pairs, and those that a band's limit left out."""

    num_pairs: int = 0
    num_left_out: int = 0


class Store:
    """The signatures of all rows, on the disk.

    Args:
        folder: Where they lie; made by whoever gives it, and removed by it.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / SIGNATURES, folder / BANDS]
        self._files = [path.open("wb") for path in self._paths]
        self._num_bands = 1

    def add(self, signatures: Signatures, bands: Bands) -> None:
        """Take those of further rows."""
        self._num_bands = bands.shape[1]
        self._files[0].write(signatures.tobytes())
        self._files[1].write(bands.tobytes())

    def read(self) -> tuple[Signatures, Bands]:
        """All of them, mapped and not loaded."""
        for file in self._files:
            file.close()
        if self._paths[0].stat().st_size == 0:
            return np.empty((0, NUM_HASHES), np.uint8), np.empty((0, self._num_bands), np.uint32)
        signatures = np.memmap(self._paths[0], np.uint8, "r").reshape(-1, NUM_HASHES)
        bands = np.memmap(self._paths[1], np.uint32, "r").reshape(-1, self._num_bands)
        return signatures, bands


def pairs(
    bands: Bands, rows: Ints, apart: Callable[[], NDArray[Any]], compared: Compared
) -> Iterator[tuple[Ints, Ints]]:
    """The pairs to compare, band by band: rows that share a bucket.

    Args:
        rows: The rows to look at, in an order that does not depend on that of the file.
        apart: A label for each row of the file, asked for at each band: pairs of one label are passed over.
        compared: Told what was compared.
    """
    for band in range(bands.shape[1]):
        labels = apart()
        values = np.ascontiguousarray(bands[:, band])[rows]
        order = np.argsort(values, kind="stable")
        members, values = rows[order], values[order]
        begins = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if values.size else np.empty(0, np.int64)
        sizes = np.diff(np.r_[begins, values.size])
        left = MAX_PAIRS
        for size in np.unique(sizes[(sizes > 1) & (sizes <= SMALL)]):
            firsts = begins[sizes == size]
            one, other = np.triu_indices(int(size), 1)
            for start in range(0, firsts.size, max(1, BLOCK // one.size)):
                at = firsts[start : start + max(1, BLOCK // one.size), None]
                yield from _some(members[(at + one).ravel()], members[(at + other).ravel()], labels, compared)
        for begin, size in zip(begins[sizes > SMALL], sizes[sizes > SMALL], strict=True):
            bucket = members[begin : begin + size]
            for pair in _large(bucket, labels, compared, left):
                left -= pair[0].size
                yield pair


def _some(first: Ints, second: Ints, labels: NDArray[Any], compared: Compared) -> Iterator[tuple[Ints, Ints]]:
    differ = labels[first] != labels[second]
    if differ.any():
        compared.num_pairs += int(differ.sum())
        yield first[differ], second[differ]


def _large(bucket: Ints, labels: NDArray[Any], compared: Compared, most: int) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of a large bucket: one member after the other against those after it, up to a limit."""
    for place in range(bucket.size - 1):
        rest = bucket[place + 1 :]
        differ = rest[labels[rest] != labels[bucket[place]]]
        if differ.size == 0:
            continue
        if differ.size > most:
            remaining = bucket.size - place
            compared.num_left_out += remaining * (remaining - 1) // 2
            return
        most -= differ.size
        compared.num_pairs += differ.size
        yield np.full(differ.size, bucket[place]), differ
