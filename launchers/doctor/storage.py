"""Checks of the disks: what the ledger asks of a file system, free space, and the clock that stamps its lines."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from launchers import home
from launchers.disk import human, size_of
from launchers.doctor.check import Check, Finding, failed, ok, warning

GIB = 2**30
OTHER_HOME = "set PODIUM_HOME to a folder on a local disk"
RAY_FULL = 0.95  # the share at which Ray refuses to write (its ``local_fs_capacity_threshold``)
MOST_FILES = 20_000  # that are looked at in folders of sessions that are over
MIN_SHM = 128 * 2**20  # bytes; containers have 64 MiB by default, and Ray then keeps its objects in /tmp


def checks() -> list[Check]:
    """All of this group."""
    return [
        Check("file system", file_system, limit_s=30),
        Check("disk space", space),
        Check("clock", clock),
    ]


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the first of its parents that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def kind_of(folder: Path) -> str:
    """The type of the file system that a folder lies on: ext4, nfs4, overlay, …"""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, name, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) > len(best) and folder.is_relative_to(point):
            best, kind = point, name
    return kind


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix=".podium-doctor-", dir=folder))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


# Another process must be refused the lock: the same one would be let in where locks belong to processes, as on NFS.
_TAKE_LOCK = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("refused")
"""


def file_system() -> Finding:
    """The home takes what the ledger needs: appending, flushing to the disk, locks between processes, renaming."""
    folder = nearest_folder(home.home())
    kind = kind_of(folder)
    try:
        with _scratch(folder) as scratch:
            with (scratch / "part").open("a", encoding="utf-8") as file:
                file.write("{}\n")
                file.flush()
                begun = time.perf_counter()
                os.fsync(file.fileno())
                flush_ms = (time.perf_counter() - begun) * 1000
            (scratch / "part").replace(scratch / "whole")
            with (scratch / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                other = subprocess.run(
                    [sys.executable, "-c", _TAKE_LOCK, str(scratch / "lock")],
                    capture_output=True,
                    text=True,
                    timeout=20,
                    check=False,
                )
    except OSError as error:
        return failed(f"{folder} ({kind}) cannot be used: {error.strerror or error}", OTHER_HOME)
    if other.stdout.strip() != "refused":
        rule = f"{folder} ({kind}) does not keep a lock between processes, so two could write one sweep"
        return failed(rule, OTHER_HOME)
    return ok(f"{folder} ({kind}) takes locks and renames, and flushes a line in {flush_ms:.1f} ms")


def space() -> list[Finding]:
    """Room in the home, and where Ray works: its session folder and shared memory."""
    ray = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    findings = [_room(nearest_folder(home.home()), "the home", "`podium gc` shows what can be freed, or " + OTHER_HOME)]
    findings.append(_room(nearest_folder(ray), "Ray's sessions", "free some, or set RAY_TMPDIR to another folder"))
    shm = Path("/dev/shm")
    if shm.is_dir() and (free := shutil.disk_usage(shm).free) < MIN_SHM:
        rule = f"/dev/shm has {human(free)} free, so Ray keeps its objects on the disk, which is slower"
        findings.append(warning(rule, "give the container more: `docker run --shm-size=1g`"))
    elif shm.is_dir():
        findings.append(ok(f"/dev/shm has {human(free)} free"))
    return [*findings, *_left_sessions(ray / "ray")]


def _left_sessions(folder: Path) -> list[Finding]:
    """Session folders of Ray that no process uses any more. They may be other programs', so nothing removes them."""
    running = {name for path in Path("/proc").glob("[0-9]*/cmdline") for name in _sessions_in(path)}
    sessions = [path for path in folder.glob("session_2*") if not path.is_symlink() and path.name not in running]
    files = islice((path for session in sessions for path in session.rglob("*")), MOST_FILES)
    size = sum(size_of(path) for path in files if not path.is_dir())
    if size < GIB:
        return []
    rule = f"{len(sessions)} sessions in {folder} are of no process any more, and take {human(size)} or more"
    return [warning(rule, f"remove those that you do not need the logs of: {folder}/session_2…")]


def _sessions_in(command: Path) -> list[str]:
    try:
        return re.findall(r"session_2[\w-]+", command.read_bytes().decode(errors="replace"))
    except OSError:
        return []


def _room(folder: Path, what: str, way_out: str) -> Finding:
    usage = shutil.disk_usage(folder)
    says = f"{folder} ({what}) has {human(usage.free)} of {human(usage.total)} free"
    if usage.free < GIB // 4:
        return failed(f"{says}, too little for a sweep", way_out)
    if usage.free < 2 * GIB:
        return warning(f"{says}, which a longer sweep may fill", way_out)
    if usage.used / usage.total > RAY_FULL:
        return warning(f"{says}: Ray warns, and may refuse to write, above {RAY_FULL:.0%}", way_out)
    return ok(says)


def clock() -> Finding:
    """The clock goes forward, and is not behind what sweeps have written."""
    first = time.monotonic(), time.time()
    time.sleep(0.05)
    second = time.monotonic(), time.time()
    drift = (second[1] - first[1]) - (second[0] - first[0])
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(second[1]))
    synchronise = "let the machine's time be synchronised (chrony, systemd-timesyncd)"
    if abs(drift) > 1:
        return warning(f"it is {now}, and the clock was set by {drift:+.1f} s while it was looked at", synchronise)
    ledgers = home.home().glob("runs/*/ledger.jsonl")
    ahead = max((path.stat().st_mtime for path in ledgers), default=0.0) - second[1]
    if ahead > 60:
        rule = f"it is {now}, and a ledger was written {ahead / 60:.0f} min later than that"
        return warning(rule, synchronise)
    return ok(f"it is {now}")
