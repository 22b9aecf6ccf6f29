"""Rows as a stream, from JSONL or Parquet, local or in object storage, in memory that does not grow with them.

A source is read in chunks that can be sent to another process, where :meth:`Chunk.rows` parses them.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from recipes import objects
from recipes.data import tabular
from recipes.data.jsonl import Line, lines, parse, refuse_missing
from sweeps.errors import InvalidInput, Problem

CHUNK_ROWS = 2000
CHUNK_BYTES = 4 * 2**20
Form = Literal["jsonl", "parquet"]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source, in its order, as they are written.

    Attributes:
        first: The place of its first row among all rows, from 0.
        numbers: The number of each row's line, from 1; of a Parquet file, of the row itself.
    """

    source: str
    first: int
    numbers: tuple[int, ...]
    _written: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self) -> Iterator[tuple[int, Any]]:
        """Each row's number and its JSON value, or the Problem of one that cannot be read.

        Raises:
            InvalidInput: It is not UTF-8.
        """
        for number, one in zip(self.numbers, self._written, strict=True):
            yield number, parse(one, self.source) if isinstance(one, Line) else one

    def cut(self, most: int) -> "Chunk":
        """Its first rows alone."""
        return Chunk(self.source, self.first, self.numbers[:most], self._written[:most])

    def row(self, place: int) -> Any:
        """One row, by its place in the chunk."""
        one = self._written[place]
        return parse(one, self.source) if isinstance(one, Line) else one

    def written(self, place: int) -> Any:
        """One row as it is copied: the bytes of its line, or the values of its columns."""
        one = self._written[place]
        return one.data if isinstance(one, Line) else one


@dataclass(frozen=True)
class Source:
    """Rows that can be gone through as often as needed.

    Attributes:
        name: For messages: the path or the URL as it was given.
        path: The file on this machine; None where rows are generated.
        generated: The rows, where they are.
        most_rows: The first rows that are meant, where not all are.
    """

    name: str
    path: Path | None
    generated: tuple[dict[str, Any], ...] = ()
    most_rows: int | None = None

    @property
    def form(self) -> Form:
        return "parquet" if self.path is not None and tabular.is_parquet(self.path) else "jsonl"

    @property
    def num_bytes(self) -> int:
        """Of the file; 0 where rows are generated."""
        return self.path.stat().st_size if self.path is not None else 0

    def chunks(self) -> Iterator[Chunk]:
        """The rows from the first to the last.

        Raises:
            InvalidInput: The file cannot be read.
        """
        for chunk in self._chunks():
            most = len(chunk) if self.most_rows is None else self.most_rows - chunk.first
            if most <= 0:
                return
            yield chunk if most >= len(chunk) else chunk.cut(most)

    def _chunks(self) -> Iterator[Chunk]:
        if self.path is None:
            for start in range(0, len(self.generated), CHUNK_ROWS):
                part = self.generated[start : start + CHUNK_ROWS]
                yield Chunk(self.name, start, tuple(range(start + 1, start + 1 + len(part))), part)
            return
        try:
            yield from self._parquet(self.path) if self.form == "parquet" else self._jsonl(self.path)
        except OSError as error:
            raise InvalidInput(Problem("data.path", f"{self.name} cannot be read: {error.strerror}")) from None

    def rows(self) -> Iterator[tuple[int, Any]]:
        """Each row's number and its JSON value, or the Problem of one that cannot be read."""
        for chunk in self.chunks():
            yield from chunk.rows()

    def _jsonl(self, path: Path) -> Iterator[Chunk]:
        first, part, size = 0, list[Line](), 0
        with path.open("rb") as file:
            for line in lines(file, self.name):
                part.append(line)
                size += len(line.data)
                if len(part) == CHUNK_ROWS or size >= CHUNK_BYTES:
                    yield Chunk(self.name, first, tuple(one.number for one in part), tuple(part))
                    first, part, size = first + len(part), [], 0
        if part:
            yield Chunk(self.name, first, tuple(one.number for one in part), tuple(part))

    def _parquet(self, path: Path) -> Iterator[Chunk]:
        first = 0
        for rows in tabular.batches(path, self.name):
            yield Chunk(self.name, first, tuple(range(first + 1, first + 1 + len(rows))), tuple(rows))
            first += len(rows)


