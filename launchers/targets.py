"""Where bundles go: a local folder, or a place in object storage."""

import os
import shutil
import tempfile
from pathlib import Path

from analysis.export import check_place
from recipes import objects
from sweeps.errors import InvalidInput, Problem, ServiceUnreachable
from tracking.deadline import call_within
from tracking.ledger import FILE_NAME, SweepState

CHECK_S = 60.0  # for all that is asked of a server before a sweep starts


def resolve(to: str, name: str) -> Path | str:
    """The bundle's own place: an absolute folder, or an ``s3://`` URL.

    A URL that ends with a slash, and a whole bucket, hold the bundle under the sweep's name.

    Raises:
        InvalidInput: A URL that is not of the form ``s3://bucket/prefix``.
    """
    if not objects.is_url(to):
        return Path(to).expanduser().resolve()
    place = objects.folder_of(to)
    return str(place / name if to.endswith("/") or not place.key else place)


def check_target(to: str | None, name: str) -> None:
    """Whether a bundle can be put there, asked before a sweep starts and not at its end. Leaves nothing there.

    Args:
        to: As ``export.to`` has it; None is Podium's home, which is checked elsewhere.
        name: Of the sweep.

    Raises:
        InvalidInput: A folder that cannot be written or holds something that is no bundle; no such bucket, wrong
            credentials, or a right is missing.
        ServiceUnreachable: The object storage does not answer in time, or answers that it cannot.
    """
    if to is None:
        return
    target = resolve(to, name)
    if isinstance(target, Path):
        _check_folder(target)
        return
    try:
        call_within(CHECK_S, lambda: objects.check_folder(objects.folder_of(target)))
    except TimeoutError as error:
        raise ServiceUnreachable(f"{target}: {error}") from None


def keep_ledger(state: SweepState, to: str | None) -> str | None:
    """Put a copy of the ledger beside the bundles in object storage, under the session's number; return its URL.

    A copy is never written again: each session has its own. None where ``to`` is no URL.

    Raises:
        PodiumError: As for any upload. The ledger itself is in the run folder as ever.
    """
    target = resolve(to, state.name) if to is not None else None
    if not isinstance(target, str):
        return None
    place = objects.folder_of(f"{target}-ledger")
    name = f"{len(state.sessions):04d}.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(state.folder / FILE_NAME, Path(folder) / name)
        objects.upload(Path(folder), [name], place)
    return str(place / name)


def _check_folder(target: Path) -> None:
    check_place(target)
    there = next(folder for folder in (target, *target.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        rule = f"cannot be made: {there} is {'no folder' if not there.is_dir() else 'not writable'}"
        raise InvalidInput(Problem(str(target), rule, "choose another folder for export.to"))
