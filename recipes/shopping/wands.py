"""WANDS, Wayfair's annotated product search: 42,994 products, 480 queries, 233,448 labels (Chen et al., ECIR 2022).

Three files that are separated by tabs: ``query.csv``, ``product.csv`` and ``label.csv``. The data are at
https://github.com/wayfair/WANDS under the MIT licence.
"""

from collections.abc import Iterator
from pathlib import Path

from recipes.shopping.catalogue import as_text
from recipes.shopping.importing import Article, Imported, Judged, write_import
from recipes.shopping.tables import read_tab_separated
from sweeps.errors import InvalidInput, Problem

FILES = {"query": "query.csv", "product": "product.csv", "label": "label.csv"}
_COLUMNS = ("product_id", "product_name", "product_class", "product_description", "product_features")
GRADES = {"Exact": 2, "Partial": 1, "Irrelevant": 0}


def import_wands(source: Path, to: Path) -> Imported:
    """Turn the folder with WANDS' three files into a catalogue, labels and rows.

    A pair that was judged twice counts by the better label.

    Raises:
        InvalidInput: A file is not there or of another form, a product has no name or another's id, or a label is of an
            unknown product or query.
    """
    paths = {what: source / name for what, name in FILES.items()}
    known = _product_ids(paths["product"])
    texts: dict[str, str] = {}
    for line, row in read_tab_separated(paths["query"], "wands", ["query_id", "query"]):
        identifier, text = as_text(row["query_id"]), as_text(row["query"])
        if not identifier or not text or identifier in texts:
            rule = f"a query needs an id of its own and a text, but got {identifier!r}: {text!r}"
            raise InvalidInput(Problem(paths["query"].name, rule, line=line))
        texts[identifier] = text
    grades: dict[str, dict[str, int]] = {identifier: {} for identifier in texts}
    for line, row in read_tab_separated(paths["label"], "wands", ["query_id", "product_id", "label"]):
        query, product, label = (as_text(row[name]) for name in ("query_id", "product_id", "label"))
        if query not in texts or product not in known:
            rule = f"the label is of query {query!r} and product {product!r}, and there is no such "
            raise InvalidInput(
                Problem(paths["label"].name, rule + ("query" if query not in texts else "product"), line=line)
            )
        if label not in GRADES:
            rule = f"a label must be one of {', '.join(GRADES)}, but got {label!r}"
            raise InvalidInput(Problem(paths["label"].name, rule, line=line))
        grades[query][product] = max(GRADES[label], grades[query].get(product, 0))
    queries = [Judged(identifier, text, grades[identifier]) for identifier, text in texts.items()]
    return write_import(to, "WANDS", lambda: _articles(paths["product"]), queries, GRADES["Exact"], paths, {})


def _product_ids(path: Path) -> set[str]:
    known: set[str] = set()
    for line, row in read_tab_separated(path, "wands", _COLUMNS):
        identifier = as_text(row["product_id"])
        if not identifier or identifier in known or not as_text(row["product_name"]):
            rule = f"a product needs an id of its own and a name, but got {identifier!r}: {row['product_name']!r}"
            raise InvalidInput(Problem(path.name, rule, line=line))
        known.add(identifier)
    return known


def _articles(path: Path) -> Iterator[Article]:
    for _, row in read_tab_separated(path, "wands", _COLUMNS):
        features = [part.split(":", 1) for part in as_text(row["product_features"]).split("|") if ":" in part]
        yield Article(
            as_text(row["product_id"]),
            as_text(row["product_name"]),
            as_text(row["product_class"]).split("|")[0].strip(),
            {name.strip(): value.strip() for name, value in features if name.strip() and value.strip()},
            {"description": as_text(row["product_description"])},
        )
