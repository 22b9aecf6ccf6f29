"""Base models: where a recipe's ``base.path`` lies, what names its content, and how large it is. Loads no torch."""

import hashlib
import json
import struct
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem

BUILTIN = {"builtin:tiny_commerce": Path(__file__).parent / "commerce" / "base"}
REQUIRED = ("config.json", "tokenizer.json")
MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself
_AGAIN = "copy or download it again"
_LFS = b"version https://git-lfs"


def locate(base: Base, base_dir: Path) -> Path | None:
    """The base's folder, or None where it is an id on the Hugging Face hub.

    Raises:
        InvalidInput: A local folder is missing a file, or has weights that are not safetensors, or are not whole.
    """
    if base.path in BUILTIN:
        folder = BUILTIN[base.path]
    elif base.path.startswith("builtin:"):
        raise InvalidInput(Problem("base.path", f"no builtin base {base.path!r}", f"valid: {', '.join(BUILTIN)}"))
    else:
        folder = Path(base.path).expanduser()
        folder = folder if folder.is_absolute() else base_dir / folder
        if not folder.is_dir():
            if base.path.count("/") == 1 and not base.path.startswith((".", "~", "/")):
                return None
            raise InvalidInput(Problem("base.path", f"no such folder: {base.path}", "give a folder or a hub id"))
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        hint = "give a folder as transformers' save_pretrained writes it, of the model and of its tokenizer"
        raise InvalidInput(Problem("base.path", f"{folder} has no {' and no '.join(missing)}", hint))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = ", ".join(sorted(path.name for path in folder.glob("*.bin")))
        rule = f"{folder} has no *.safetensors{f', only {pickled}' if pickled else ''}"
        raise InvalidInput(Problem("base.path", rule, "convert the weights: pickled ones are never loaded"))
    absent = sorted({name for name in _indexed(folder) if not (folder / name).is_file()})
    if absent:
        rule = f"{folder} has no {', '.join(absent)}, which its model.safetensors.index.json names"
        raise InvalidInput(Problem("base.path", rule, _AGAIN))
    for path in weights:
        _header(path)
    return folder


def _indexed(folder: Path) -> list[str]:
    """The files over which the weights are spread, by the folder's own index."""
    index = folder / "model.safetensors.index.json"
    return list(_object(index).get("weight_map", {}).values()) if index.is_file() else []


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the base.

    Raises:
        InvalidInput: It is none.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidInput(Problem("base.path", f"{path} is not JSON: {error}", _AGAIN)) from None
    if not isinstance(content, dict):
        raise InvalidInput(Problem("base.path", f"{path} holds no JSON object", _AGAIN))
    return content


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in a safetensors file.

    Raises:
        InvalidInput: The file is none, or is shorter than its header says.
    """
    status = path.stat()
    return _read_header(path, status.st_size, status.st_mtime_ns)


@cache
def _read_header(path: Path, size: int, mtime_ns: int) -> dict[str, tuple[int, ...]]:
    with path.open("rb") as file:
        start = file.read(len(_LFS))
        if start == _LFS:
            rule = f"{path} is a pointer of git-lfs, not the weights"
            raise InvalidInput(Problem("base.path", rule, "run `git lfs pull` there"))
        try:
            (length,) = struct.unpack("<Q", start[:8])
            file.seek(8)
            header: Any = json.loads(file.read(length)) if length < min(size, MAX_HEADER) else None
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
            shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
        except (struct.error, ValueError, LookupError, TypeError, AttributeError):
            rule = f"{path} is no safetensors file, or is cut short within its header"
            raise InvalidInput(Problem("base.path", rule, _AGAIN)) from None
    if size < end:
        rule = f"{path} is cut short: its header speaks of {end:,} bytes, but it has {size:,}"
        raise InvalidInput(Problem("base.path", rule, _AGAIN))
    return shapes


def context(folder: Path) -> int | None:
    """The most tokens that the base can look at (``max_position_embeddings``), where its configuration says so."""
    config = _object(folder / "config.json")
    text = config.get("text_config")
    limit = (text if isinstance(text, dict) else config).get("max_position_embeddings")
    return limit if isinstance(limit, int) and limit > 0 else None


def linear_layers(folder: Path) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of every linear layer, by its name; embeddings have matrices too, and are none."""
    return {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for path in folder.glob("*.safetensors")
        for name, shape in _header(path).items()
        if name.endswith(".weight") and len(shape) == 2 and "embed" not in name
    }


def narrowest(folder: Path, targets: Sequence[str]) -> tuple[str, int] | None:
    """The layer with the fewest inputs or outputs among those that ``lora.targets`` name, and that number.

    A low-rank product of a larger rank than that can say nothing more. None where no layer is named.
    """
    widths = {name: min(shape) for name, shape in linear_layers(folder).items()}
    named = {name: width for name, width in widths.items() if any(fnmatchcase(name, target) for target in targets)}
    return min(named.items(), key=lambda item: item[1]) if named else None


def _identity(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *(folder / name for name in REQUIRED)]):
        status = path.stat()
        total.update(_digest(path, status.st_size, status.st_mtime_ns))
    return total.hexdigest()


@cache
def _digest(path: Path, size: int, mtime_ns: int) -> bytes:
    # Size and time are there for the cache: a large base is read once, and again when it has changed.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def identity(base: Base, base_dir: Path) -> str:
    """SHA-256 over weights, config and tokenizer, or ``hub:<id>@<revision>`` where they are not local."""
    folder = locate(base, base_dir)
    return f"hub:{base.path}@{base.revision or 'main'}" if folder is None else _identity(folder)


def num_parameters(base: Base, base_dir: Path) -> tuple[int, str]:
    """How many parameters the base has, and where the number comes from.

    Raises:
        InvalidInput: The base is not local and the recipe does not say.
    """
    if base.num_parameters is not None:
        return base.num_parameters, "the recipe's base.num_parameters"
    folder = locate(base, base_dir)
    if folder is None:
        rule = f"{base.path} is not local, so its size is not known"
        raise InvalidInput(Problem("base.num_parameters", rule, "set base.num_parameters in the recipe"))
    total = sum(prod(shape) for path in folder.glob("*.safetensors") for shape in _header(path).values())
    return total, f"counted in {folder.name}'s safetensors"
