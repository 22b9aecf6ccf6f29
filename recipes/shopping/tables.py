"""Tables in CSV, TSV, JSONL and Parquet as rows of plain values, with the number of each in its file."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from recipes.data.rows import HALF_PAIR
from recipes.data.tabular import to_json
from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.retrieving import TABLES

Row = dict[str, Any]
_POINTER = b"version https://git-lfs"
_Reader = Callable[[Path, Sequence[str]], Iterator[tuple[int, Row]]]


def read_table(path: Path, where: str, needed: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """The rows of a table one by one, each with its line (in Parquet, with its number).

    Args:
        path: Ends in one of ``TABLES``.
        where: The key that names it, for messages.
        needed: Columns that must be there; None in a row that has nothing there.

    Raises:
        InvalidInput: No such file, not of its form, or a column is not there.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(Problem(where, f"{path.name} is no table", f"valid endings: {', '.join(TABLES)}"))
    return _read(reader, path, where, needed)


def read_tab_separated(path: Path, where: str, needed: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """As :func:`read_table`, of a file that is separated by tabs whatever its ending says."""
    return _read(_separated("\t"), path, where, needed)


def _read(reader: _Reader, path: Path, where: str, needed: Sequence[str]) -> Iterator[tuple[int, Row]]:
    if not path.is_file():
        raise InvalidInput(Problem(where, f"no such file: {path}"))
    first, number = True, 0
    try:
        for number, row in reader(path, needed):
            if first and not row.keys() >= set(needed):
                there = list(dict.fromkeys(name for _, one in reader(path, ()) for name in one))
                if missing := [name for name in needed if name not in there]:
                    rule = f"{path.name} has no column {missing[0]!r}"
                    raise InvalidInput(Problem(where, rule, nearest(missing[0], there)))
            first = False
            yield number, {**dict.fromkeys(needed), **row}  # a row of JSON may leave out what it does not have
    except UnicodeDecodeError as error:
        # It knows the place within what was read at once, and not within the file.
        rule = f"{path} is not UTF-8: it has the byte {error.object[error.start]:#04x}, after line {number}"
        raise InvalidInput(Problem(where, rule, "convert it with `iconv -t UTF-8`")) from None
    except _NotOfItsFormError as error:
        raise InvalidInput(Problem(where, f"{path}: {error}")) from None
    except OSError as error:
        raise InvalidInput(Problem(where, f"{path} cannot be read: {error.strerror or error}")) from None
    if first:
        raise InvalidInput(Problem(where, f"{path} has no rows"))


class _NotOfItsFormError(ValueError):
    """A file is not what its ending says."""


def _separated(delimiter: str) -> _Reader:
    def rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        csv.field_size_limit(sys.maxsize)  # descriptions are long
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            try:
                for row in reader:
                    if None in row:
                        count = len(reader.fieldnames or ()) + len(row[None])
                        head = len(reader.fieldnames or ())
                        raise _NotOfItsFormError(f"line {reader.line_num} has {count} fields, and the head has {head}")
                    yield reader.line_num, {key: value or None for key, value in row.items()}
            except csv.Error as error:
                raise _NotOfItsFormError(f"line {reader.line_num}: {error}") from None

    return rows


def _jsonl(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _NotOfItsFormError(f"line {number} is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise _NotOfItsFormError(f"line {number} must be a JSON object, but is {line.strip()[:40]!r}")
            if "\\u" in line and HALF_PAIR.search(json.dumps(row, ensure_ascii=False)):
                raise _NotOfItsFormError(f"line {number} holds half of a surrogate pair")
            yield number, row


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            wanted = [name for name in dict.fromkeys(columns) if name in there] or None
            number = 0
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield number, {key: _json_of(key, value, number) for key, value in row.items()}
    except (UnicodeDecodeError, OverflowError) as error:
        raise _NotOfItsFormError(f"holds a value past row {number} that cannot be read: {error}") from None
    except pyarrow.ArrowInvalid as error:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise _NotOfItsFormError("is what git-lfs leaves in its place; `git lfs pull` gets the file") from None
        raise _NotOfItsFormError(f"is no Parquet: {str(error).splitlines()[0]}") from None


def _json_of(name: str, value: Any, number: int) -> Any:
    """As JSON has it; a number that is none is a missing value, as pandas writes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    try:
        return to_json(value)
    except ValueError as error:
        raise _NotOfItsFormError(f"row {number}, column {name!r}: {error}") from None


_READERS: dict[str, _Reader] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
