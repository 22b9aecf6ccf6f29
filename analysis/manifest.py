"""The manifest of a bundle: the SHA-256 and size of every file in it, and the check against what is there.

The manifest is canonical JSON, so that any changed byte of it shows as well as any changed byte of a file.
"""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from recipes.files import sha256_of
from recipes.objects import is_plain

FILE_NAME = "manifest.json"
FORMAT = 1
PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz")


def write(folder: Path) -> Path:
    """Write the manifest of every file under ``folder``, itself excepted."""
    files = {name: describe(folder / name) for name in _walk(folder)[0] if name != FILE_NAME}
    path = folder / FILE_NAME
    path.write_bytes(_canonical({"format": FORMAT, "files": files}))
    return path


def describe(path: Path) -> dict[str, Any]:
    """The SHA-256 and size of a file."""
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def _canonical(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=True) + "\n").encode()


def _walk(folder: Path) -> tuple[list[str], list[str]]:
    """Plain files under ``folder`` by their POSIX path, sorted, and whatever is neither a plain file nor a folder."""
    plain, odd = [], []
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            relative, mode = path.relative_to(folder).as_posix(), path.lstat().st_mode
            if stat.S_ISREG(mode):
                plain.append(relative)
            elif not stat.S_ISDIR(mode):
                odd.append(relative)
    return sorted(plain), sorted(odd)


def parse(raw: bytes) -> dict[str, Any]:
    """What a manifest's bytes list: by name, each file's ``sha256`` and ``bytes``.

    Raises:
        ValueError: Saying why they are no manifest of this version.
    """
    try:
        content = json.loads(raw)
        if content["format"] != FORMAT or not isinstance(content["files"], dict):
            raise ValueError(f"{FILE_NAME} has format {content['format']!r}, this version reads {FORMAT}")
        canonical = raw == _canonical(content) and set(content) == {"format", "files"}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{FILE_NAME} cannot be read") from None
    if not canonical:
        raise ValueError(f"{FILE_NAME} was changed: it is not in the form in which it was written")
    files: dict[str, Any] = content["files"]
    return files


def misfits(listed: dict[str, Any], present: Mapping[str, int]) -> list[str]:
    """In what the files that are present (size in bytes by name) differ from those listed, without opening any."""
    found = [f"{name!r} leads out of the bundle" for name in listed if not is_plain(name)]
    found += [f"{name} may hold pickled code, which a bundle never does" for name in present if name.endswith(PICKLED)]
    found += [f"{name} is not in the manifest" for name in present if name not in listed and name != FILE_NAME]
    for name in sorted(filter(is_plain, listed)):
        if name not in present:
            found.append(f"{name} is missing")
        elif not isinstance(listed[name], dict) or listed[name].get("bytes") != present[name]:
            found.append(f"{name} was changed: its size is not the manifest's")
        found += [f"{parent} is listed as a file and as a folder" for parent in _parents(name) if parent in listed]
    return found


def _parents(name: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(name).parents][:-1]


def problems(folder: Path) -> list[str]:
    """Everything in which a bundle differs from its manifest, each naming its file; empty when all is as written.

    No file is opened that the manifest does not list, that is a link, or that a listed path would reach outside the
    bundle.
    """
    path = folder / FILE_NAME
    if path.is_symlink() or not path.is_file():
        return [f"{FILE_NAME} is missing"]
    try:
        listed = parse(path.read_bytes())
    except ValueError as error:
        return [str(error)]
    present, odd = _walk(folder)
    found = [f"{name} is a link or a special file, which a bundle never holds" for name in odd]
    listed_plain = {name: entry for name, entry in listed.items() if name not in odd}
    sizes = {name: (folder / name).lstat().st_size for name in present}
    found += misfits(listed_plain, sizes)
    for name in sorted(set(listed_plain) & set(sizes)):
        same_size = isinstance(listed[name], dict) and listed[name].get("bytes") == sizes[name]
        if same_size and listed[name] != describe(folder / name):
            found.append(f"{name} was changed: its SHA-256 is not the manifest's")
    return found
