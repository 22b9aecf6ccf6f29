"""What a prompt would be without what was put into it: the key of the template that it was written from.

Numbers, quoted text, names (words with a capital letter within a sentence) and rare words are taken for what was put
into slots; the rest, in its order, is the template.
"""

import re

import numpy as np
from numpy.typing import NDArray

from recipes.data.words import WORD, Bools, Hashes, Messages, are_own, hashes

RARE = 5
"""A word in fewer rows than this is taken for what was put into a slot."""
MIN_OWN = 6
"""A template has so many words that are not common to all prompts; with fewer, unrelated prompts would look alike."""
SLOT = "_"
TABLE_BITS = 22
"""Words are counted in a table of so many bits: 16 MiB, whatever the number of rows."""
Counts = NDArray[np.int32]

_CAPITAL = "A-ZÀ-ÖØ-ÞΑ-ΩА-Я"
_SLOTS = (
    re.compile(r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|«[^»\n]{1,400}»|`[^`\n]{1,400}`"),  # quoted
    re.compile(r"(?<![^\W_])(?=[^\W\d_]*\d)[^\W_]+"),  # with a digit
    # A word of two letters or more with a capital, not where a sentence, an item or a cell begins.
    re.compile(rf"(?<![.!?:\n\"“(*#\-•|\s])[ \t]+(?P<name>[{_CAPITAL}][^\W_]+)"),
)


def slots_of(words: Hashes) -> NDArray[np.int64]:
    """The places of words in the table of counts."""
    return (words & np.uint32((1 << TABLE_BITS) - 1)).astype(np.int64)


def template(messages: Messages, common: Hashes, counts: Counts) -> str | None:
    """A prompt with its slots masked; None where too little is left to tell templates by, or nothing was masked.

    Args:
        messages: Those before the answer.
        common: Shingles that nearly all prompts have.
        counts: In how many rows a word occurs, by :func:`slots_of`.
    """
    asked = [message["content"] for message in messages if message["role"] == "user"]
    found = [_kept(content, common, counts) for content in asked]
    kept = sum(int((is_own & is_kept).sum()) for _, is_own, is_kept in found)
    masked = sum(int((is_own & ~is_kept).sum()) for _, is_own, is_kept in found)
    if kept < MIN_OWN or kept < masked or not masked:
        return None
    parts = [message["content"] for message in messages if message["role"] == "system"]
    for words, _, is_kept in found:
        text = " ".join(word.lower() if keep else SLOT for word, keep in zip(words, is_kept.tolist(), strict=True))
        parts.append(re.sub(r"_(?: _)+", SLOT, text))
    return "\n".join(parts)


def _kept(content: str, common: Hashes, counts: Counts) -> tuple[list[str], Bools, Bools]:
    """The words of a message, which of them are its own, and which belong to the template."""
    words = WORD.findall(content)
    numbers = hashes(words)
    is_kept = counts[slots_of(numbers)] >= RARE
    spans = [match.span(match.lastgroup or 0) for pattern in _SLOTS for match in pattern.finditer(content)]
    if spans:
        starts = np.array([match.start() for match in WORD.finditer(content)], np.int64)
        for begin, end in spans:
            is_kept[np.searchsorted(starts, begin) : np.searchsorted(starts, end)] = False
    return words, are_own(numbers, common), is_kept
