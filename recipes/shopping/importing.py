"""Public data sets of product search as a catalogue, labels, and rows to train on.

What an importer writes is what ``evaluate.pipeline`` reads, beside a record of the files it came from. The right answer
of a row is made of what people judged right for its query: the category that most of these products have, attributes
that most of them share, and the titles of a few as hypothetical products.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.files import sha256_of, write_json, write_whole
from sweeps.errors import InvalidInput, Problem

PRODUCTS, LABELS, ROWS, RECORD = "products.jsonl", "labels.jsonl", "rows.jsonl", "import.json"
NUM_TITLES = 3  # hypothetical products of a right answer
NUM_ATTRIBUTES = 4
SHARED = 0.5  # of the right products have an attribute that the answer names
SYSTEM_PROMPT = (
    "You turn a shopper's search into what to look for. Answer with JSON alone: the product category, attributes with "
    "their values, and titles of products that the shopper would like to find."
)


@dataclass(frozen=True)
class Article:
    """A product of a data set.

    Attributes:
        category: Empty where the data set has none; ``attributes`` too.
        columns: Further columns of the catalogue, such as a description.
    """

    id: str
    title: str
    category: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """A query with its judged products: their grades by id; ``best`` is the grade of a right one."""

    id: str
    text: str
    grades: Mapping[str, int]


@dataclass(frozen=True)
class Imported:
    """What was written, and what was left out and why."""

    folder: Path
    products: int
    queries: int
    labels: int
    left_out: Mapping[str, int]
    sources: Mapping[str, str]


def write_import(
    folder: Path,
    name: str,
    articles: Callable[[], Iterator[Article]],
    queries: Iterable[Judged],
    best: int,
    sources: Mapping[str, Path],
    left_out: Mapping[str, int],
) -> Imported:
    """Write the catalogue, the labels and the rows, each in one piece, and the record of all last.

    Args:
        folder: Where to; made where it is not there.
        name: Of the data set.
        articles: The products, from the beginning at each call.
        queries: With judged products that are all among them.
        best: The grade of a right product; a query without one has no right answer, and is left out.
        sources: The files that were read, by what they are.
        left_out: What was not taken over, with the number of it.

    Raises:
        InvalidInput: No query has a right product, or the folder cannot be written.
    """
    right: set[str] = set()
    kept, without = [], 0
    for query in queries:
        if best not in query.grades.values():
            without += 1
            continue
        kept.append(query)
        right.update(_best(query, best))
    if not kept:
        rule = f"no query of {name} has a product of grade {best}"
        raise InvalidInput(Problem(str(folder), rule, "are these the files of one data set?"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(Problem("--to", f"{folder} cannot be written: {error.strerror}")) from None
    found: dict[str, Article] = {}

    def catalogue() -> Iterator[dict[str, Any]]:
        for article in articles():
            if article.id in right:
                found[article.id] = article
            attributes = {"attributes": dict(article.attributes)} if article.attributes else {}
            category = {"category": article.category} if article.category else {}
            yield {"id": article.id, "title": article.title, **category, **attributes, **article.columns}

    labels = (
        {"query": query.id, "product": product, "grade": grade}
        for query in kept
        for product, grade in query.grades.items()
    )
    num_products = _write(folder / PRODUCTS, catalogue())
    num_labels = _write(folder / LABELS, labels)
    _write(folder / ROWS, (_row(query, [found[one] for one in _best(query, best)]) for query in kept))
    digests = {what: sha256_of(path) for what, path in sources.items()}
    dropped = {**left_out, "queries without a right product": without}
    imported = Imported(folder, num_products, len(kept), num_labels, {k: n for k, n in dropped.items() if n}, digests)
    record = {
        "data_set": name,
        "sources": {what: {"file": path.name, "sha256": digests[what]} for what, path in sources.items()},
        "sha256": {file: sha256_of(folder / file) for file in (PRODUCTS, LABELS, ROWS)},
        "products": num_products,
        "queries": len(kept),
        "labels": num_labels,
        "left_out": dict(imported.left_out),
    }
    write_json(folder / RECORD, record)
    return imported


def _best(query: Judged, best: int) -> list[str]:
    return [product for product, grade in query.grades.items() if grade == best]


def _row(query: Judged, right: Sequence[Article]) -> dict[str, Any]:
    """A row to train on, in chat form; ``id`` names its query in the labels."""
    category = _commonest(one.category for one in right if one.category)
    counts = Counter((name, value) for one in right for name, value in one.attributes.items())
    shared = [pair for pair, count in counts.most_common() if count >= max(1, SHARED * len(right))]
    attributes: dict[str, str] = {}
    for key, value in shared:
        if len(attributes) < NUM_ATTRIBUTES:
            attributes.setdefault(key, value)
    answer = {"category": category, "attributes": attributes, "products": [one.title for one in right[:NUM_TITLES]]}
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": query.text},
        {"role": "assistant", "content": answer},
    ]
    return {"id": query.id, "messages": messages}


def _commonest(words: Iterable[str]) -> str:
    return next((word for word, _ in Counter(words).most_common(1)), "")


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    return write_whole(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
