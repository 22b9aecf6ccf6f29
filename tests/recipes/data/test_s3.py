"""Rows from S3, on real servers: moto for its semantics, rclone for real signatures."""

from pathlib import Path

import pytest

from recipes.data.splits import load
from recipes.schema import Data
from sweeps.errors import InvalidInput
from tests.storage import BUCKET, Server

URL = f"s3://{BUCKET}/rows/2026.jsonl"


def lines(number: int) -> bytes:
    return b"".join(f'{{"prompt": "Question {n}", "completion": "Yes."}}\n'.encode() for n in range(number))


@pytest.mark.parametrize("cached", [False, True])
def test_an_object_is_split_as_a_file_is(server: Server, tmp_path: Path, cached: bool) -> None:
    server.put("rows/2026.jsonl", b"\xef\xbb\xbf" + lines(80))
    (tmp_path / "rows.jsonl").write_bytes(lines(80))
    cache = tmp_path / "cache" if cached else None
    loaded = load(Data(path=URL), tmp_path, cache)
    assert loaded.sha256 == load(Data(path="rows.jsonl"), tmp_path).sha256
    assert load(Data(path=URL), tmp_path, cache).sha256 == loaded.sha256
    assert len(list((tmp_path / "cache").rglob("*.*"))) == 0, "no part of a file is left"


def test_a_line_that_is_not_json_is_told_as_in_a_file(server: Server) -> None:
    server.put("rows/2026.jsonl", lines(2) + b"{\n")
    with pytest.raises(InvalidInput, match=rf"line 3: {URL}: not JSON: Expecting property name"):
        load(Data(path=URL), Path())


def test_another_encoding_is_refused(server: Server) -> None:
    server.put("rows/2026.jsonl", b'{"prompt": "Zw\xf6lf')
    with pytest.raises(InvalidInput, match=rf"{URL} is not UTF-8: byte 14 is 0xf6"):
        load(Data(path=URL), Path())


def test_an_object_that_is_not_there(server: Server) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(Data(path=f"{URL}.gz"), Path())
    assert str(caught.value) == (
        f"{URL}.gz: there is no object 'rows/2026.jsonl.gz' in bucket '{BUCKET}' (check its name)"
    )
