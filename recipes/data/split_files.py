"""A split as a folder: four files of rows as they were written, and ``split.json``, which says how they came about."""

import importlib.metadata
import json
import platform
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from recipes import objects
from recipes.data import tabular
from recipes.data.looks import common_form, key_of
from recipes.data.rows import checked_rows
from recipes.data.signatures import NUM_HASHES, band_rows, recall
from recipes.data.splits import SPLITS, Checked
from recipes.data.splitting import Settings, Split, Tell
from recipes.data.stream import Form, RowWriter, Source, opened
from recipes.data.words import SHINGLE, Hashes
from recipes.files import sha256_of, write_json
from sweeps.errors import InvalidInput, Problem

RECORD = "split.json"
FORMAT = "podium-split/1"
_AGAIN = "write the split again with `podium data split`"


def refuse_existing(to: str) -> None:
    """Say so where something is that would be overwritten.

    Raises:
        InvalidInput: The folder is there and not empty.
        ServiceUnreachable: It is in object storage, which does not answer.
    """
    if objects.is_url(to):
        if objects.listing(objects.folder_of(to), 1):
            raise InvalidInput(Problem("--to", f"{to} is not empty, and nothing is overwritten", "name another folder"))
        return
    folder = Path(to).expanduser()
    if folder.is_file():
        raise InvalidInput(Problem("--to", f"{to} is a file", "name a folder"))
    if folder.is_dir() and any(folder.iterdir()):
        raise InvalidInput(Problem("--to", f"{to} is not empty, and nothing is overwritten", "name another folder"))


def write(
    source: Source, split: Split, settings: Settings, to: str, form: Form | None = None, tell: Tell = lambda _: None
) -> dict[str, Any]:
    """Write the four files and the record; return the record.

    Rows are copied as they are; into another form they come in the common one.

    Args:
        to: A folder, local or ``s3://bucket/folder``.
        form: Of the files; that of the source by default.

    Raises:
        InvalidInput: Rows make no table, or the folder cannot be written.
        ServiceUnreachable: It is in object storage, which does not answer.
    """
    with ExitStack() as stack:
        is_url = objects.is_url(to)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if is_url else Path(to).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = _write_rows(source, split, folder, form or source.form, tell)
            files = {
                split_name: {
                    "file": name,
                    "sha256": sha256_of(folder / name),
                    "num_rows": split.num_rows_of[split_name],
                }
                for split_name, name in names.items()
            }
            record = _record(source, split, settings, files)
            write_json(folder / RECORD, record)  # last: a folder without it is no split
        except OSError as error:
            raise InvalidInput(Problem("--to", f"{to} cannot be written: {error.strerror}")) from None
        if is_url:
            tell("copying the files")
            objects.upload(folder, [*names.values(), RECORD], objects.folder_of(to))
    return record


def _write_rows(source: Source, split: Split, folder: Path, form: Form, tell: Tell) -> dict[str, str]:
    same = form == source.form and source.path is not None
    schema = None
    if form == "parquet":
        own = source.path if same else None
        schema = tabular.json_schema(own) if own is not None else tabular.schema_of(_batches(source), source.name)
    names = {name: f"{name}.{form}" for name in SPLITS}
    row = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(RowWriter(folder / names[name], schema)) for name in SPLITS]
        for chunk in source.chunks():
            for place in range(len(chunk)):
                writer = writers[split.sides[row]]
                written = chunk.written(place) if same else common_form(chunk.row(place))
                if isinstance(written, bytes):
                    writer.write_line(written)
                else:
                    writer.write(written)
                row += 1
            tell(f"writing rows, {row:,}")
    return names


def _batches(source: Source) -> Any:
    for chunk in source.chunks():
        yield [common_form(row) for _, row in chunk.rows()]


