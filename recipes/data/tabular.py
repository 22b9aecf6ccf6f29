"""Rows in Parquet: read batch by batch as JSON values, and written from such, in the memory of one batch."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweeps.errors import InvalidInput, Problem

MAGIC = b"PAR1"
BATCH_ROWS = 1000
_TEXT = ("timestamp", "date32", "date64", "time32", "time64", "decimal", "duration")  # written as text
_HINT = "convert the column to text, numbers, lists or structs"


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by how it begins."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def batches(path: Path, source: str) -> Iterator[list[Any]]:
    """The rows of a Parquet file, in order, as lists of JSON objects; a Problem stands for a row that cannot be one.

    A column that is null in a row is no field of that row, as tables have the columns of all rows. Dates, times and
    decimals become text.

    Raises:
        InvalidInput: It is damaged, or a column has a type that JSON has not.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            plain = all(_is_plain(field.type, field.name, source) for field in file.schema_arrow)
            number = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                try:
                    rows = batch.to_pylist()
                except (UnicodeDecodeError, OverflowError) as error:
                    places = f"rows {number + 1:,} to {number + batch.num_rows:,}"
                    rule = f"{source} holds a value in {places} that cannot be read: {error}"
                    raise InvalidInput(Problem("data.path", rule, "write that column again, texts as UTF-8")) from None
                yield [_row(row, number + place, source, plain) for place, row in enumerate(rows, start=1)]
                number += len(rows)
    except (pyarrow.ArrowInvalid, OSError) as error:
        rule = f"{source} cannot be read as Parquet: {str(error).splitlines()[0]}"
        raise InvalidInput(Problem("data.path", rule, "was it cut short? write it again")) from None


def _is_plain(kind: Any, name: str, source: str) -> bool:
    """Whether a column's values are JSON values as they come.

    Raises:
        InvalidInput: They cannot be made JSON values.
    """
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type, name, source)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type, f"{name}[]", source)
    if types.is_struct(kind):
        return all(_is_plain(field.type, f"{name}.{field.name}", source) for field in kind)
    if types.is_floating(kind) or str(kind).startswith(_TEXT):
        return False
    if types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_boolean(kind):
        return True
    if types.is_null(kind) or str(kind) == "string_view":
        return True
    rule = f"the column {name!r} of {source} has the type {kind}, which no JSON value has"
    raise InvalidInput(Problem("data.path", rule, _HINT))


def _row(row: dict[str, Any], number: int, source: str, plain: bool) -> Any:
    row = {key: value for key, value in row.items() if value is not None}
    if plain:
        return row
    try:
        return {key: _json_of_column(key, value) for key, value in row.items()}
    except ValueError as error:
        return Problem(source, str(error), line=number)


def _json_of_column(name: str, value: Any) -> Any:
    try:
        return to_json(value)
    except ValueError as error:
        raise ValueError(f"the column {name!r}: {error}") from None


def to_json(value: Any) -> Any:
    """A value as Arrow gives it, as JSON has it: dates, times and decimals are texts.

    Raises:
        ValueError: It is bytes, or no finite number.
    """
    if isinstance(value, dict):
        return {key: to_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [to_json(one) for one in value]
    if isinstance(value, bytes):
        raise ValueError("bytes are no JSON value, write text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON value, write null")
    if value is None or isinstance(value, str | int | float):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


class ParquetWriter:
    """Writes rows of JSON values as a Parquet file, ``BATCH_ROWS`` at a time.

    The columns are those of ``schema``, or else of the first batch; call :func:`schema_of` for one that fits all.
    """

    def __init__(self, path: Path, schema: Any = None) -> None:
        self._path, self._schema = path, schema
        self._rows: list[dict[str, Any]] = []
        self._file: Any = None

    def write(self, row: dict[str, Any]) -> None:
        """Take a row. It reaches the file with others.

        Raises:
            InvalidInput: A row does not fit the columns.
        """
        self._rows.append(row)
        if len(self._rows) == BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import parquet

        if self._schema is None:
            self._schema = schema_of([self._rows], str(self._path))
        try:
            if self._file is None:
                self._file = parquet.ParquetWriter(self._path, self._schema)
            if self._rows:
                self._file.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
        except _misfits() as error:
            raise _does_not_fit(error, str(self._path)) from None
        self._rows = []

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        self._flush()
        self._file.close()


def schema_of(batches: Iterator[list[dict[str, Any]]] | Sequence[list[dict[str, Any]]], source: str) -> Any:
    """The Arrow schema that fits all rows, which are looked at batch by batch.

    Raises:
        InvalidInput: Values of one field are of several types.
    """
    import pyarrow

    found = pyarrow.schema([])
    try:
        for rows in batches:
            one = pyarrow.Table.from_pylist(_with_all_columns(rows)).schema
            found = pyarrow.unify_schemas([found, one], promote_options="permissive")
    except _misfits() as error:
        raise _does_not_fit(error, source) from None
    return found


def json_schema(path: Path) -> Any:
    """The columns of a Parquet file as :func:`batches` gives them: what becomes text is text."""
    import pyarrow
    from pyarrow import parquet

    fields = [pyarrow.field(field.name, _json_type(field.type)) for field in parquet.read_schema(path)]
    return pyarrow.schema(fields)


def _json_type(kind: Any) -> Any:
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        return _json_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pyarrow.list_(_json_type(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([pyarrow.field(field.name, _json_type(field.type)) for field in kind])
    return pyarrow.string() if str(kind).startswith(_TEXT) else kind


def _with_all_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, the first with every field: Arrow takes the columns from the first row alone."""
    names = dict.fromkeys(key for row in rows for key in row)
    return [{**dict.fromkeys(names), **rows[0]}, *rows[1:]] if rows else rows


def _misfits() -> tuple[type[Exception], ...]:
    """What Arrow raises where it has no type for values (a number of 100 bits), or cannot write (an empty object)."""
    import pyarrow

    return pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError, OverflowError


def _does_not_fit(error: Exception, source: str) -> InvalidInput:
    rule = f"{source}: the rows make no table: {str(error).splitlines()[0]}"
    return InvalidInput(Problem("--format", rule, "a column has one type; JSONL takes any rows"))
