"""A trial's checkpoints: ``checkpoints/<step>/`` in its folder, with ``adapter/``, ``state/`` and ``progress.json``.

A checkpoint is written beside its place and renamed when it is complete, and only then is the one before it removed: a
process may die at any moment, and the newest folder with a step's name is whole.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = "checkpoints"
PROGRESS = "progress.json"


def commit(trial: Path, progress: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Keep what ``write`` puts into the folder it is given as the checkpoint of ``progress["step"]``.

    Args:
        trial: The trial's folder.
        progress: The report that the trial makes at this step: ``step``, ``metrics``, ``done``.
        write: Saves the engine's state.
    """
    name = f"{progress['step']:08d}"
    part, final = trial / FOLDER / f"{name}.part", trial / FOLDER / name
    for left in (part, final):
        _remove(left)
    part.parent.mkdir(parents=True, exist_ok=True)
    write(part)
    (part / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")
    _flush(part)
    part.rename(final)
    for other in final.parent.iterdir():
        if other != final:
            _remove(other)


def latest(trial: Path) -> Path | None:
    """The newest whole checkpoint of a trial."""
    folder = trial / FOLDER
    whole = [path for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return max(whole, default=None)


def progress_of(checkpoint: Path) -> dict[str, Any]:
    """The report that was made when it was saved."""
    content: dict[str, Any] = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
    return content


def keep_adapter(trial: Path) -> bool:
    """Copy the newest checkpoint's adapter to ``adapter/``, where an ended trial has it; whether there was one."""
    checkpoint = latest(trial)
    if checkpoint is None:
        return (trial / "adapter").is_dir()
    part = trial / "adapter.part"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(checkpoint / "adapter", part)
    _flush(part)
    shutil.rmtree(trial / "adapter", ignore_errors=True)
    part.rename(trial / "adapter")
    return True


def drop(trial: Path) -> None:
    """Remove what only going on with the training would need."""
    _remove(trial / FOLDER)


def _remove(folder: Path) -> None:
    """Remove a folder so that no part of it is ever taken for the whole: files go one by one."""
    going = folder if folder.name.endswith(".part") else folder.with_name(f"{folder.name}.part")
    if folder != going and folder.exists():
        shutil.rmtree(going, ignore_errors=True)
        folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Put every file of a folder on the disk: a machine that loses its power must not leave a name without content."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
