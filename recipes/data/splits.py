"""Splitting rows into train, validation, dev and challenge, with no group on two sides.

A row's side follows from the hash of its group alone, so that adding rows never moves an old one. The four files are
written once per content, under ``<cache>/data/<hash>/``.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes import objects
from recipes.data.preferences import checked_pairs, prompt_key
from recipes.data.rows import Method, canonical, checked_rows
from recipes.data.stream import read_rows
from recipes.files import write_whole
from recipes.schema import Data
from sweeps.errors import InvalidInput, Problem

SPLITS = ("train", "validation", "dev", "challenge")
"""Train teaches; validation gives the loss and stops trials; dev chooses; challenge is read once, at the end."""

Checked = Callable[[Iterable[tuple[int, Any]], str], list[dict[str, Any]]]


@dataclass(frozen=True)
class SplitRows:
    """The rows of each split, in file order, and the hashes that name them."""

    rows: dict[str, list[dict[str, Any]]]
    sha256: dict[str, str]

    @property
    def identity(self) -> str:
        """One hash over the four splits."""
        return hashlib.sha256(json.dumps(self.sha256, sort_keys=True).encode()).hexdigest()


def load(data: Data, base_dir: Path, cache: Path | None = None, method: Method = "sft") -> SplitRows:
    """Read or generate the rows and split them. A relative path is taken from ``base_dir``.

    Args:
        data: Where the rows are, and how they are split.
        base_dir: The folder of the sweep's YAML.
        cache: Where an object that was downloaded is kept; without it, it is downloaded again each time.
        method: ``dpo`` reads preference pairs, ``sft`` rows of one answer.

    Raises:
        InvalidInput: The rows cannot be read, are of the other kind, or a split that is asked for stays empty.
        ServiceUnreachable: The rows are in object storage, and it does not answer.
    """
    checked = checked_pairs if method == "dpo" else checked_rows
    if data.path is not None and _is_folder(data.path, base_dir):
        splits = _written(data, base_dir, cache, checked)
    else:
        numbered, source = numbered_rows(data, base_dir, cache)
        splits = split_rows(checked(numbered, source), data)
    if method == "dpo":
        _refuse_shared_prompts(splits)
    return splits


def _refuse_shared_prompts(splits: SplitRows) -> None:
    """Pairs of one prompt are many rows: a group that tears them apart would have a held-out prompt learned.

    Raises:
        InvalidInput: A prompt of train or validation is also one of dev or challenge.
    """
    for name in ("challenge", "dev"):
        held_out = {prompt_key(row["messages"]) for row in splits.rows[name]}
        for side in ("train", "validation"):
            for row in splits.rows[side]:
                if prompt_key(row["messages"]) in held_out:
                    asked = next(one["content"] for one in reversed(row["messages"]) if one["role"] == "user")
                    rule = f"the prompt {asked[:40]!r} is in the {side} set and also in the {name} set"
                    hint = "give all rows of a prompt one group, or leave data.group out"
                    raise InvalidInput(Problem("data.group", rule, hint))


def _is_folder(path: str, base_dir: Path) -> bool:
    """Whether a path names a split that ``podium data split`` has written."""
    from recipes.data import split_files

    if objects.is_url(path):
        return path.endswith("/")
    return split_files.is_split(base_dir / Path(path).expanduser())


def _written(data: Data, base_dir: Path, cache: Path | None, checked: Checked) -> SplitRows:
    """A split that was written: its sides are as they are, whatever ``data`` says of shares, seed and group."""
    from recipes.data import split_files

    assert data.path is not None
    if data.rows is not None:
        rule = f"cannot cut a split that was written, but got {data.rows} with data.path: {data.path}"
        raise InvalidInput(Problem("data.rows", rule, "set data.rows: null, or name a file of rows"))
    rows = split_files.read(data.path, base_dir, cache, checked)
    for split in ("train", "validation"):
        if not rows[split]:
            rule = f"the {split} split of {data.path} is empty"
            raise InvalidInput(Problem("data.path", rule, "write the split again with a larger share"))
    return SplitRows(rows, _hashes(rows))


def split_rows(rows: list[dict[str, Any]], data: Data) -> SplitRows:
    """Split rows that were read and checked already.

    Raises:
        InvalidInput: A split that is asked for stays empty, or a row has no such group.
    """
    if data.rows is not None:
        rows = rows[: data.rows]
    sides: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    groups = [_group(row, data) for row in rows]
    for row, group in zip(rows, groups, strict=True):
        sides[_side(group, data)].append(row)
    for split in SPLITS:
        if getattr(data, split) > 0 and not sides[split]:
            counted = f"{len(rows)} rows in {len(set(groups))} groups at a share of {getattr(data, split):g}"
            way_out = "give more rows, or a larger share; rows from one side of a split need another data.seed"
            raise InvalidInput(Problem(f"data.{split}", f"the {split} split is empty: {counted}", way_out))
    return SplitRows(sides, _hashes(sides))


def numbered_rows(data: Data, base_dir: Path, cache: Path | None = None) -> tuple[Iterable[tuple[int, Any]], str]:
    """The rows as they are written, each with the number of its line, and the source's name for messages."""
    if data.builtin == "commerce_pairs":
        from recipes.commerce import pairs

        return enumerate(pairs.rows(data.rows or 1200, data.seed), start=1), "builtin commerce_pairs"
    if data.builtin == "commerce":
        from recipes.commerce import task

        return enumerate(task.rows(data.rows or 1200, data.seed), start=1), "builtin commerce"
    assert data.path is not None, "the schema wants one of builtin and path"
    name = data.path if objects.is_url(data.path) else str(base_dir / Path(data.path).expanduser())
    return read_rows(data.path, base_dir, cache), name


def _group(row: dict[str, Any], data: Data) -> str:
    if data.group is None:
        return _asked(row)
    if data.group not in row:
        rule = f"group {data.group!r} is not a field of every row"
        raise InvalidInput(Problem("data.group", rule, f"the row has {', '.join(sorted(row))}"))
    return canonical(row[data.group])


def _asked(row: dict[str, Any]) -> str:
    """What a row asks: one text for all rows of one :func:`prompt_key`, and whatever was answered in between."""
    return prompt_key(message for message in row["messages"] if message["role"] != "assistant")


def _side(group: str, data: Data) -> str:
    digest = hashlib.sha256(f"{data.seed}/{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    edge = 0.0
    for split in SPLITS:
        edge += getattr(data, split)
        if place < edge:
            return split
    return "train"  # shares that sum to 1 - 1e-16 leave a sliver


def _hashes(sides: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    return {split: hashlib.sha256(_jsonl(sides[split]).encode()).hexdigest() for split in SPLITS}


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def paths(splits: SplitRows, cache: Path) -> dict[str, Path]:
    """Where the four files lie in the cache."""
    folder = cache / "data" / splits.identity[:16]
    return {split: folder / f"{split}.jsonl" for split in SPLITS}


def write(splits: SplitRows, cache: Path) -> dict[str, Path]:
    """The four files in the cache, written if they are not there yet."""
    files = paths(splits, cache)
    for split, path in files.items():
        if not path.exists():
            write_whole(path, [_jsonl(splits.rows[split])])
    return files
