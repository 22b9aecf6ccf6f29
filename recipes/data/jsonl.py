"""JSONL line by line: a file of any length in the memory of one line, and in words what makes a line unreadable."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sweeps.errors import InvalidInput, Problem

NEAR = 20  # characters that a message quotes on each side of the place where a line is wrong
MAX_LINE_BYTES = 64 * 2**20  # a longer line is no row
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not empty, as it is written.

    Attributes:
        number: From 1.
        start: The byte of the file at which it begins.
        data: Without what ends it.
        is_cut: The file ends within it, or at least without a newline after it.
    """

    number: int
    start: int
    data: bytes
    is_cut: bool


def lines(file: BinaryIO, source: str) -> Iterator[Line]:
    """The lines of a file that are not empty, whether they end as on Linux, on Windows or on an old Macintosh.

    Raises:
        InvalidInput: A line is so long that it cannot be a row.
    """
    number, start = 0, 0
    while piece := file.readline(MAX_LINE_BYTES + 1):
        size = len(piece)  # with the byte order mark
        if size > MAX_LINE_BYTES:
            rule = f"{source} has a line of more than {MAX_LINE_BYTES // 2**20} MiB, its line {number + 1}"
            raise InvalidInput(Problem("data.path", rule, "one JSON object a line is needed"))
        if start == 0 and piece.startswith(_BOM):
            piece = piece[len(_BOM) :]
        is_cut, found = not piece.endswith((b"\n", b"\r")), 0
        # Not splitlines: it would also split at what JSON allows within a string.
        parts = re.split(rb"\r\n?|\n", piece) if b"\r" in piece else [piece.removesuffix(b"\n"), b""]
        if not is_cut or len(parts) > 1:
            parts = parts if parts[-1] else parts[:-1]
        for place, part in enumerate(parts):
            number, found = number + 1, piece.find(part, found)
            if part.strip():
                yield Line(number, start + size - len(piece) + found, part, is_cut and place == len(parts) - 1)
            found += len(part)
        start += size


def parse(line: Line, source: str) -> Any:
    """The JSON value of a line, or the Problem of one that is no JSON.

    Raises:
        InvalidInput: It is not UTF-8.
    """
    try:
        text = line.data.decode()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        rule = f"{source} is not UTF-8: byte {line.start + error.start} is {byte:#04x}, in line {line.number}"
        raise InvalidInput(Problem("data.path", rule, "convert it with `iconv -t UTF-8`")) from None
    try:
        return strict_json(text)
    except (ValueError, RecursionError) as error:
        return _not_json(source, line, text, error)


def read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Each line's number and its JSON value, or the Problem of a line that is no JSON; empty lines are passed over.

    Raises:
        InvalidInput: The file is missing or not UTF-8.
    """
    refuse_missing(path)
    try:
        with path.open("rb") as file:
            yield from parse_jsonl(file, str(path))
    except OSError as error:
        raise InvalidInput(Problem("data.path", f"{path} cannot be read: {error.strerror}")) from None


def parse_jsonl(file: BinaryIO, source: str) -> Iterator[tuple[int, Any]]:
    """As :func:`read_jsonl`, of a file that is open."""
    for line in lines(file, source):
        yield line.number, parse(line, source)


def refuse_missing(path: Path, where: str = "data.path") -> None:
    """Say so where there is no such file of rows.

    Args:
        where: What names it: a sweep, or else an argument of a command.

    Raises:
        InvalidInput: It is missing, or a folder.
    """
    if path.is_dir():
        raise InvalidInput(Problem(where, f"{path} is a folder", "name the JSONL file in it"))
    if not path.is_file():
        base = "the folder of the sweep's YAML" if where == "data.path" else "the folder that you are in"
        raise InvalidInput(Problem(where, f"no such file: {path}", f"a relative path is taken from {base}"))


def strict_json(text: str) -> Any:
    """The value of a JSON text, by the letter: what Python reads beyond that no other parser takes.

    Raises:
        ValueError: It is no JSON, or has NaN, an infinity, or a number that is as large as one.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value, write null")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:NEAR]} is larger than any number can be")
    return value


def _not_json(source: str, line: Line, text: str, error: Exception) -> Problem:
    """A line that cannot be read, in words."""
    if (column := text.find("\0")) >= 0:
        hint = "the file was damaged while it was written: write it again"
        return Problem(source, f"not JSON: a NUL byte at column {column + 1}", hint, line.number)
    hint = "the file ends within this line: was it cut short?" if line.is_cut else "every line must be one JSON object"
    if isinstance(error, json.JSONDecodeError):
        near = text[max(0, error.pos - NEAR) : error.pos + NEAR]
        what = error.msg.removesuffix(" starting at")
        return Problem(source, f"not JSON: {what} at column {error.colno}, near {near!r}", hint, line.number)
    if isinstance(error, RecursionError):
        return Problem(source, "not JSON that can be read: it is nested too deeply", line=line.number)
    return Problem(source, f"not JSON: {str(error).split(';')[0]}", line=line.number)
