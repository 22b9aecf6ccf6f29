"""ESCI, Amazon's shopping queries (Reddy et al., 2022): queries with products judged exact, substitute, complement or
irrelevant, as two Parquet files.

The data are at https://github.com/amazon-science/esci-data under the Apache 2.0 licence. Grades are the gains of the
data set's own ranking task, 1, 0.1, 0.01 and 0, as whole numbers.
"""

from collections.abc import Iterator
from pathlib import Path

from recipes.shopping.catalogue import as_text
from recipes.shopping.importing import Article, Imported, Judged, write_import
from recipes.shopping.tables import read_table
from sweeps.errors import InvalidInput, Problem, nearest

FILES = {
    "examples": "shopping_queries_dataset_examples.parquet",
    "products": "shopping_queries_dataset_products.parquet",
}
GRADES = {"E": 100, "S": 10, "C": 1, "I": 0}
_EXAMPLES = ("query_id", "query", "product_id", "product_locale", "esci_label", "small_version")
_PRODUCTS = ("product_id", "product_locale", "product_title", "product_description", "product_brand", "product_color")
LOCALES = ("us", "es", "jp")


def import_esci(source: Path, to: Path, locale: str = "us", small: bool = True) -> Imported:
    """Turn the folder with ESCI's two files into a catalogue, labels and rows, for one locale.

    Args:
        source: The folder.
        to: Where to.
        locale: ``us``, ``es`` or ``jp``.
        small: The reduced version, which the ranking task uses; else all.

    Raises:
        InvalidInput: A file is not there or of another form, a product has another's id, a label is none, or is of an
            unknown product.
    """
    if locale not in LOCALES:
        rule = f'must be one of {", ".join(LOCALES)}, but got "{locale}"'
        raise InvalidInput(Problem("--locale", rule, nearest(locale, LOCALES)))
    paths = {what: source / name for what, name in FILES.items()}
    texts: dict[str, str] = {}
    grades: dict[str, dict[str, int]] = {}
    judged: dict[str, int] = {}  # products, with the row that judges them first
    for number, row in read_table(paths["examples"], "esci", _EXAMPLES):
        if row["product_locale"] != locale or (small and not row["small_version"]):
            continue
        query, product, label = as_text(row["query_id"]), as_text(row["product_id"]), row["esci_label"]
        if label not in GRADES:
            rule = f"row {number}: a label must be one of {', '.join(GRADES)}, but got {label!r}"
            raise InvalidInput(Problem(paths["examples"].name, rule))
        texts[query] = as_text(row["query"])
        grades.setdefault(query, {})[product] = GRADES[label]
        judged.setdefault(product, number)
    known, without_title = _product_ids(paths["products"], locale, judged)
    if unknown := [product for product in judged if product not in known and product not in without_title]:
        rule = f"{len(unknown)} judged products are not among the products, first {unknown[0]!r} of row "
        raise InvalidInput(Problem(paths["examples"].name, f"{rule}{judged[unknown[0]]}"))
    queries = [
        Judged(query, text, {one: grade for one, grade in grades[query].items() if one in known})
        for query, text in texts.items()
    ]
    left_out = {"products without a title": len(without_title)}
    name = f"ESCI, {locale}, {'reduced' if small else 'full'}"
    return write_import(to, name, lambda: _articles(paths["products"], known), queries, GRADES["E"], paths, left_out)


def _product_ids(path: Path, locale: str, judged: dict[str, int]) -> tuple[dict[str, str], set[str]]:
    """The judged products of a locale with a title, each with its locale, and those without."""
    known: dict[str, str] = {}
    without: set[str] = set()
    for number, row in read_table(path, "esci", ("product_id", "product_locale", "product_title")):
        identifier = as_text(row["product_id"])
        if row["product_locale"] != locale or identifier not in judged:
            continue
        if identifier in known or identifier in without:
            rule = f"row {number}: id {identifier!r} is that of two products of the locale {locale}"
            raise InvalidInput(Problem(path.name, rule))
        if as_text(row["product_title"]):
            known[identifier] = locale
        else:
            without.add(identifier)
    return known, without


def _articles(path: Path, known: dict[str, str]) -> Iterator[Article]:
    for _, row in read_table(path, "esci", _PRODUCTS):
        identifier = as_text(row["product_id"])
        if known.get(identifier) != row["product_locale"]:
            continue
        told = {"brand": as_text(row["product_brand"]), "color": as_text(row["product_color"])}
        attributes = {name: value for name, value in told.items() if value}
        columns = {"brand": told["brand"], "description": as_text(row["product_description"])}
        yield Article(identifier, as_text(row["product_title"]), "", attributes, columns)
