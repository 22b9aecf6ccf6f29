"""What is taken down of each row while a file is gone through: numbers of a few bytes, by which rows are linked.

Two looks are needed. The first takes down conversation, prompt and group, counts words and draws a sample of prompts,
by which it is known what all of them have in common. The second takes down templates and signatures of what is a
prompt's own.
"""

import hashlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.preferences import BrokenRule, prompt_key, to_pair
from recipes.data.rows import CONVERSATION, canonical, is_half, is_pair, to_chat
from recipes.data.signatures import BAND_ROWS, Bands, Signatures, sign
from recipes.data.stream import Chunk
from recipes.data.templates import TABLE_BITS, Counts, slots_of, template
from recipes.data.words import NO_HASHES, Hashes, all_shingles, all_words, own_shingles
from sweeps.errors import Problem

SAMPLE = 1000
"""Prompts by which it is found what nearly all have in common."""
NEARLY_ALL = 0.9
FEW = 10  # in a sample of fewer prompts nothing is called common

Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Fields:
    """Fields by which rows are linked, if they are named."""

    group: str | None = None
    template: str | None = None


@dataclass(frozen=True)
class First:
    """The first look at a chunk: arrays have an entry for each row that can be used.

    Attributes:
        numbers: Lines.
        rows: By :func:`key_of` everything up to the answer's end; ``prompts`` up to the answer; ``asked`` what is asked
            there under whatever system prompt, as sweeps compare prompts; ``groups`` the conversation or group, 0 where
            there is none; ``templates`` of the field that names them, likewise.
        beginnings: What is asked where a conversation that a row begins with ends with a user's turn, with the row's
            place.
        words, counts: Places in the table of words, and in how many rows of the chunk they occur.
        sample: Prompts with the smallest keys, each with its shingles.
        problems: Rows that cannot be used.
    """

    numbers: NDArray[np.int64]
    rows: Keys
    prompts: Keys
    asked: Keys
    groups: Keys
    templates: Keys
    beginnings: tuple[Keys, NDArray[np.int64]]
    words: tuple[NDArray[np.int64], NDArray[np.int64]]
    sample: list[tuple[int, Hashes]]
    problems: list[Problem]


def key_of(value: Any) -> int:
    """A key of 64 bits of a JSON value, never 0."""
    text = canonical(value).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) or 1


def place_of(key: int, seed: int) -> float:
    """A place in [0, 1) by a key and a seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()) / 2**64


def common_form(row: Any) -> dict[str, Any]:
    """A row in the common form: a chat row, or a preference pair with its ``rejected`` answer.

    Raises:
        ValueError: With the rule that it breaks.
    """
    if not is_pair(row):
        return to_chat(row)
    if is_half(row):
        raise BrokenRule("half of a preference pair: it has one ranked response", "put both into one row's responses")
    return to_pair(row)


def usable(chunk: Chunk) -> tuple[list[tuple[int, dict[str, Any]]], list[Problem]]:
    """The rows of a chunk in the common form, each with its line, and what is wrong with the others."""
    rows, problems = [], []
    for number, row in chunk.rows():
        if isinstance(row, Problem):
            problems.append(row)
            continue
        try:
            rows.append((number, common_form(row)))
        except ValueError as error:
            problems.append(Problem(chunk.source, str(error), getattr(error, "hint", ""), number))
    return rows, problems


def first_look(task: tuple[Chunk, int], fields: Fields) -> First:
    """Look at a chunk; only prompts whose key is below the given one can be of the sample."""
    chunk, below = task
    return look_at(*usable(chunk), fields, below)


def look_at(rows: Sequence[tuple[int, dict[str, Any]]], problems: list[Problem], fields: Fields, below: int) -> First:
    """As :func:`first_look`, of rows that were read already."""
    wholes, prompts, asked, groups, named = [], [], [], [], []
    begin_keys, begin_rows = [], []
    words, sample = [], dict[int, Hashes]()
    for place, (_, row) in enumerate(rows):
        messages = row["messages"]
        prompt = key_of(messages[:-1])
        prompts.append(prompt)
        asked.append(key_of(prompt_key(messages)))
        wholes.append(key_of([messages, row["rejected"]] if "rejected" in row else messages))
        groups.append(_value(row, (fields.group,) if fields.group else CONVERSATION))
        named.append(_value(row, (fields.template,)) if fields.template else 0)
        for end in range(1, len(messages) - 1):
            if messages[end - 1]["role"] == "user":
                begin_keys.append(key_of(prompt_key(messages[:end])))
                begin_rows.append(place)
        words.append(np.unique(slots_of(all_words(messages[:-1]))))
        if prompt < below and prompt not in sample:
            sample[prompt] = all_shingles(messages[:-1])
    together = np.concatenate(words) if words else np.empty(0, np.int64)
    slots, counts = np.unique(together, return_counts=True)
    return First(
        numbers=np.array([number for number, _ in rows], np.int64),
        rows=np.array(wholes, np.uint64),
        prompts=np.array(prompts, np.uint64),
        asked=np.array(asked, np.uint64),
        groups=np.array(groups, np.uint64),
        templates=np.array(named, np.uint64),
        beginnings=(np.array(begin_keys, np.uint64), np.array(begin_rows, np.int64)),
        words=(slots, counts),
        sample=heapq.nsmallest(SAMPLE, sample.items()),
        problems=problems,
    )


def _value(row: dict[str, Any], names: Sequence[str]) -> int:
    """The key of the first of these fields that a row has; 0 where it has none, or nothing in it."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return key_of([name, canonical(value)])
    return 0


