"""Prompts as words and as runs of three words (shingles), each a 32-bit number; and what is a prompt's own of them.

What nearly all prompts have (a system prompt, closing instructions) says nothing of which prompts are alike. Shingles
of it are known as ``common``, and left out. All is done on numbers, so that a million prompts take minutes.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint32]
Bools = NDArray[np.bool_]
Messages = Sequence[dict[str, str]]

SHINGLE = 3
"""Words of a shingle."""
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff"  # Japanese and Chinese
WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['’][^\W_{_UNSPACED}]+)*")
"""A word; where a script has no spaces, a character, whatever stands beside it."""
NO_HASHES: Hashes = np.empty(0, np.uint32)
_CACHED_WORDS = 500_000
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
_cache: dict[str, int] = {}


def hash_of(word: str) -> int:
    """The number of a word, whatever its case."""
    return zlib.crc32(word.lower().encode(errors="surrogatepass"))


def hashes(words: Sequence[str]) -> Hashes:
    """The numbers of words."""
    if len(_cache) > _CACHED_WORDS:
        _cache.clear()
    found = [_cache.get(word) for word in words]
    if None in found:
        for place, word in enumerate(words):
            if found[place] is None:
                found[place] = _cache[word] = hash_of(word)
    return np.array(found, np.uint32)


def shingles(words: Hashes) -> Hashes:
    """The shingles of a text, in order: as many as it has words less two; a shorter text is one shingle."""
    if words.size == 0:
        return NO_HASHES
    if words.size < SHINGLE:
        words = np.concatenate([words, np.zeros(SHINGLE - words.size, np.uint32)])
    wide = words.astype(np.uint64)
    mixed: NDArray[np.uint64] = wide[:-2] * _FACTORS[0] + wide[1:-1] * _FACTORS[1] + wide[2:] * _FACTORS[2]
    return (mixed >> np.uint64(32)).astype(np.uint32)


@dataclass(frozen=True)
class Text:
    """One message: its words as numbers, and its shingles."""

    words: Hashes
    shingles: Hashes


@lru_cache(maxsize=256)
def _repeated(content: str) -> Text:
    return _text(content)


def _text(content: str) -> Text:
    words = hashes(WORD.findall(content))
    return Text(words, shingles(words))


def texts(messages: Messages) -> list[Text]:
    """The messages of a prompt; a system prompt, which many rows have, is read once."""
    return [(_repeated if one["role"] == "system" else _text)(one["content"]) for one in messages]


def all_words(messages: Messages) -> Hashes:
    """The words of a prompt, the repeated ones too."""
    parts = [
        _repeated(one["content"]).words if one["role"] == "system" else hashes(WORD.findall(one["content"]))
        for one in messages
    ]
    found: Hashes = np.concatenate(parts) if parts else NO_HASHES
    return found


def all_shingles(messages: Messages) -> Hashes:
    """The distinct shingles of a prompt, sorted."""
    parts = [text.shingles for text in texts(messages)]
    return np.unique(np.concatenate(parts)) if parts else NO_HASHES


def among(values: Hashes, known: Hashes) -> Bools:
    """Which values are among sorted known ones."""
    if known.size == 0 or values.size == 0:
        return np.zeros(values.size, np.bool_)
    places = np.minimum(np.searchsorted(known, values), known.size - 1)
    found: Bools = known[places] == values
    return found


def own_shingles(messages: Messages, common: Hashes) -> Hashes:
    """The distinct shingles of a prompt that are not common, sorted."""
    found = all_shingles(messages)
    return found[~among(found, common)]


def are_own(words: Hashes, common: Hashes) -> Bools:
    """Which words of a text are its own: in no common shingle."""
    return ~covered(words.size, among(shingles(words), common))


def covered(num_words: int, is_common: Bools) -> Bools:
    """Which words of a text are in one of these of its shingles."""
    found = np.zeros(num_words, np.bool_)
    for shift in range(min(SHINGLE, num_words)):
        found[shift : shift + is_common.size] |= is_common[: num_words - shift]
    return found


def similarity(one: Hashes, other: Hashes) -> float:
    """The Jaccard similarity of two sets of shingles: what both have, of what either has. 1 for two empty sets."""
    if one.size == 0 and other.size == 0:
        return 1.0
    both = np.intersect1d(one, other, assume_unique=True).size
    return both / (one.size + other.size - both)
