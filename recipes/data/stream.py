"""Rows one by one from JSONL or Parquet to either, local or in object storage, in memory that does not grow."""

import json
import re
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recipes import objects
from recipes.data.rows import parse_jsonl
from sweeps.errors import InvalidInput, Problem

BATCH_ROWS = 1000
_PARQUET = b"PAR1"


def read_rows(source: str, base_dir: Path = Path(), cache: Path | None = None) -> Iterator[tuple[int, Any]]:
    """Each row's number and its JSON value, or the Problem of one that cannot be read.

    Args:
        source: A path, taken from ``base_dir`` where it is relative, or ``s3://bucket/key``.
        cache: Where an object that was downloaded is kept; without it, it is downloaded again each time.

    Raises:
        InvalidInput: There is no such file, or it is neither JSONL nor Parquet.
        ServiceUnreachable: It is in object storage, which does not answer.
    """
    if objects.is_url(source):
        with tempfile.TemporaryDirectory() as scratch:
            yield from _rows(objects.fetch(source, cache or Path(scratch)), source)
        return
    path = base_dir / Path(source).expanduser()
    if path.is_dir():
        raise InvalidInput(Problem("data.path", f"{path} is a folder", "name the JSONL or Parquet file in it"))
    if not path.is_file():
        hint = "a relative path is taken from the folder of the sweep's YAML"
        raise InvalidInput(Problem("data.path", f"no such file: {path}", hint))
    yield from _rows(path, str(path))


def _rows(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    try:
        with path.open("rb") as file:
            if file.read(len(_PARQUET)) == _PARQUET:
                yield from _parquet(path, name)
                return
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if line.strip(b" \t\r\n\xef\xbb\xbf"):
                    for _, row in parse_jsonl(re.sub(rb"[\r\n]+$", b"", line), name):
                        yield (
                            number,
                            Problem(row.where, row.rule, row.hint, number) if isinstance(row, Problem) else row,
                        )
    except OSError as error:
        raise InvalidInput(Problem("data.path", f"{name} cannot be read: {error.strerror}")) from None


def _parquet(path: Path, name: str) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {key: value for key, value in row.items() if value is not None}
    except pyarrow.ArrowInvalid as error:
        rule = f"{name} cannot be read as Parquet: {str(error).splitlines()[0]}"
        raise InvalidInput(Problem("data.path", rule, "was it cut short? write it again")) from None


class RowWriter:
    """Writes rows to a file, JSONL or Parquet by its ending, local or in object storage.

    The file has its name, and an object is there, only when the writer is closed without an error.

    Args:
        to: A path, or ``s3://bucket/key``.
    """

    def __init__(self, to: str | Path) -> None:
        self._place = objects.place_of(str(to)) if objects.is_url(str(to)) else None
        self._scratch = tempfile.TemporaryDirectory() if self._place is not None else None
        name = str(to).rsplit("/", 1)[-1]
        self._path = Path(self._scratch.name) / name if self._scratch else Path(to).expanduser()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._draft = self._path.with_name(f".{name}.part")
        self._file = self._draft.open("wb")
        self._is_table = name.endswith(".parquet")
        self.num_rows = 0

    def write(self, row: dict[str, Any]) -> None:
        """Take a row.

        Raises:
            OSError: It cannot be written.
        """
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.num_rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                self._finish()
        finally:
            self._draft.unlink(missing_ok=True)
            if self._scratch is not None:
                self._scratch.cleanup()

    def _finish(self) -> None:
        if self._is_table:
            self._to_parquet()
        else:
            self._draft.replace(self._path)
        if self._place is not None:
            folder, _, _ = self._place.key.rpartition("/")
            objects.upload(self._path.parent, [self._path.name], objects.Place(self._place.bucket, folder))

    def _to_parquet(self) -> None:
        """The rows as a table, whose columns are known only when the last row is there."""
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([])
        try:
            for rows in self._batches():
                names = dict.fromkeys(key for row in rows for key in row)
                part = pyarrow.Table.from_pylist([dict.fromkeys(names) | rows[0], *rows[1:]]).schema
                schema = pyarrow.unify_schemas([schema, part], promote_options="permissive")
            with parquet.ParquetWriter(self._path, schema) as writer:
                for rows in self._batches():
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError) as error:
            rule = f"the rows make no table: {str(error).splitlines()[0]}"
            raise InvalidInput(Problem("--to", rule, "a column has one type; .jsonl takes any rows")) from None

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        with self._draft.open(encoding="utf-8") as file:
            while rows := [json.loads(line) for line in islice(file, BATCH_ROWS)]:
                yield rows
