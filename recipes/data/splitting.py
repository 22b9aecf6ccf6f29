"""Splitting a file of any length by what belongs together, and the record of it.

A component's side follows from the smallest key of its prompts and the seed. Then the prompts that are the most alike
across the sides are compared word for word; if a pair of them reaches the threshold, which the estimates had missed, it
is linked and the sides are drawn again.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipes.data.links import Columns, Edges, Labels, across, components, near_links
from recipes.data.looks import Fields, First, Sample, WordCounts, common_form, first_look, place_of, second_look
from recipes.data.rows import MAX_PROBLEMS
from recipes.data.signatures import Compared, Ints, Store, band_rows
from recipes.data.splits import SPLITS
from recipes.data.stream import Source
from recipes.data.words import Hashes, own_shingles, similarity
from recipes.data.workers import each, num_workers
from sweeps.errors import InvalidInput, Problem

THRESHOLD = 0.8
MOST_ACROSS = 10_000  # pairs across the sides that are compared word for word
MAX_ROUNDS = 5
MARGIN = 0.035
"""Below the threshold by so much, the deviation of an estimate, prompts are linked still: else half of those that
reach it would be missed."""
GIANT = 0.1
"""A component with this share of the rows is told, with what holds it together."""
ANY = Fields()
Sides = NDArray[np.int8]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How rows are split.

    Attributes:
        shares: Of the four sides, in the order of ``SPLITS``; they sum to 1.
        threshold: The similarity from which two prompts are nearly the same.
        fields: Fields that say what belongs together.
        common: What nearly all prompts have, as an earlier split found it; None: it is found in these rows.
        earlier: The sides of an earlier split's prompts, by their keys: where they can, rows stay on them.
    """

    shares: tuple[float, float, float, float] = (0.7, 0.1, 0.1, 0.1)
    seed: int = 0
    threshold: float = THRESHOLD
    fields: Fields = ANY
    common: Hashes | None = None
    earlier: Mapping[int, int] | None = None


@dataclass(frozen=True)
class Giant:
    """A component with a large share of the rows.

    Attributes:
        share: Of all rows.
        links: How many links of each kind are in it.
        without: The share of its largest part if one kind of link is left out.
        lines: Some of its rows.
    """

    share: float
    num_rows: int
    links: dict[str, int]
    without: dict[str, float]
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Nearest:
    """Two prompts on different sides that are the most alike, compared word for word."""

    similarity: float
    lines: tuple[int, int]
    sides: tuple[str, str]


@dataclass(frozen=True)
class Split:
    """A split before it is written.

    Attributes:
        sides: Of each row, the place of its side in ``SPLITS``.
        labels: Of each row, the number of its component.
        links: By their kind.
        nearest: None where no two prompts on different sides have a band of their signatures in common.
        num_pairs: Pairs of prompts that were compared; ``num_left_out`` could have been, but were too many.
        num_added: Links that only the comparison word for word found.
        num_moved: Rows that are on another side than in the earlier split.
    """

    columns: Columns
    sides: Sides
    labels: Labels
    links: dict[str, Edges]
    common: Hashes
    giants: tuple[Giant, ...]
    nearest: Nearest | None
    num_pairs: int
    num_left_out: int
    num_added: int
    num_moved: int

    @property
    def num_rows_of(self) -> dict[str, int]:
        """The rows of each side."""
        return {name: int((self.sides == place).sum()) for place, name in enumerate(SPLITS)}


def decide(source: Source, settings: Settings, tell: Tell = lambda _: None) -> Split:
    """Read a source twice and say on which side each row is.

    Raises:
        InvalidInput: Rows cannot be used, or a side that is asked for would stay empty.
    """
    workers = num_workers(source.num_bytes)
    with tempfile.TemporaryDirectory(prefix="podium-split-") as scratch:
        folder = Path(scratch)
        columns, common, words = _first(source, settings, folder, workers, tell)
        _refuse_missing_prompts(columns, settings)
        if settings.common is not None:
            common = settings.common
        store = Store(folder)
        look = partial(second_look, common=common, words=words, rows_of_band=band_rows(settings.threshold))
        seen = 0
        for found in each(look, source.chunks(), workers):
            columns.add_second(found)
            store.add(found.signatures, found.bands)
            seen += found.templates.size
            tell(f"signing prompts, {seen:,} of {len(columns):,}")
        signed = store.read()
        links = columns.exact_links()
        compared = Compared()
        links["near"] = near_links(columns, signed, links, settings.threshold - MARGIN, compared, tell)
        return _settle(source, settings, columns, signed, links, common, compared, tell)


