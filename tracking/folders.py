"""Where the run folders of sweeps lie: of a plain sweep, and of the stages of one that has several."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEDGER = "ledger.jsonl"
STAGES = "stages"  # in a run folder: the earlier stages, and what is kept of the whole
WHOLE = "stages.json"


def folder_of(home: Path, name: str) -> Path:
    """The run folder of a sweep; of an earlier stage, ``<sweep>/<stage>``, within that of its sweep."""
    sweep, _, stage = name.partition("/")
    return home / "runs" / sweep / STAGES / stage if stage else home / "runs" / sweep


def name_of(folder: Path) -> str:
    """The name by which commands know a run folder; the other way round than :func:`folder_of`."""
    return f"{folder.parents[1].name}/{folder.name}" if folder.parent.name == STAGES else folder.name


def whole_of(folder: Path) -> dict[str, Any] | None:
    """What is kept of a staged sweep as a whole, given its run folder; None where it has no stages.

    ``stages`` (names in their order), ``values`` (the YAML's, with its overrides), ``overrides`` and ``base_dir``.
    """
    try:
        told = json.loads((folder / STAGES / WHOLE).read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and isinstance(told.get("stages"), list) else None


def stage_folders(home: Path, name: str) -> dict[str, Path]:
    """The run folders of a staged sweep's stages by name, in their order; nothing for a plain one."""
    whole = whole_of(folder_of(home, name))
    if whole is None:
        return {}
    names = [str(stage) for stage in whole["stages"]]
    return {stage: folder_of(home, name if stage == names[-1] else f"{name}/{stage}") for stage in names}


def run_folders(home: Path) -> Iterator[tuple[str, Path]]:
    """Every run folder that has a ledger, with the name of its sweep or stage, a sweep before its stages."""
    runs = home / "runs"
    for path in sorted(runs.glob("*")) if runs.is_dir() else ():
        if (path / LEDGER).is_file():
            yield path.name, path
        for inner in sorted((path / STAGES).glob(f"*/{LEDGER}")):
            yield f"{path.name}/{inner.parent.name}", inner.parent
