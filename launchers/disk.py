"""What Podium's home takes on the disk, by sweep and kind, and which of it nothing needs any more.

Kept is whatever ``resume``, ``retry``, ``leaderboard``, ``export``, ``verify``, ``try`` and ``report`` read. A sweep
that a driver holds at the moment is left alone as a whole.
"""

import os
import re
import shutil
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from analysis.champion import choose, default_trial
from analysis.stages import stages_of
from launchers.events import events
from launchers.halt import PAUSING
from launchers.staging import best_of
from sweeps.errors import PodiumError
from sweeps.stages import whole_name
from tracking.folders import STAGES, folder_of, run_folders, whole_of
from tracking.ledger import Ledger, LedgerLocked, State, SweepState, is_open, read

FREED = "adapter.freed"  # in a trial's folder, where its adapter was
YOUNG_S = 3600.0  # what is younger may belong to a command that is at work
RUNNER_UP = 2
UNREADABLE = (PodiumError, AssertionError, LookupError, TypeError, ValueError)  # what a ledger that is not whole raises
DRAFT = re.compile(r"^\.(podium-doctor-.+|.+\..{8})$")  # beside bundles: made by tempfile, renamed when complete


@dataclass
class Usage:
    """What one sweep (or, with ``sweep`` None, all of them together) keeps of one kind.

    Attributes:
        size: Bytes of all of it.
        free: Files and folders that can go, and their bytes.
        note: Why they can go, or why they stay.
    """

    sweep: str | None
    kind: str
    size: int = 0
    free: dict[Path, int] = field(default_factory=dict)
    note: str = ""

    @property
    def free_size(self) -> int:
        """Bytes that can be freed."""
        return sum(self.free.values())


def human(size: float) -> str:
    """A number of bytes for people: "1.4 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files under a folder. Links are not followed; what vanishes meanwhile counts 0."""
    return sum(size for _, size in _files(path))


def _files(path: Path) -> Iterator[tuple[Path, int]]:
    places = [path]
    if path.is_dir() and not path.is_symlink():
        walked = ((root, name) for root, folders, names in os.walk(path) for name in [*names, *folders])
        places = [place for root, name in walked if (place := Path(root, name)).is_symlink() or not place.is_dir()]
    for place in places:
        try:
            yield place, place.lstat().st_size
        except OSError:
            continue


def survey(home: Path, adapters: bool = False) -> list[Usage]:
    """Everything in the home, by sweep and kind. Changes nothing.

    Args:
        adapters: Also give up adapters of trials that are neither champion, nor exported, nor near the top.
    """
    folders = dict(run_folders(home))
    names = sorted({whole_name(name) for name in folders})
    usages = [usage for name, folder in folders.items() for usage in _sweep(name, folder, adapters)]
    bundles: dict[str | None, Usage] = {}
    for folder in _children(home / "champions"):
        if DRAFT.match(folder.name):
            continue
        owners = [name for name in names if folder.name == name or folder.name.startswith(f"{name}-")]
        owner = max(owners, key=len, default=None)
        bundles.setdefault(owner, Usage(owner, "bundles")).size += size_of(folder)
    usages += bundles.values()
    usages += [_data(home, folders), _downloads(home), _drafts(home), *_mlflow(home), *_rest(home)]
    return [usage for usage in usages if usage.size]


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


_IN_TRIAL = {"checkpoint": "checkpoints", "checkpoints": "checkpoints", "adapter": "adapters", "scratch": "scratch"}


def kind_of(place: Path) -> str:
    """The kind of a file, by its path within the run folder."""
    parts = place.parts
    if any(part.endswith(".part") for part in parts):
        return "scratch"
    if parts[0] == "trials" and len(parts) > 3:
        return _IN_TRIAL.get(parts[2], "records")
    if parts[0] in ("ray", "evaluations"):
        return parts[0]
    return "logs" if place.suffix == ".log" else "records"


def _sweep(name: str, folder: Path, adapters: bool) -> list[Usage]:
    kinds: dict[str, Usage] = {}
    for path, size in _files(folder):
        place = path.relative_to(folder)
        if len(place.parts) > 2 and place.parts[0] == STAGES:  # an earlier stage's, which is looked at by itself
            continue
        kind = kind_of(place)
        kinds.setdefault(kind, Usage(name, kind)).size += size
    try:
        state = read(folder)
    except UNREADABLE as error:
        for usage in kinds.values():
            usage.note = f"stays: {error}"
        return list(kinds.values())
    if is_open(folder) or is_open(_whole(name, folder) / STAGES):
        for usage in kinds.values():
            usage.note = "stays: the sweep is running"
        return list(kinds.values())
    free: dict[str, tuple[list[Path], str]] = {
        "scratch": (scratch(folder), "left by a process that was ended"),
        "checkpoints": _checkpoints(state),
        "ray": _ray(state),
        "adapters": _adapters(state) if adapters else ([], ""),
    }
    for kind, (paths, note) in free.items():
        if kind in kinds:
            kinds[kind].free = {path: size_of(path) for path in paths}
            kinds[kind].note = note
    return list(kinds.values())