@contextmanager
def opened(
    source: str, base_dir: Path = Path(), cache: Path | None = None, where: str = "data.path"
) -> Iterator[Source]:
    """A file of rows, local or ``s3://bucket/key``; an object lies on this machine's disk while it is read.

    Args:
        source: A relative path is taken from ``base_dir``.
        cache: Where an object that was downloaded is kept; without it, it is downloaded again each time.
        where: What names the file, for messages.

    Raises:
        InvalidInput: There is no such file, or no right to read it.
        ServiceUnreachable: It is in object storage, which does not answer.
    """
    with ExitStack() as stack:
        if objects.is_url(source):
            kept = cache if cache is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            yield Source(source, objects.fetch(source, kept))
            return
        path = base_dir / Path(source).expanduser()
        refuse_missing(path, where)
        try:
            path.open("rb").close()
        except OSError as error:
            raise InvalidInput(Problem(where, f"{path} cannot be read: {error.strerror}")) from None
        yield Source(str(path), path)


def read_rows(
    source: str, base_dir: Path = Path(), cache: Path | None = None, where: str = "data.path"
) -> Iterator[tuple[int, Any]]:
    """Each row's number and its JSON value, or the Problem of one that is unreadable. Raises as :func:`opened` does."""
    with opened(source, base_dir, cache, where) as found:
        yield from found.rows()


class RowWriter:
    """Writes rows one by one to a file, JSONL or Parquet by its ending, local or in object storage.

    A local file has its name, and an object is there, only when the writer is closed without an error.

    Args:
        to: A path, or ``s3://bucket/key``.
        schema: Of a Parquet file, as :func:`recipes.data.tabular.schema_of` gives it; without it all rows decide, which
            lie on the disk as lines until the last is there.

    Raises:
        InvalidInput: It cannot be written there.
    """

    def __init__(self, to: str | Path, schema: Any = None) -> None:
        self._place = objects.place_of(str(to)) if objects.is_url(str(to)) else None
        self._scratch = tempfile.TemporaryDirectory() if self._place is not None else None
        name = str(to).rsplit("/", 1)[-1]
        self._path = Path(self._scratch.name) / name if self._scratch else Path(to).expanduser()
        self._draft = self._path.with_name(f".{name}.part")
        self._is_table = name.endswith(".parquet")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._draft.open("wb").close()  # a table's file is opened with its first rows, which may be a long work
        except OSError as error:
            raise InvalidInput(Problem("--to", f"{to} cannot be written: {error.strerror}")) from None
        self._table = tabular.ParquetWriter(self._draft, schema) if self._is_table and schema is not None else None
        self._file = None if self._table else self._draft.open("wb")
        self.num_rows = 0

    def write(self, row: dict[str, Any]) -> None:
        """Take a row.

        Raises:
            InvalidInput: It does not fit the columns of a Parquet file.
            OSError: It cannot be written.
        """
        if self._file is not None:
            self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        else:
            assert self._table is not None
            self._table.write(row)
        self.num_rows += 1

    def write_line(self, line: bytes) -> None:
        """Take a row of JSONL as it is written elsewhere."""
        assert self._file is not None
        self._file.write(line + b"\n")
        self.num_rows += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._file is not None:
                self._file.close()
            self._draft.unlink(missing_ok=True)
            if self._scratch is not None:
                self._scratch.cleanup()

    def _finish(self) -> None:
        if self._table is not None:
            self._table.close()
        elif self._file is not None:
            self._file.close()
            if self._is_table:
                self._to_table()
        self._draft.replace(self._path)
        if self._place is not None:
            folder, _, _ = self._place.key.rpartition("/")
            objects.upload(self._path.parent, [self._path.name], objects.Place(self._place.bucket, folder))

    def _to_table(self) -> None:
        """Make the lines a table: its columns are known only now."""
        lines = self._draft.with_name(f"{self._draft.name}.jsonl")
        self._draft.rename(lines)
        try:
            table = tabular.ParquetWriter(self._draft, tabular.schema_of(_batches(lines), str(self._path)))
            for rows in _batches(lines):
                for row in rows:
                    table.write(row)
            table.close()
        finally:
            lines.unlink()


def _batches(lines: Path) -> Iterator[list[dict[str, Any]]]:
    with lines.open(encoding="utf-8") as file:
        while rows := [json.loads(line) for line in islice(file, tabular.BATCH_ROWS)]:
            yield rows