def _record(source: Source, split: Split, settings: Settings, files: dict[str, Any]) -> dict[str, Any]:
    sizes = np.bincount(split.labels)
    counts, numbers = np.unique(sizes, return_counts=True)
    total, rows_of_band = len(split.columns), band_rows(settings.threshold)
    return {
        "format": FORMAT,
        "source": {
            "name": source.name,
            "sha256": sha256_of(source.path) if source.path is not None else None,
            "num_rows": total,
        },
        "files": files,
        "seed": settings.seed,
        "shares": dict(zip(SPLITS, settings.shares, strict=True)),
        "achieved": {name: count / total for name, count in split.num_rows_of.items()},
        "groups": {
            "group_field": settings.fields.group,
            "template_field": settings.fields.template,
            "links": {kind: int(edges[0].size) for kind, edges in split.links.items()},
        },
        "components": {
            "num": int(sizes.size),
            "largest": int(sizes.max()),
            "sizes": {str(size): int(number) for size, number in zip(counts, numbers, strict=True)},
            "giants": [asdict(giant) for giant in split.giants],
        },
        "near_duplicates": {
            "similarity": settings.threshold,
            "words_of_a_shingle": SHINGLE,
            "num_hashes": NUM_HASHES,
            "num_bands": NUM_HASHES // rows_of_band,
            "numbers_of_a_band": rows_of_band,
            "recall": recall(settings.threshold, rows_of_band),
            "num_pairs": split.num_pairs,
            "num_left_out": split.num_left_out,
            "num_added": split.num_added,
            "common": [int(one) for one in split.common],
        },
        "across": asdict(split.nearest) if split.nearest else None,
        "num_moved": split.num_moved,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("datasketch", "numpy")},
        },
    }


def is_split(folder: Path) -> bool:
    """Whether a folder holds a split."""
    return (folder / RECORD).is_file()


def read_record(folder: Path | str, where: str = "data.path") -> dict[str, Any]:
    """The record of a local folder.

    Raises:
        InvalidInput: There is none, or it is of another form.
    """
    path = Path(folder).expanduser() / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["format"] == FORMAT
        assert set(record["files"]) == set(SPLITS)
        assert all(set(one) >= {"file", "sha256", "num_rows"} for one in record["files"].values())
        assert all(objects.is_plain(one["file"]) for one in record["files"].values())
    except FileNotFoundError:
        raise InvalidInput(
            Problem(where, f"{folder} has no {RECORD}", "name a folder of `podium data split`")
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AssertionError, AttributeError):
        raise InvalidInput(Problem(where, f"{path} is no record of a split", _AGAIN)) from None
    found: dict[str, Any] = record
    return found


def read(
    folder: str, base_dir: Path, cache: Path | None = None, checked: Checked = checked_rows
) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split in the common form, from a folder of this machine or from ``s3://bucket/folder/``.

    Args:
        checked: Brings the rows of a file to the common form.

    Raises:
        InvalidInput: The folder holds no split, a file is not what the record says, or a row breaks a rule.
        ServiceUnreachable: It is in object storage, which does not answer.
    """
    with ExitStack() as stack:
        if objects.is_url(folder):
            prefix = folder.rstrip("/") + "/"
            kept = cache if cache is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            local = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (local / RECORD).write_bytes(objects.fetch(f"{prefix}{RECORD}", kept).read_bytes())
        else:
            prefix, local = f"{base_dir / Path(folder).expanduser()}/", base_dir / Path(folder).expanduser()
            kept = cache or local
        record = read_record(local)
        files = record["files"].items()
        return {name: _rows(f"{prefix}{one['file']}", one, base_dir, kept, checked) for name, one in files}


def _rows(name: str, told: Mapping[str, Any], base_dir: Path, cache: Path, checked: Checked) -> list[dict[str, Any]]:
    with opened(name, base_dir, cache) as source:
        assert source.path is not None
        digest = sha256_of(source.path)
        if digest != told["sha256"]:
            rule = (
                f"{name} is not the file that {RECORD} tells: its SHA-256 is {digest[:12]}…, not {told['sha256'][:12]}…"
            )
            raise InvalidInput(Problem("data.path", rule, f"restore it, or {_AGAIN}"))
        return checked(source.rows(), name) if told["num_rows"] else []


def earlier(folder: str) -> tuple[Hashes, dict[int, int], dict[str, Any]]:
    """Of a split to go on from: what its prompts have in common, the side of each prompt by its key, and the record.

    Raises:
        InvalidInput: It cannot be read.
    """
    record = read_record(folder, "--like")
    sides: dict[int, int] = {}
    for place, name in enumerate(SPLITS):
        for _, row in _told_rows(f"{Path(folder).expanduser()}/{record['files'][name]['file']}", record, name):
            sides[key_of(row["messages"][:-1])] = place
    common = np.array(record["near_duplicates"]["common"], np.uint32)
    return common, sides, record


def _told_rows(path: str, record: dict[str, Any], name: str) -> Any:
    with opened(path) as source:
        assert source.path is not None
        if sha256_of(source.path) != record["files"][name]["sha256"]:
            raise InvalidInput(
                Problem("--like", f"{path} is not the file that {RECORD} tells", f"restore it, or {_AGAIN}")
            )
        for number, row in source.rows():
            yield number, common_form(row)
