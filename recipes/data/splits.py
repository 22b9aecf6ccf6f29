"""Splitting rows into train, validation, dev and challenge, with no group on two sides.

A row's side follows from the hash of its group alone, so that adding rows never moves an old one. The four files are
written once per content, under ``<cache>/data/<hash>/``.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.data.rows import canonical, checked_rows, parse_jsonl, read_jsonl
from recipes.schema import Data
from sweeps.errors import InvalidInput, Problem

SPLITS = ("train", "validation", "dev", "challenge")
"""Train teaches; validation gives the loss and stops trials; dev chooses; challenge is read once, at the end."""


@dataclass(frozen=True)
class SplitRows:
    """The rows of each split, in file order, and the hashes that name them."""

    rows: dict[str, list[dict[str, Any]]]
    sha256: dict[str, str]

    @property
    def identity(self) -> str:
        """One hash over the four splits."""
        return hashlib.sha256(json.dumps(self.sha256, sort_keys=True).encode()).hexdigest()


def load(data: Data, base_dir: Path) -> SplitRows:
    """Read or generate the rows and split them. A relative path is taken from ``base_dir``.

    Raises:
        InvalidInput: The rows cannot be read, or a split that is asked for stays empty.
    """
    rows = _source_rows(data, base_dir)
    if data.rows is not None:
        rows = rows[: data.rows]
    sides: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for row in rows:
        sides[_side(_group(row, data), data)].append(row)
    for split in SPLITS:
        if getattr(data, split) > 0 and not sides[split]:
            rule = f"the {split} split is empty: {len(rows)} rows at a share of {getattr(data, split):g}"
            raise InvalidInput(Problem(f"data.{split}", rule, "give more rows, or a larger share"))
    hashes = {split: hashlib.sha256(_jsonl(sides[split]).encode()).hexdigest() for split in SPLITS}
    return SplitRows(sides, hashes)


def _source_rows(data: Data, base_dir: Path) -> list[dict[str, Any]]:
    if data.builtin == "commerce":
        from recipes.commerce import task

        return checked_rows(enumerate(task.rows(data.rows or 1200, data.seed), start=1), "builtin commerce")
    assert data.path is not None, "the schema wants one of builtin and path"
    if data.path.startswith("s3://"):
        from recipes.data.s3 import read_bytes

        return checked_rows(parse_jsonl(read_bytes(data.path), data.path), data.path)
    path = Path(data.path).expanduser()
    path = path if path.is_absolute() else base_dir / path
    return checked_rows(read_jsonl(path), str(path))


def _group(row: dict[str, Any], data: Data) -> str:
    if data.group is None:
        return canonical([message for message in row["messages"] if message["role"] != "assistant"])
    if data.group not in row:
        rule = f"group {data.group!r} is not a field of every row"
        raise InvalidInput(Problem("data.group", rule, f"the row has {', '.join(sorted(row))}"))
    return canonical(row[data.group])


def _side(group: str, data: Data) -> str:
    digest = hashlib.sha256(f"{data.seed}/{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    edge = 0.0
    for split in SPLITS:
        edge += getattr(data, split)
        if place < edge:
            return split
    return "train"  # shares that sum to 1 - 1e-16 leave a sliver


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(splits: SplitRows, cache: Path) -> dict[str, Path]:
    """The four files in the cache, written if they are not there yet."""
    folder = cache / "data" / splits.identity[:16]
    paths = {split: folder / f"{split}.jsonl" for split in SPLITS}
    for split, path in paths.items():
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")  # two sweeps may write the same data at once
            part.write_text(_jsonl(splits.rows[split]), encoding="utf-8")
            part.replace(path)
    return paths
