"""Tables in four forms, catalogues, labels and purchase histories."""

import csv
import json
import math
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from recipes.shopping.catalogue import Product, read_catalogue
from recipes.shopping.profile import profile_of
from recipes.shopping.shop import open_shop
from recipes.shopping.tables import read_table
from sweeps.errors import InvalidInput
from sweeps.retrieving import Columns, Pipeline

ROWS: list[dict[str, Any]] = [
    {"id": "p1", "title": 'Oak table, 30" wide', "brand": "Tarn"},
    {"id": "p2", "title": "Läufer „Fjord“", "brand": "Umbra"},
    {"id": "p3", "title": "Two\nlines", "brand": None},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    names = list(rows[0])
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_form_gives_the_same_rows(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"products.{ending}", ROWS)
    assert [row for _, row in read_table(path, "here", ["id", "title"])] == (
        ROWS if ending != "parquet" else [{"id": row["id"], "title": row["title"]} for row in ROWS]
    )


def test_what_parquet_has_and_json_has_not_is_text_or_told(tmp_path: Path) -> None:
    row = {"id": "p1", "title": "Tent", "price": Decimal("19.90"), "added": date(2026, 1, 2), "stars": float("nan")}
    path = write(tmp_path / "products.parquet", [row])
    [(_, read)] = read_table(path, "here", list(row))
    assert read == {**row, "price": "19.90", "added": "2026-01-02", "stars": None}
    write(path, [{"id": "p1", "title": "Tent", "picture": b"\x00"}])
    with pytest.raises(InvalidInput, match="row 1, column 'picture': bytes are no JSON value"):
        list(read_table(path, "here", ["id", "title", "picture"]))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_the_same_catalogue_has_the_same_digest_in_every_form(tmp_path: Path, ending: str) -> None:
    columns = Columns(text=("title", "brand"))
    catalogue = read_catalogue(write(tmp_path / f"products.{ending}", ROWS), columns, ["brand"])
    assert catalogue.products[0] == Product("p1", 'Oak table, 30" wide. Tarn', {"brand": "Tarn"})
    assert catalogue.products[2].text == "Two lines"
    assert catalogue.digest == read_catalogue(write(tmp_path / "other.jsonl", ROWS), columns).digest
    assert catalogue.places == {"p1": 0, "p2": 1, "p3": 2}


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("a.csv", b"id,title\np1,Oak,more\n", "line 2 has 3 fields, and the head has 2"),
        ("a.csv", b"id,title\n", "has no rows"),
        ("a.csv", b"id,title\np1,\xff\n", "is not UTF-8: it has the byte 0xff, after line 0"),
        ("a.jsonl", b'{"id": "p1", "title": "Oak"}\n{"id":\n', "line 2 is no JSON"),
        ("a.jsonl", b'{"id": "p1", "title": "Oak \\ud83d"}\n', "line 1 holds half of a surrogate pair"),
        ("a.jsonl", b"[1]\n", "line 1 must be a JSON object, but is '[1]'"),
        ("a.parquet", b"PAR1", "is no Parquet"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "`git lfs pull` gets the file"),
    ],
)
def test_a_file_that_is_not_of_its_form_is_told_with_the_line(
    tmp_path: Path, name: str, content: bytes, rule: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match="here: ") as caught:
        list(read_table(tmp_path / name, "here", ["id"]))
    assert rule in str(caught.value)


def test_every_wrong_product_is_told_at_once(tmp_path: Path) -> None:
    rows = [*ROWS, {"id": "p1", "title": "Elm", "brand": ""}, {"id": "", "title": "Ash"}, {"id": "p5", "title": " "}]
    with pytest.raises(InvalidInput) as caught:
        read_catalogue(write(tmp_path / "products.jsonl", rows), Columns())
    assert [problem.line for problem in caught.value.problems] == [4, 5, 6]


