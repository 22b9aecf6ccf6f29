"""Rows as streams: the same from JSONL and Parquet, from a disk and from S3, and nothing half written."""

from pathlib import Path
from typing import Any

import pytest

from recipes.data.stream import RowWriter, read_rows
from sweeps.errors import InvalidInput, Problem
from tests.storage import BUCKET, Server

ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"Ünï {n}"}], "drawn": {"grade": n / 2, "metrics": ["x"]}}
    for n in range(2300)
]


def write(to: str, rows: list[dict[str, Any]]) -> None:
    with RowWriter(to) as writer:
        for row in rows:
            writer.write(row)
        assert writer.num_rows == len(rows)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_what_is_written_to_a_disk_is_read(tmp_path: Path, name: str) -> None:
    write(str(tmp_path / name), ROWS)
    assert list(read_rows(name, tmp_path)) == list(enumerate(ROWS, start=1))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_what_is_written_to_s3_is_read(server: Server, name: str, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/made/{name}"
    write(url, ROWS[:50])
    assert [row for _, row in read_rows(url)] == ROWS[:50]
    assert [row for _, row in read_rows(url, cache=tmp_path)] == ROWS[:50]


def test_fields_that_some_rows_lack_are_no_fields_of_them(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {"b": "x", "a": None}, {"c": [1]}] * 600
    write(str(tmp_path / "rows.parquet"), rows)
    assert [row for _, row in read_rows("rows.parquet", tmp_path)] == [{"a": 1}, {"b": "x"}, {"c": [1]}] * 600


def test_nothing_is_there_after_an_error(tmp_path: Path) -> None:

    def fail() -> None:
        with RowWriter(tmp_path / "rows.jsonl") as writer:
            writer.write({"a": 1})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInput, match="the rows make no table"):
        write(str(tmp_path / "rows.parquet"), [{"a": 1}, {"a": {"b": 2}}])
    assert list(tmp_path.iterdir()) == []


def test_lines_that_are_no_json_are_told_with_their_number(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\nhello\n{"a": 2}')
    found = list(read_rows("rows.jsonl", tmp_path))
    assert [(number, row) for number, row in found if not isinstance(row, Problem)] == [(1, {"a": 1}), (4, {"a": 2})]
    assert str(found[1][1]).startswith(f"line 3: {tmp_path}/rows.jsonl: not JSON")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidInput, match=r"cut.parquet cannot be read as Parquet"):
        list(read_rows("cut.parquet", tmp_path))
    with pytest.raises(InvalidInput, match="no such file"):
        list(read_rows("gone.jsonl", tmp_path))
