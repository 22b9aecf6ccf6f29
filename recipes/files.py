"""Files that are written in one piece, so that whoever reads sees the old one or the new one; and their digests."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_whole(path: Path, pieces: Iterable[str]) -> int:
    """Write a text in the place of what is there, and return of how many pieces it was made.

    Args:
        path: Its folder is made where it is not there.
        pieces: Of the text, in order; they are not held in memory together.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, count = path.with_name(f"{path.name}.{os.getpid()}.part"), 0  # two processes may write the same at once
    with draft.open("w", encoding="utf-8") as file:
        for piece in pieces:
            file.write(piece)
            count += 1
    draft.replace(path)
    return count


def write_json(path: Path, value: Any) -> None:
    """A JSON file for people and programs; see :func:`write_whole`."""
    write_whole(path, [json.dumps(value, indent=2, ensure_ascii=False) + "\n"])


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
