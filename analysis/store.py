"""Bundles in object storage: going up the manifest comes last, and coming down nothing is believed but by it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis import manifest
from analysis.export import is_bundle, places, same
from recipes import objects
from recipes.objects import Place
from sweeps.errors import InvalidInput, Problem, VerificationFailed

MOST_FILES = 10_000  # looked at in a place that may be no bundle; a bundle has dozens
SHOWN = 10  # problems that are told


def publish(bundle: Path, url: str, *, numbered: bool = False) -> str:
    """Upload a bundle, unless it is there; an upload of it that was broken off is gone on with.

    The manifest goes last, so that half a bundle is never taken for a whole one. Nothing is ever overwritten.

    Args:
        bundle: A local folder that was verified.
        url: The folder that will be the bundle.
        numbered: Where something else is at ``url``, take the next free of ``url-2``, ``url-3``, …

    Returns:
        Where it lies.

    Raises:
        InvalidInput: Something else is there; or no such bucket, wrong credentials, no right.
        ServiceUnreachable: The server does not answer, or answers that it cannot.
    """
    for place in map(objects.folder_of, places(url) if numbered else [url]):
        missing = _missing(bundle, place)
        if missing is not None:
            objects.upload(bundle, missing, place)
            return str(place)
    raise InvalidInput(Problem(url, "holds something else", "choose another place, or remove it"))


def _missing(bundle: Path, place: Place) -> list[str] | None:
    """The files of a bundle that its place does not hold yet, in order of upload; None where something else is."""
    listed = manifest.parse((bundle / manifest.FILE_NAME).read_bytes())
    names = [*sorted(listed), manifest.FILE_NAME]
    there = objects.listing(place, most=len(names) + 1)
    if any(name not in names or size != (bundle / name).stat().st_size for name, size in there.items()):
        return None
    if not there:
        return names
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "bundle")
        objects.download(place, there, copy)
        if manifest.FILE_NAME in there:
            return [] if is_bundle(copy) and same(bundle, copy) else None
        if any(manifest.describe(copy / name) != listed[name] for name in there):
            return None
    return [name for name in names if name not in there]


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A bundle from object storage in a temporary folder, which still has to be checked against its manifest.

    What names and sizes already give away is told before anything but the manifest is downloaded.

    Raises:
        InvalidInput: Nothing is there; or no such bucket, wrong credentials, no right.
        VerificationFailed: The manifest is missing, or does not fit what is there.
        ServiceUnreachable: The server does not answer, or answers that it cannot.
    """
    place = objects.folder_of(url)
    there = objects.listing(place, MOST_FILES)
    if not there:
        raise InvalidInput(Problem(url, "nothing is there", "give the folder of an exported champion"))
    with tempfile.TemporaryDirectory() as scratch:
        found = _misfits(place, there, Path(scratch, "manifest"))
        if found:
            more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise VerificationFailed(f"{url} is not what it claims to be.\nfiles: {'; '.join(found[:SHOWN])}{more}")
        folder = Path(scratch, "bundle")
        objects.download(place, there, folder)
        yield folder


def _misfits(place: Place, there: dict[str, int], scratch: Path) -> list[str]:
    if manifest.FILE_NAME not in there:
        below = [
            name.removesuffix(f"/{manifest.FILE_NAME}") for name in there if name.endswith(f"/{manifest.FILE_NAME}")
        ]
        why = (
            f"bundles below it: {', '.join(below[:SHOWN])}"
            if below
            else "its upload was not finished, or it is no bundle"
        )
        return [f"{manifest.FILE_NAME} is missing ({why})"]
    objects.download(place, [manifest.FILE_NAME], scratch)
    try:
        return manifest.misfits(manifest.parse((scratch / manifest.FILE_NAME).read_bytes()), there)
    except ValueError as error:
        return [str(error)]