def _whole(name: str, folder: Path) -> Path:
    """The run folder of the whole sweep."""
    return folder.parents[1] if "/" in name else folder


def scratch(folder: Path) -> list[Path]:
    """What was being written in a run folder when its writer was ended: none of it was ever read."""
    found = (*folder.glob("trials/*/scratch-*"), *folder.rglob("*.part"))
    places = [path.relative_to(folder) for path in found]
    places = [place for place in places if place.parts[0] != STAGES]  # an earlier stage has its own
    return [folder / place for place in places if not any(parent in places for parent in place.parents)]


def _checkpoints(state: SweepState) -> tuple[list[Path], str]:
    """Those of trials that have come to their end with an adapter: nothing goes on from them."""
    over = [
        trial
        for trial in state.every_trial.values()
        if trial.state is State.DONE or (trial.state is State.STOPPED and not trial.halted)
    ]
    paths = [
        state.folder / "trials" / trial.id / name
        for trial in over
        if trial.adapter and (state.folder / trial.adapter).is_dir()
        for name in ("checkpoints",)
        if (state.folder / "trials" / trial.id / name).is_dir()
    ]
    return paths, "of trials that ended" if paths else "stay: `resume` and `retry` go on from them"


def _ray(state: SweepState) -> tuple[list[Path], str]:
    paths = [state.folder / "ray"] if (state.folder / "ray").is_dir() else []
    return paths, "Tune's own records: the ledger has all that is read again"


def keepers(state: SweepState) -> set[str]:
    """Trials whose adapters are never given up: champion, exported, the top of the ranking, the recipe's defaults."""
    confirm = (state.spec.get("champion") or {}).get("confirm") or {}
    top = choose(state).ranking[: max(RUNNER_UP, int(confirm.get("top") or 0))]
    exported = [export.get("trial") for export in state.exports]
    chosen = (state.champion or {}).get("champion")
    return {str(trial) for trial in (chosen, default_trial(state), *exported, *top) if trial}


def _adapters(state: SweepState) -> tuple[list[Path], str]:
    waiting = any(trial.halted or trial.state is State.PAUSED for trial in state.trials.values())
    if state.ended is None or state.status in PAUSING or waiting:
        return [], "stay: the sweep can be resumed"
    keep = keepers(state) | _started_from(state)
    paths = [
        state.folder / trial.adapter
        for trial in state.every_trial.values()
        if trial.adapter and trial.id not in keep and trial.stage is None and (state.folder / trial.adapter).is_dir()
    ]
    if not paths:
        return [], "stay: all are of the champion, of exports, or near the top"
    return paths, "lost: these trials cannot be exported or evaluated again; their scores and answers stay"


def _started_from(state: SweepState) -> set[str]:
    """Trials that later stages start from in any of their versions, and those that one will that has not begun."""
    others = [stage.state for stage in stages_of(state) if stage.state is not None]
    begun = {trial.id for other in others for trial in other.every_trial.values() if trial.stage is not None}
    return begun | set(best_of(state, _most_starts(state)))


def _most_starts(state: SweepState) -> int:
    """The largest ``top`` of the stages that start from this one; 0 where none does."""
    whole = whole_of(_whole(state.name, state.folder)) or {}
    stages = (whole.get("values") or {}).get("stages") or []
    tops = [0]
    for before, stage in pairwise(stages):
        start = stage.get("start") or {}
        if start.get("from", before["name"]) == (state.facts.get("stage") or {}).get("name"):
            tops.append(int(start.get("top", 1)))
    return max(tops)