@dataclass
class Sample:
    """The prompts with the smallest keys: a sample that does not depend on the order of the rows."""

    _prompts: dict[int, Hashes] = field(default_factory=dict)
    below: int = 2**64

    def add(self, found: list[tuple[int, Hashes]]) -> None:
        """Take those of a chunk."""
        self._prompts.update(found)
        if len(self._prompts) > 2 * SAMPLE:
            self._cut()

    def _cut(self) -> None:
        self._prompts = dict(heapq.nsmallest(SAMPLE, self._prompts.items()))
        if len(self._prompts) == SAMPLE:
            self.below = max(self._prompts)

    def common(self) -> Hashes:
        """The shingles that nearly all of its prompts have, sorted."""
        self._cut()
        if len(self._prompts) < FEW:
            return NO_HASHES
        values, counts = np.unique(np.concatenate(list(self._prompts.values())), return_counts=True)
        return values[counts >= NEARLY_ALL * len(self._prompts)]


class WordCounts:
    """In how many rows each word occurs, in a table of fixed size."""

    def __init__(self) -> None:
        self.table: Counts = np.zeros(1 << TABLE_BITS, np.int32)

    def add(self, words: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
        """Take those of a chunk."""
        self.table[words[0]] += words[1].astype(np.int32)

    def save(self, folder: Path) -> Path:
        """Write the table, for other processes."""
        path = folder / "words.npy"
        np.save(path, self.table)
        return path


@dataclass(frozen=True)
class Second:
    """The second look at a chunk, for the same rows as :class:`First`: templates (0: none), signatures and bands.

    Attributes:
        is_signed: Whether a prompt has anything of its own, so that it can be compared.
    """

    templates: Keys
    signatures: Signatures
    bands: Bands
    is_signed: NDArray[np.bool_]


def second_look(chunk: Chunk, common: Hashes, words: Path, rows_of_band: int = BAND_ROWS) -> Second:
    """Look at a chunk again.

    Args:
        common: What nearly all prompts have.
        words: The table of words.
        rows_of_band: As :func:`recipes.data.signatures.band_rows` gives it for the threshold.
    """
    return look_again(usable(chunk)[0], common, _table(words), rows_of_band)


def look_again(
    rows: Sequence[tuple[int, dict[str, Any]]], common: Hashes, counts: Counts | None, rows_of_band: int = BAND_ROWS
) -> Second:
    """As :func:`second_look`, of rows that were read already; without counts of words, no templates are looked for."""
    prompts = [row["messages"][:-1] for _, row in rows]
    own = [own_shingles(prompt, common) for prompt in prompts]
    masked = [None if counts is None else template(prompt, common, counts) for prompt in prompts]
    signatures, bands = sign(own, rows_of_band)
    return Second(
        templates=np.array([0 if text is None else key_of(json.dumps(text)) for text in masked], np.uint64),
        signatures=signatures,
        bands=bands,
        is_signed=np.array([one.size > 0 for one in own], np.bool_),
    )


@lru_cache(maxsize=1)
def _table(path: Path) -> Counts:
    table: Counts = np.load(path, mmap_mode="r")
    return table
