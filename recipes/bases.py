"""Base models: where a recipe's ``base.path`` lies, what names its content, and how large it is. Loads no torch."""

import hashlib
import json
import struct
from functools import cache
from math import prod
from pathlib import Path

from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem

BUILTIN = {"builtin:tiny_commerce": Path(__file__).parent / "commerce" / "base"}
REQUIRED = ("config.json", "tokenizer.json")


def locate(base: Base, base_dir: Path) -> Path | None:
    """The base's folder, or None where it is an id on the Hugging Face hub.

    Raises:
        InvalidInput: A local folder is missing a file, or has weights that are not safetensors.
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
        raise InvalidInput(Problem("base.path", f"{folder} has no {' and no '.join(missing)}"))
    if not list(folder.glob("*.safetensors")):
        rule = f"{folder} has no *.safetensors"
        raise InvalidInput(Problem("base.path", rule, "convert the weights: pickled ones are never loaded"))
    return folder


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
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total, f"counted in {folder.name}'s safetensors"