def _first(source: Source, settings: Settings, folder: Path, workers: int, tell: Tell) -> tuple[Columns, Hashes, Path]:
    columns, sample, words = Columns(), Sample(), WordCounts()
    problems: list[Problem] = []
    tasks = ((chunk, sample.below) for chunk in source.chunks())
    for found in each(partial(first_look, fields=settings.fields), tasks, workers):
        _refuse_missing_fields(found, settings.fields, source)
        problems += found.problems
        if len(problems) >= MAX_PROBLEMS:
            break
        columns.add(found)
        sample.add(found.sample)
        words.add(found.words)
        tell(f"reading rows, {len(columns):,}")
    if problems:
        raise InvalidInput(sorted(problems[:MAX_PROBLEMS], key=lambda one: one.line or 0), source.name)
    if not len(columns):
        raise InvalidInput(Problem("DATA", f"{source.name} holds no rows", "one JSON object a line is needed"))
    return columns, sample.common(), words.save(folder)


def _refuse_missing_prompts(columns: Columns, settings: Settings) -> None:
    """An earlier split is gone on from with its own rows, as only what is here is compared."""
    earlier = settings.earlier or {}
    missing = len(earlier.keys() - set(columns.prompts.tolist())) if earlier else 0
    if missing:
        rule = (
            f"{missing:,} of {len(earlier):,} prompts of the earlier split are not here, so that nothing is compared "
        )
        rule += "with them: a row like one of its challenge rows could become a training row"
        hint = "give the old rows and the new ones as one file, or split all anew without --like"
        raise InvalidInput(Problem("--like", rule, hint))


def _refuse_missing_fields(found: First, fields: Fields, source: Source) -> None:
    """A field that the user names is in every row."""
    for option, name, keys in (
        ("--group-field", fields.group, found.groups),
        ("--template-field", fields.template, found.templates),
    ):
        if name is not None and not keys.all():
            line = int(found.numbers[np.flatnonzero(keys == 0)[0]])
            rule = f"{name!r} is not a field of every row of {source.name}"
            raise InvalidInput(Problem(option, rule, "name a field that all rows have, or leave it out", line))


def _settle(
    source: Source,
    settings: Settings,
    columns: Columns,
    signed: Any,
    links: dict[str, Edges],
    common: Hashes,
    compared: Compared,
    tell: Tell,
) -> Split:
    """Sides, drawn until no pair across them is as much alike as the threshold."""
    added = 0
    for _ in range(MAX_ROUNDS):
        labels = components(len(columns), links)
        sides = sides_of(columns.prompts, labels, settings)
        tell("comparing prompts across the sides")
        measured = _measure(source, columns, signed, sides, common, compared)
        close = [one for one in measured if one[0] >= settings.threshold]
        if not close:
            break
        first = np.array([one[1] for one in close], np.int64)
        second = np.array([one[2] for one in close], np.int64)
        links["near"] = (np.concatenate([links["near"][0], first]), np.concatenate([links["near"][1], second]))
        added += first.size
    refuse_crossing(columns, sides, links, measured, settings.threshold)
    split = Split(
        columns=columns,
        sides=sides,
        labels=labels,
        links=links,
        common=common,
        giants=tuple(_giants(columns, labels, links)),
        nearest=_nearest(measured, columns, sides),
        num_pairs=compared.num_pairs,
        num_left_out=compared.num_left_out,
        num_added=added,
        num_moved=_moved(columns, sides, settings),
    )
    for share, name in zip(settings.shares, SPLITS, strict=True):
        if share > 0 and not split.num_rows_of[name]:
            count = int(labels.max()) + 1
            rule = f"the {name} split is empty: {len(columns)} rows in {count} components at a share of {share:g}"
            raise InvalidInput(Problem(f"--{name}", rule, "give more rows, or a larger share"))
    return split


def sides_of(prompts: NDArray[np.uint64], labels: Labels, settings: Settings) -> Sides:
    """The side of each row: that of its component, by its smallest key and the seed.

    With an earlier split, a component is where most of its rows were.
    """
    count = int(labels.max()) + 1
    smallest = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, labels, prompts)
    edges = np.cumsum(settings.shares)[:-1]
    edges[edges > 1 - 1e-9] = 1.0  # shares that sum to 1 - 1e-16 leave a sliver
    places = np.array([place_of(int(key), settings.seed) for key in smallest])
    sides = np.searchsorted(edges, places, side="right").astype(np.int8)
    if settings.earlier:
        votes = np.zeros((count, len(SPLITS)), np.int64)
        known = [(row, settings.earlier.get(int(key))) for row, key in enumerate(prompts)]
        for row, side in known:
            if side is not None:
                votes[labels[row], side] += 1
        told = votes.any(axis=1)
        sides[told] = votes[told].argmax(axis=1)
    return sides[labels]