def _data(home: Path, sweeps: Mapping[str, Path]) -> Usage:
    """Prepared splits. Those that no sweep names, in any of its versions, can be made again from their source."""
    usage = Usage(None, "data")
    used: set[str] = set()
    try:
        for folder in sweeps.values():
            for _, event in events(folder, "sweep"):
                assert event is not None
                used |= {Path(split["path"]).parent.name for split in event["facts"].get("data", {}).values()}
            read(folder)
    except UNREADABLE as error:  # then it is not known what that sweep uses
        usage.note = f"stays: {error}"
        used = {folder.name for folder in _children(home / "cache" / "data")}
    for folder in _children(home / "cache" / "data"):
        size = size_of(folder)
        usage.size += size
        if folder.name not in used and _old(folder):
            usage.free[folder] = size
        else:
            usage.free |= {path: size_of(path) for path in folder.glob("*.part") if _old(path)}
    usage.note = usage.note or ("used by no sweep, or half-written" if usage.free else "")
    return usage


def _old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > YOUNG_S
    except OSError:
        return False


def _drafts(home: Path) -> Usage:
    """Folders that a command was filling when it was ended."""
    usage = Usage(None, "scratch", note="left by a process that was ended")
    places = [*_children(home / "champions"), *_children(home)]
    drafts = [path for path in places if DRAFT.match(path.name)]
    for path in drafts:
        size = size_of(path)
        usage.size += size
        if _old(path):
            usage.free[path] = size
    return usage


def _mlflow(home: Path) -> Iterator[Usage]:
    database = home / "mlflow.db"
    yield Usage(None, "MLflow database", sum(size_of(path) for path in home.glob("mlflow.db*")))
    artifacts = Usage(None, "MLflow artifacts", size_of(home / "artifacts"))
    for folder in _deleted_runs(database):
        if folder.is_dir() and folder.resolve().is_relative_to((home / "artifacts").resolve()):
            artifacts.free[folder] = size_of(folder)
    if artifacts.free:
        artifacts.note = "of runs that were deleted in MLflow"
    yield artifacts


def _deleted_runs(database: Path) -> list[Path]:
    """Artifact folders of deleted runs. Asked of the file itself: MLflow takes seconds to load."""
    if not database.is_file():
        return []
    query = "SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'deleted'"
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            addresses = [str(row[0]) for row in connection.execute(query)]
    except sqlite3.Error:
        return []
    parts = [urlsplit(address) for address in addresses]
    local = [part.path for part in parts if part.scheme in ("", "file") and part.path.endswith("/artifacts")]
    return [Path(unquote(path)) for path in local]


def _downloads(home: Path) -> Usage:
    """Objects that rows were read from: a sweep that reads them again downloads them again."""
    usage = Usage(None, "downloads")
    for path in _children(home / "cache" / "objects"):
        size = size_of(path)
        usage.size += size
        if _old(path):
            usage.free[path] = size
    usage.note = "read from S3, and downloaded again when it is needed" if usage.free else ""
    return usage


def _rest(home: Path) -> Iterator[Usage]:
    known = {"runs", "champions", "artifacts"}
    logs, other = Usage(None, "logs"), Usage(None, "other")
    for path in _children(home):
        if path.name in known or path.name.startswith("mlflow.db") or DRAFT.match(path.name):
            continue
        if path.name == "cache":
            other.size += sum(size_of(child) for child in _children(path) if child.name not in ("data", "objects"))
        else:
            (logs if path.suffix == ".log" else other).size += size_of(path)
    yield from (logs, other)


def free(home: Path, usages: Iterable[Usage]) -> tuple[int, list[str]]:
    """Remove what can go. Returns the bytes that were freed, and a sentence for whatever could not be removed.

    Each sweep's ledger is held meanwhile, so that no driver starts on what is being removed.
    """
    freed, problems = 0, []
    by_sweep: dict[str | None, list[Usage]] = defaultdict(list)
    for usage in usages:
        by_sweep[usage.sweep].append(usage)
    for sweep, group in by_sweep.items():
        with ExitStack() as held:
            if sweep is not None and any(usage.free for usage in group):
                try:
                    held.enter_context(Ledger(folder_of(home, sweep)))
                except LedgerLocked:
                    problems.append(f"{sweep} has just been started: nothing of it was removed")
                    continue
            for usage in group:
                for path, size in usage.free.items():
                    try:
                        _remove(home, path, usage.kind)
                        freed += size
                    except OSError as error:
                        problems.append(f"{path} could not be removed: {error.strerror or error}")
    return freed, problems


def _remove(home: Path, path: Path, kind: str) -> None:
    assert path.is_relative_to(home), f"{path} is outside of the home"
    assert ".." not in path.parts, f"{path} may lead out of the home"
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if kind == "adapters":  # first, so that an adapter is never gone without a word
        date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        path.with_name(FREED).write_text(f"Freed by `podium gc --adapters`, {date} UTC.\n", encoding="utf-8")
    shutil.rmtree(path)
