"""A catalogue: products with an id, the text that is searched, and fields that a shopper may prefer."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recipes.shopping.tables import Row, read_table
from sweeps.errors import InvalidInput, Problem
from sweeps.retrieving import Columns

WHERE = "evaluate.pipeline.catalogue"
MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Product:
    """One product. ``text`` is what is embedded; ``fields`` are its columns as text."""

    id: str
    text: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Catalogue:
    """Products in the order of their file.

    Attributes:
        products: Ids are unique, no text is empty.
        source: Where they are from, for messages.
    """

    products: tuple[Product, ...]
    source: str

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of every product by its id."""
        return {product.id: place for place, product in enumerate(self.products)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over what an index is made of: ids and texts, in order."""
        digest = hashlib.sha256()
        for product in self.products:
            digest.update(json.dumps([product.id, product.text]).encode() + b"\n")
        return digest.hexdigest()


def read_catalogue(path: Path, columns: Columns, keep: Sequence[str] = ()) -> Catalogue:
    """Read a catalogue from a table.

    Args:
        path: CSV, TSV, JSONL or Parquet.
        columns: Which columns say what.
        keep: Further columns that are kept as fields.

    Raises:
        InvalidInput: With every product without a text or with another's id (the first twenty), by line.
    """
    products: dict[str, Product] = {}
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    for number, row in read_table(path, WHERE, [columns.id, *columns.text, *keep]):
        try:
            product = _product(row, columns, keep)
            if product.id in products:
                rule = f"id {product.id!r} is that of two products, first in line {lines[product.id]}"
                raise ValueError(rule)
        except ValueError as error:
            problems.append(Problem(path.name, str(error), "every product needs an id of its own and a text", number))
            if len(problems) == MOST_PROBLEMS:
                break
            continue
        products[product.id], lines[product.id] = product, number
    if problems:
        raise InvalidInput(problems, str(path))
    return Catalogue(tuple(products.values()), str(path))


def _product(row: Row, columns: Columns, keep: Sequence[str]) -> Product:
    """One row as a product.

    Raises:
        ValueError: It has no id, or no text.
    """
    identifier = as_text(row[columns.id])
    if not identifier:
        raise ValueError(f"{columns.id} is empty")
    text = ". ".join(filter(None, (as_text(row.get(name)) for name in columns.text)))
    if not text:
        raise ValueError(f"product {identifier!r} has no text: {', '.join(columns.text)} are empty")
    return Product(identifier, text, {name: as_text(row.get(name)) for name in keep})


def as_text(value: Any) -> str:
    """A value of a table as text: nothing for what is not there, lists and objects by what they hold."""
    return " ".join(_words(value)).strip()


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words(inner)
    elif value is not None:
        yield " ".join(str(value).split())