def test_a_row_of_json_may_leave_out_what_it_does_not_have(tmp_path: Path) -> None:
    rows = [{"id": "p1", "title": "Oak"}, {"id": "p2", "title": "Elm", "brand": "Tarn"}]
    read = read_catalogue(write(tmp_path / "products.jsonl", rows), Columns(text=("title", "brand")))
    assert [product.text for product in read.products] == ["Oak", "Elm. Tarn"]
    with pytest.raises(InvalidInput) as caught:
        read_catalogue(write(tmp_path / "products.jsonl", [*rows, {"title": "Ash"}]), Columns())
    assert [(one.line, one.rule) for one in caught.value.problems] == [(3, "id is empty")]
    with pytest.raises(InvalidInput, match="has no column 'colour'"):
        read_catalogue(write(tmp_path / "products.jsonl", rows), Columns(text=("colour",)))


def shop(folder: Path, **tables: list[dict[str, Any]]) -> Any:
    given_tables = {
        "products": ROWS,
        "labels": [{"query": "7", "product": "p1", "grade": 2}, {"query": "7", "product": "p2", "grade": 0}],
        "bought": [{"shopper": "s", "product": "p1"}, {"shopper": "s", "product": "p2"}] * 2
        + [{"shopper": "s", "product": "p1"}],
        **tables,
    }
    for name, rows in given_tables.items():
        write(folder / f"{name}.jsonl", rows)
    profiles = {"history": "bought.jsonl", "shopper": "who"}
    block = {"catalogue": "products.jsonl", "labels": "labels.jsonl", "query": "number", "profiles": profiles}
    return open_shop(Pipeline.model_validate(block), folder)


def test_a_shop_of_tables_knows_rows_by_their_fields(tmp_path: Path) -> None:
    opened = shop(tmp_path)
    row = {"id": "0", "number": 7, "who": "s", "messages": [{"role": "user", "content": "an oak table"}]}
    assert opened.query(row) == "an oak table"
    assert opened.grades(row) == {"p1": 2, "p2": 0}
    profile = opened.profile(row)
    assert [round(profile.affinity(product), 3) for product in opened.catalogue.products] == [1.0, 0.667, 0.0]
    assert opened.profile({**row, "who": "new"}) is None
    with pytest.raises(InvalidInput, match="no product is judged for the query '8'"):
        opened.grades({**row, "number": 8})


@pytest.mark.parametrize(
    ("tables", "rule"),
    [
        ({"labels": [{"query": "7", "product": "p9", "grade": 1}]}, "1 labels are of products that are not in"),
        ({"labels": [{"query": "7", "product": "p1", "grade": 1}] * 2}, "is judged twice for query '7'"),
        ({"labels": [{"query": "7", "product": "p1", "grade": -1}]}, "from 0 to 1000, but got -1"),
        ({"labels": [{"query": "7", "product": "p1", "grade": 0.5}]}, "from 0 to 1000, but got 0.5"),
        ({"labels": [{"query": "7", "product": "p1", "grade": 2**40}]}, "from 0 to 1000, but got 1099511627776"),
        ({"labels": [{"query": "7", "product": "p1", "grade": math.inf}]}, "from 0 to 1000, but got inf"),
        ({"labels": [{"query": "7", "product": "p1", "grade": 1}, {"query": "7"}]}, "but got None"),
        ({"bought": [{"shopper": "s", "product": "p8"}]}, "1 purchases are of products that are not in"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(tmp_path: Path, tables: Any, rule: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        shop(tmp_path, **tables)
    assert rule in str(caught.value)


@given(st.lists(st.sampled_from(["Tarn", "Umbra", "Istra", ""]), max_size=20))
def test_a_profile_is_from_0_to_1_and_likes_most_what_was_bought_most(brands: list[str]) -> None:
    profile = profile_of([Product(str(at), "x", {"brand": brand}) for at, brand in enumerate(brands)], ["brand"])
    liked = {brand: profile.affinity(Product("p", "x", {"brand": brand})) for brand in ("Tarn", "Umbra", "Istra")}
    assert all(0 <= value <= 1 for value in liked.values())
    assert profile.affinity(Product("p", "x", {"brand": ""})) == 0
    bought = [brand for brand in brands if brand]
    if bought:
        assert liked[max(set(bought), key=bought.count)] == 1