def _moved(columns: Columns, sides: Sides, settings: Settings) -> int:
    if not settings.earlier:
        return 0
    before = [settings.earlier.get(int(key)) for key in columns.prompts]
    return sum(one is not None and one != side for one, side in zip(before, sides.tolist(), strict=True))


def _measure(
    source: Source, columns: Columns, signed: Any, sides: Sides, common: Hashes, compared: Compared
) -> list[tuple[float, int, int]]:
    """The most alike pairs across the sides, compared word for word: similarity and rows, the most alike first."""
    first, second, _ = across(columns, signed, sides, MOST_ACROSS, compared)
    alike = word_for_word(source, columns, first, second, common)
    found = list(zip(alike, first.tolist(), second.tolist(), strict=True))
    return sorted(found, key=lambda one: (-one[0], one[1:]))


def word_for_word(source: Source, columns: Columns, first: Ints, second: Ints, common: Hashes) -> list[float]:
    """The similarities of pairs of rows, of whose prompts the shingles are in memory: not for any number of pairs."""
    numbers = columns.numbers
    own = {
        number: own_shingles(row["messages"][:-1], common)
        for number, row in picked(source, {int(numbers[row]) for row in np.concatenate([first, second])})
    }
    return [
        similarity(own[int(numbers[one])], own[int(numbers[other])]) for one, other in zip(first, second, strict=True)
    ]


def picked(source: Source, numbers: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Some rows in the common form, by their lines; the others are not parsed."""
    for chunk in source.chunks() if numbers else ():
        for place, number in enumerate(chunk.numbers):
            if number in numbers:
                yield number, common_form(chunk.row(place))


def _nearest(measured: list[tuple[float, int, int]], columns: Columns, sides: Sides) -> Nearest | None:
    if not measured:
        return None
    alike, one, other = measured[0]
    lines = (int(columns.numbers[one]), int(columns.numbers[other]))
    return Nearest(alike, lines, (SPLITS[sides[one]], SPLITS[sides[other]]))


def refuse_crossing(
    columns: Columns,
    sides: Sides,
    links: Mapping[str, Edges],
    measured: Iterable[tuple[float, int, int]],
    threshold: float,
) -> None:
    """Look at every link once more, and at what was measured: none may join two sides.

    Raises:
        InvalidInput: One does, with its lines.
    """
    crossing: list[tuple[str, int, int]] = []
    for kind, (first, second) in links.items():
        wrong = np.flatnonzero(sides[first] != sides[second])
        crossing += [(f"a {kind} link", int(first[place]), int(second[place])) for place in wrong[:1]]
    crossing += [
        (f"a similarity of {alike:.2f}, {threshold:g} or more,", one, other)
        for alike, one, other in measured
        if alike >= threshold
    ][:1]
    if crossing:
        told = [
            Problem(
                "DATA",
                f"{what} joins line {columns.numbers[one]} in {SPLITS[sides[one]]} "
                f"and line {columns.numbers[other]} in {SPLITS[sides[other]]}",
                "lower --similarity, or name what belongs together with --group-field",
            )
            for what, one, other in crossing
        ]
        raise InvalidInput(told)


def _giants(columns: Columns, labels: Labels, links: Mapping[str, Edges]) -> Iterator[Giant]:
    sizes = np.bincount(labels)
    for label in np.argsort(-sizes, kind="stable")[:3]:
        size = int(sizes[label])
        if size < GIANT * len(columns) or size < 2:
            return
        members = np.flatnonzero(labels == label)
        inside = {
            kind: (
                np.searchsorted(members, edges[0][labels[edges[0]] == label]),
                np.searchsorted(members, edges[1][labels[edges[0]] == label]),
            )
            for kind, edges in links.items()
        }
        without = {
            kind: int(np.bincount(components(size, {k: v for k, v in inside.items() if k != kind})).max())
            / len(columns)
            for kind, edges in inside.items()
            if edges[0].size
        }
        yield Giant(
            share=size / len(columns),
            num_rows=size,
            links={kind: int(edges[0].size) for kind, edges in inside.items() if edges[0].size},
            without=without,
            lines=tuple(int(columns.numbers[row]) for row in members[:3]),
        )
