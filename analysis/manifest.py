"""The manifest of a bundle: the SHA-256 and size of every file in it, and the check against what is there.

The manifest is canonical JSON, so that any changed byte of it shows as well as any changed byte of a file.
"""

import hashlib
import json
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

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
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


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


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    written_plainly = str(path) == name and "\\" not in name and "\0" not in name
    return written_plainly and not path.is_absolute() and ".." not in path.parts and name != "."


def problems(folder: Path) -> list[str]:
    """Everything in which a bundle differs from its manifest, each naming its file; empty when all is as written.

    No file is opened that the manifest does not list, that is a link, or that a listed path would reach outside the
    bundle.
    """
    path = folder / FILE_NAME
    if path.is_symlink() or not path.is_file():
        return [f"{FILE_NAME} is missing"]
    raw = path.read_bytes()
    try:
        content = json.loads(raw)
        if content["format"] != FORMAT or not isinstance(content["files"], dict):
            return [f"{FILE_NAME} has format {content['format']!r}, this version reads {FORMAT}"]
        if raw != _canonical(content) or set(content) != {"format", "files"}:
            return [f"{FILE_NAME} was changed: it is not in the form in which it was written"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return [f"{FILE_NAME} cannot be read"]
    listed: dict[str, Any] = content["files"]
    present, odd = _walk(folder)
    found = [f"{name} is a link or a special file, which a bundle never holds" for name in odd]
    found += [f"{name!r} leads out of the bundle" for name in listed if not _is_inside(name)]
    found += [f"{name} may hold pickled code, which a bundle never does" for name in present if name.endswith(PICKLED)]
    found += [f"{name} is not in the manifest" for name in present if name not in listed and name != FILE_NAME]
    for name in sorted(listed):
        if not _is_inside(name) or name in odd:
            continue
        if name not in present:
            found.append(f"{name} is missing")
        elif describe(folder / name) != listed[name]:
            found.append(f"{name} was changed: size or SHA-256 is not the manifest's")
    return found
