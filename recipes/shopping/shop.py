"""A shop as a pipeline sees it: its products, and what is known of a row: query, right products, shopper."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from recipes.shopping.catalogue import Catalogue, as_text, read_catalogue
from recipes.shopping.profile import Profile, profile_of
from recipes.shopping.tables import read_table
from sweeps.errors import InvalidInput, Problem
from sweeps.retrieving import DEMO, Pipeline, Profiles

LABELS, HISTORY = "evaluate.pipeline.labels", "evaluate.pipeline.profiles.history"
HIGHEST = 1000  # grade; trec_eval, which measures the lists, keeps a count for each grade up to the highest


class Shop(Protocol):
    """Products, and what is known of rows. A row is a data row with ``id`` and ``messages`` up to the answer."""

    @property
    def catalogue(self) -> Catalogue:
        """What is sold."""

    def query(self, row: Mapping[str, Any]) -> str:
        """The shopper's own words.

        Raises:
            InvalidInput: The row has none.
        """

    def grades(self, row: Mapping[str, Any]) -> Mapping[str, int]:
        """How right a product is for the row, by its id; one that nobody has judged is not there.

        Raises:
            InvalidInput: No product is judged for the row.
        """

    def profile(self, row: Mapping[str, Any]) -> Profile | None:
        """The profile of the row's shopper; None where nothing is known."""


def open_shop(settings: Pipeline, base_dir: Path) -> Shop:
    """The shop that a sweep's ``evaluate.pipeline`` describes.

    Args:
        settings: The block.
        base_dir: What relative paths are taken from.

    Raises:
        InvalidInput: A table cannot be used, a label or a purchase is of a product that is not in the catalogue.
    """
    if settings.catalogue == DEMO:
        from recipes.commerce.shop import DemoShop

        return DemoShop(settings.profiles)
    paths = {key: base_dir / Path(name).expanduser() for key, name in settings.tables.items()}
    match = settings.profiles.match if settings.profiles else ()
    catalogue = read_catalogue(paths["catalogue"], settings.columns, match)
    labels = read_labels(paths["labels"], catalogue)
    profiles: dict[str, Profile] = {}
    if settings.profiles is not None:
        profiles = read_profiles(paths["profiles.history"], catalogue, settings.profiles)
    return FileShop(catalogue, labels, profiles, settings)


@dataclass(frozen=True)
class FileShop:
    """A shop of tables.

    Attributes:
        labels: By query, then by product.
        profiles: By shopper.
        settings: Which fields of a row say what.
    """

    catalogue: Catalogue
    labels: Mapping[str, Mapping[str, int]]
    profiles: Mapping[str, Profile]
    settings: Pipeline

    def query(self, row: Mapping[str, Any]) -> str:
        """See :class:`Shop`."""
        name = self.settings.text
        if name is None:
            return last_turn(row)
        if not (text := as_text(row.get(name))):
            raise InvalidInput(Problem("evaluate.pipeline.text", f"row {row['id']!r} has no {name!r}"))
        return text

    def grades(self, row: Mapping[str, Any]) -> Mapping[str, int]:
        """See :class:`Shop`."""
        key = as_text(row.get(self.settings.query))
        if key not in self.labels:
            rule = f"no product is judged for the query {key!r} of row {row['id']!r}"
            hint = f"{self._source} has {len(self.labels)} queries; evaluate.pipeline.query names the field of a row"
            raise InvalidInput(Problem(LABELS, rule, hint))
        return self.labels[key]

    def profile(self, row: Mapping[str, Any]) -> Profile | None:
        """See :class:`Shop`. A shopper who has bought nothing is a new one."""
        if self.settings.profiles is None:
            return None
        return self.profiles.get(as_text(row.get(self.settings.profiles.shopper)))

    @cached_property
    def _source(self) -> str:
        return str(self.settings.labels)


def last_turn(row: Mapping[str, Any]) -> str:
    """What the user said last."""
    return next(str(one["content"]) for one in reversed(row["messages"]) if one["role"] == "user")


def read_labels(path: Path, catalogue: Catalogue) -> dict[str, dict[str, int]]:
    """The grades of products by query.

    Raises:
        InvalidInput: A grade is no whole number from 0 to ``HIGHEST``, a pair is judged twice, or a product is not in
            the catalogue; with how many are, and the first.
    """
    labels: dict[str, dict[str, int]] = {}
    unknown: list[tuple[int, str]] = []
    for number, row in read_table(path, LABELS, ["query", "product", "grade"]):
        query, product, written = as_text(row["query"]), as_text(row["product"]), row["grade"]
        try:
            grade = int(written)
            if not 0 <= grade <= HIGHEST or grade != float(written):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            rule = f"a grade must be a whole number from 0 to {HIGHEST}, but got {written!r:.40}"
            raise InvalidInput(Problem(path.name, rule, "0 is not relevant", number), str(path)) from None
        if product not in catalogue.places:
            unknown.append((number, product))
        elif product in labels.setdefault(query, {}):
            rule = f"product {product!r} is judged twice for query {query!r}"
            raise InvalidInput(Problem(path.name, rule, "keep one of them", number), str(path))
        else:
            labels[query][product] = grade
    _refuse_unknown(unknown, path, catalogue, "labels")
    return labels


def read_profiles(path: Path, catalogue: Catalogue, settings: Profiles) -> dict[str, Profile]:
    """The profile of every shopper, from what was bought.

    Raises:
        InvalidInput: A product is not in the catalogue.
    """
    bought: dict[str, list[str]] = {}
    unknown: list[tuple[int, str]] = []
    for number, row in read_table(path, HISTORY, ["shopper", "product"]):
        product = as_text(row["product"])
        if product in catalogue.places:
            bought.setdefault(as_text(row["shopper"]), []).append(product)
        else:
            unknown.append((number, product))
    _refuse_unknown(unknown, path, catalogue, "purchases")
    products, places = catalogue.products, catalogue.places
    return {
        shopper: profile_of((products[places[one]] for one in of_shopper), settings.match)
        for shopper, of_shopper in bought.items()
    }


def _refuse_unknown(unknown: list[tuple[int, str]], path: Path, catalogue: Catalogue, what: str) -> None:
    if not unknown:
        return
    number, product = unknown[0]
    rule = f"{len(unknown)} {what} are of products that are not in {Path(catalogue.source).name}, first {product!r}"
    raise InvalidInput(Problem(path.name, rule, "take both from the same version of the data", number), str(path))
