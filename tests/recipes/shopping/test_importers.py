"""Small files in the forms of WANDS and ESCI become a catalogue, labels and rows, and a sweep can use them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from recipes.data.rows import checked_rows, read_jsonl
from recipes.files import sha256_of
from recipes.shopping.esci import import_esci
from recipes.shopping.shop import open_shop
from recipes.shopping.wands import import_wands
from sweeps.errors import InvalidInput
from sweeps.retrieving import Pipeline

HEAD = "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\tproduct_features\t"
PRODUCTS = (
    HEAD + "rating_count\taverage_rating\treview_count\n"
    "0\tsolid wood platform bed\tBeds\tFurniture / Bedroom\tdeep sleep\tcolor : brown|material : wood\t15\t4.5\t9\n"
    '1\t"30"" oak bed"\tBeds\tFurniture / Bedroom\t\tmaterial : wood|overallwidth-sidetoside:64.7\t\t\t\n'
    "2\tsalon chair\tMassage Chairs|Salon\t\tfor salons\t\t\t\t\n"
)
QUERIES = "query_id\tquery\tquery_class\n7\twood bed\tBeds\n8\tsalon chair\tMassage Chairs\n9\tblue whale\t\n"
LABELS = (
    "id\tquery_id\tproduct_id\tlabel\n0\t7\t0\tExact\n1\t7\t1\tExact\n2\t7\t2\tIrrelevant\n3\t8\t2\tExact\n"
    "4\t8\t0\tIrrelevant\n5\t9\t2\tPartial\n6\t8\t1\tIrrelevant\n7\t8\t1\tPartial\n"
)


def wands(folder: Path, **files: str) -> Path:
    for name, text in {"query": QUERIES, "product": PRODUCTS, "label": LABELS, **files}.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_wands_round_trip(tmp_path: Path) -> None:
    found = import_wands(wands(tmp_path), tmp_path / "out")
    assert (found.products, found.queries, found.labels) == (3, 2, 6)
    assert found.left_out == {"queries without a right product": 1}
    products = lines(tmp_path / "out" / "products.jsonl")
    assert products[1]["title"] == '30" oak bed'
    assert products[0]["attributes"] == {"color": "brown", "material": "wood"}
    assert products[2]["category"] == "Massage Chairs"
    row = lines(tmp_path / "out" / "rows.jsonl")[0]
    right = {
        "category": "Beds",
        "attributes": {"material": "wood", "color": "brown", "overallwidth-sidetoside": "64.7"},
    }
    assert row["messages"][-1]["content"] == {**right, "products": ["solid wood platform bed", '30" oak bed']}
    assert {"query": "8", "product": "1", "grade": 1} in lines(tmp_path / "out" / "labels.jsonl"), "the better label"
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert record["sources"]["label"]["sha256"] == sha256_of(tmp_path / "label.csv")
    assert record["sha256"]["rows.jsonl"] == sha256_of(tmp_path / "out" / "rows.jsonl")


def test_what_is_imported_is_what_a_pipeline_reads(tmp_path: Path) -> None:
    import_wands(wands(tmp_path), tmp_path / "out")
    block = {"catalogue": "out/products.jsonl", "labels": "out/labels.jsonl", "relevant": 2}
    block |= {"columns": {"text": ["title", "category", "description"]}}
    shop = open_shop(Pipeline.model_validate(block), tmp_path)
    rows = checked_rows(read_jsonl(tmp_path / "out" / "rows.jsonl"), "rows")
    assert [max(shop.grades(row).values()) for row in rows] == [2, 2]
    assert shop.query(rows[0]) == "wood bed"
    assert shop.catalogue.products[2].text == "salon chair. Massage Chairs. for salons"


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"label": LABELS + "9\t7\t5\tExact\n"}, "label.csv: the label is of query '7' and product '5'"),
        ({"label": LABELS + "9\t6\t0\tExact\n"}, "there is no such query"),
        ({"label": LABELS + "9\t7\t1\tGood\n"}, "must be one of Exact, Partial, Irrelevant, but got 'Good'"),
        ({"product": PRODUCTS + PRODUCTS.splitlines()[1] + "\n"}, "needs an id of its own and a name"),
        ({"product": PRODUCTS.replace("product_features", "features")}, "has no column 'product_features'"),
        ({"query": QUERIES + "7\tanother\t\n"}, "a query needs an id of its own and a text"),
        ({"label": LABELS.replace("Exact", "Partial")}, "no query of WANDS has a product of grade 2"),
    ],
)
def test_wrong_wands(tmp_path: Path, files: dict[str, str], rule: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        import_wands(wands(tmp_path, **files), tmp_path / "out")
    assert rule in str(caught.value)
    assert not (tmp_path / "out" / "import.json").exists()


EXAMPLES = [
    (0, "tent", 1, "B1", "us", "E", 1),
    (1, "tent", 1, "B2", "us", "S", 1),
    (2, "tent", 1, "B3", "us", "C", 1),
    (3, "tent", 1, "B4", "us", "I", 1),
    (4, "zelt", 2, "B1", "es", "E", 1),
    (5, "rare", 3, "B2", "us", "E", 0),
    (6, "no title", 4, "B5", "us", "E", 1),
]


def esci(folder: Path, examples: list[Any] = EXAMPLES, skip: str = "") -> Path:
    names = ("example_id", "query", "query_id", "product_id", "product_locale", "esci_label", "small_version")
    more = {"large_version": 1, "split": "test"}
    table = pa.Table.from_pylist([{**dict(zip(names, row, strict=True)), **more} for row in examples])
    parquet.write_table(table, folder / "shopping_queries_dataset_examples.parquet")
    empty = {"product_description": None, "product_bullet_point": None}
    products = [
        {
            "product_id": f"B{number}",
            "product_title": f"Tent {number} {locale}" if number < 5 else None,
            "product_brand": "Tarn" if number < 3 else None,
            "product_color": None,
            "product_locale": locale,
            **empty,
        }
        for locale in ("us", "es")
        for number in range(1, 6)
        if f"B{number}" != skip
    ]
    parquet.write_table(pa.Table.from_pylist(products), folder / "shopping_queries_dataset_products.parquet")
    return folder


def test_esci_round_trip(tmp_path: Path) -> None:
    found = import_esci(esci(tmp_path), tmp_path / "out")
    assert (found.products, found.queries, found.labels) == (4, 1, 4)
    assert found.left_out == {"products without a title": 1, "queries without a right product": 1}
    grades = {label["product"]: label["grade"] for label in lines(tmp_path / "out" / "labels.jsonl")}
    assert grades == {"B1": 100, "B2": 10, "B3": 1, "B4": 0}, "the gains of the data set's ranking task"
    assert lines(tmp_path / "out" / "products.jsonl")[0] == {
        "id": "B1",
        "title": "Tent 1 us",
        "attributes": {"brand": "Tarn"},
        "brand": "Tarn",
        "description": "",
    }
    content = lines(tmp_path / "out" / "rows.jsonl")[0]["messages"][-1]["content"]
    assert content == {"category": "", "attributes": {"brand": "Tarn"}, "products": ["Tent 1 us"]}
    assert import_esci(tmp_path, tmp_path / "full", small=False).queries == 2
    assert import_esci(tmp_path, tmp_path / "es", "es").products == 1


@pytest.mark.parametrize(
    ("examples", "skip", "rule"),
    [
        ([(0, "tent", 1, "B1", "us", "X", 1)], "", "row 1: a label must be one of E, S, C, I, but got 'X'"),
        (EXAMPLES, "B2", "1 judged products are not among the products, first 'B2' of row 2"),
    ],
)
def test_wrong_esci(tmp_path: Path, examples: list[Any], skip: str, rule: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        import_esci(esci(tmp_path, examples, skip), tmp_path / "out")
    assert rule in str(caught.value)


def test_another_locale_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='must be one of us, es, jp, but got "de"'):
        import_esci(esci(tmp_path), tmp_path / "out", "de")
    with pytest.raises(InvalidInput, match="no such file"):
        import_wands(tmp_path / "nowhere", tmp_path / "out")
