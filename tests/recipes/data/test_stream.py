"""Rows as a stream: JSONL and Parquet give the same rows, in chunks or one by one, and what cannot be read is told."""

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from recipes.data import jsonl, stream, tabular, workers
from recipes.data.rows import checked_rows
from recipes.data.splits import load
from recipes.data.stream import RowWriter, opened, read_rows
from recipes.schema import Data
from sweeps.errors import InvalidInput
from tests.storage import BUCKET, Server


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Where is order {number}?", "completion": f"Shelf {number}.", **more}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    with RowWriter(path) as writer:
        for one in rows:
            writer.write(one)
    return path


def read(path: Path) -> list[tuple[int, Any]]:
    return list(read_rows(str(path)))


def told(path: Path) -> str:
    with pytest.raises(InvalidInput) as caught:
        checked_rows(read(path), str(path))
    return str(caught.value)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_what_is_written_is_read_again_whatever_the_number_of_chunks(tmp_path: Path, name: str) -> None:
    rows = [row(n, tags=[str(n)], about={"shelf": n}) for n in range(2 * stream.CHUNK_ROWS + 7)]
    path = written(tmp_path / name, rows)
    assert read(path) == list(enumerate(rows, start=1))
    with opened(str(path)) as source:
        chunks = list(source.chunks())
    assert len(chunks) > 2
    assert [chunk.first for chunk in chunks] == [0, *[sum(map(len, chunks[:n])) for n in range(1, len(chunks))]]
    assert [chunk.row(1) for chunk in chunks] == [rows[chunk.first + 1] for chunk in chunks]
    assert not list(tmp_path.glob(".*")), "no part is left"


def test_a_writer_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with RowWriter(tmp_path / "rows.jsonl") as writer:
            writer.write(row(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


LINES = st.lists(st.sampled_from(["", " ", '{"a":1}', '{"a":"\\u2028"}', '"\x85 \u2028"', "1"]), max_size=12)


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans())
def test_lines_have_the_numbers_that_an_editor_shows(lines: list[str], end: str, bom: bool, ends: bool) -> None:
    import io

    text = end.join(lines) + (end if ends else "")
    data = (b"\xef\xbb\xbf" if bom else b"") + text.encode()
    expected = [(n, json.loads(one)) for n, one in enumerate(lines, start=1) if one.strip()]
    assert list(jsonl.parse_jsonl(io.BytesIO(data), "x")) == expected
    for line in jsonl.lines(io.BytesIO(data), "x"):
        assert data[line.start : line.start + len(line.data)] == line.data


def test_a_line_that_never_ends_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 2**20)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n[' + b"1," * 2**20)
    assert f"{path} has a line of more than 1 MiB, its line 2 (one JSON object a line is needed)" in told(path)


def test_the_place_of_a_wrong_byte_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a":1}\r\n\r\n{"b":"\xff"}\n')
    assert f"{path} is not UTF-8: byte 20 is 0xff, in line 3" in told(path)


def test_columns_that_are_null_are_no_fields_and_times_become_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.table(
        {
            "prompt": ["a", "b"],
            "completion": ["x", "y"],
            "when": [datetime.datetime(2026, 1, 2, 3, 4), None],
            "score": [0.5, 1.0],
            "kind": pyarrow.array(["p", "q"]).dictionary_encode(),
        }
    )
    parquet.write_table(table, path)
    assert read(path) == [
        (1, {"prompt": "a", "completion": "x", "when": "2026-01-02T03:04:00", "score": 0.5, "kind": "p"}),
        (2, {"prompt": "b", "completion": "y", "score": 1.0, "kind": "q"}),
    ]
    schema = tabular.json_schema(path)
    assert str(schema.field("when").type) == "string"
    assert read(written(tmp_path / "again.parquet", [one for _, one in read(path)])) == read(path)


def test_parquet_that_cannot_be_rows_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["a"], "picture": [b"\x00"]}), path)
    assert f"the column 'picture' of {path} has the type binary, which no JSON value has" in told(path)
    parquet.write_table(pyarrow.table({"prompt": ["a"], "completion": ["b"], "w": [float("nan")]}), path)
    assert told(path) == f"line 1: {path}: the column 'w': nan is no JSON value, write null"
    path.write_bytes(path.read_bytes()[:60])
    assert f"{path} cannot be read as Parquet: " in told(path)
    broken = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pyarrow.py_buffer(b"\xff\xfe")]
    )
    parquet.write_table(pyarrow.table({"prompt": broken, "completion": ["b"]}), path)
    assert f"{path} holds a value in rows 1 to 1 that cannot be read: 'utf-8' codec can't decode" in told(path)
    days = pyarrow.array([2**31 - 1], pyarrow.int32()).cast(pyarrow.date32())
    parquet.write_table(pyarrow.table({"prompt": ["a"], "completion": ["b"], "when": days}), path)
    assert f"{path} holds a value in rows 1 to 1 that cannot be read: " in told(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_place_that_cannot_be_written_is_told_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=rf"--to: .*file/{name} cannot be written: "):
        RowWriter(tmp_path / "file" / name)


def test_a_table_needs_one_type_a_column(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the rows make no table"):
        written(tmp_path / "rows.parquet", [row(1, note="x"), row(2, note=3)])


def test_a_sweep_reads_parquet_as_it_reads_jsonl(tmp_path: Path) -> None:
    rows = [row(n) for n in range(80)]
    written(tmp_path / "rows.jsonl", rows)
    written(tmp_path / "rows.parquet", rows)
    assert load(Data(path="rows.parquet"), tmp_path).sha256 == load(Data(path="rows.jsonl"), tmp_path).sha256


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_rows_go_to_object_storage_and_come_back(server: Server, tmp_path: Path, name: str) -> None:
    rows = [row(n) for n in range(30)]
    url = f"s3://{BUCKET}/deep/{name}"
    with RowWriter(url) as writer:
        for one in rows:
            writer.write(one)
    assert list(read_rows(url, cache=tmp_path)) == list(enumerate(rows, start=1))
    assert list(read_rows(url)) == list(enumerate(rows, start=1))


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_order_and_errors_arrive(count: int) -> None:
    assert list(workers.each(abs, range(0, -20, -1), count)) == list(range(20))
    with pytest.raises(ValueError, match="invalid literal"):
        list(workers.each(int, ["1", "x", "2"], count))
