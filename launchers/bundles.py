"""Making and verifying bundles. What loads torch runs in a process of its own, never in the driver's."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis import manifest, store
from analysis.champion import Choice, choose
from launchers import home, targets
from sweeps.errors import InvalidInput, NoChampion, PodiumError, Problem, ServiceUnreachable, VerificationFailed
from tracking.ledger import Ledger, SweepState

Say = Callable[[str], None]


def make_bundle(
    state: SweepState,
    choice: Choice,
    to: str | Path,
    *,
    merge: bool,
    say: Say,
    keep: int = 0,
    numbered: bool = True,
) -> dict[str, Any]:
    """Export a champion and verify it where it lies; return what the ledger notes of it.

    A bundle for object storage is made and verified in Podium's home, uploaded, and its files are compared with the
    manifest once more as they come down again.

    Args:
        state: The sweep.
        choice: Has a champion.
        to: A folder, or an ``s3://`` URL.
        merge: Add the merged weights.
        say: Takes messages.
        keep: How many of the best trials beside the champion go along, as bundles in ``<to>-checkpoints/<trial>``.
        numbered: Where something else is at ``to``, take the next free of ``to-2``, ``to-3``, …

    Returns:
        ``to`` (where it lies: it may be numbered), ``folder`` (the same bundle on this machine), ``trial``, ``merged``,
        ``verified`` (a line for each check) and ``kept`` (where the other trials lie).

    Raises:
        VerificationFailed: The bundle does not do what the champion did; the message says in what.
        InvalidInput: ``to`` holds something else and is not numbered, or cannot be written.
        ServiceUnreachable: The object storage does not answer. The bundle is whole in Podium's home.
    """
    assert choice.champion is not None
    target = targets.resolve(str(to), state.name)
    local = target if isinstance(target, Path) else home.bundle_folder(state.name)
    say(f"exporting trial {choice.champion} to {target} …")
    folder = _export(state, choice.champion, local, merge=merge, numbered=numbered or local != target)
    say("verifying it: hashes, the adapter in plain PEFT, the stored items scored again …")
    checks = _worker(["verify", str(folder)]).splitlines()
    for line in checks:
        say(f"  {line}")
    others = [trial for trial in choice.ranking if trial != choice.champion][:keep]
    kept = [_export(state, trial, Path(f"{folder}-checkpoints", trial), merge=False, numbered=True) for trial in others]
    place, beside = str(folder), [str(one) for one in kept]
    if not isinstance(target, Path):
        try:
            place = _upload(folder, target, numbered=numbered)
            beside = [
                _upload(one, f"{place}-checkpoints/{trial}", numbered=True)
                for one, trial in zip(kept, others, strict=True)
            ]
        except (ServiceUnreachable, InvalidInput):
            say(f"the bundle is whole in {folder}; exporting it to {target} again goes on where this ended")
            raise
        checks.append("uploaded: ok – every file came down again with the manifest's SHA-256")
        say(f"  {checks[-1]}")
    if place != str(target):
        say(f"{target} holds something else, so the bundle is in {place}")
    for one in beside:
        say(f"kept beside it: {one}")
    made = {"to": place, "folder": str(folder), "trial": choice.champion, "merged": merge, "verified": checks}
    return {**made, "kept": beside}


def note_export(state: SweepState, made: dict[str, Any]) -> None:
    """Write a bundle that was made outside of a session into the ledger, where ``exported`` finds it.

    Args:
        made: As ``make_bundle`` returns it.

    Raises:
        LedgerLocked: A session of the sweep runs.
        LedgerBroken: The disk is full.
        OSError: The run folder cannot be written.
    """
    before = [one for one in state.exports if one["trial"] == made["trial"]]
    # Kept, or the next `podium submit` of the finished sweep would register the trial a second time.
    noted = {**made, "registered": before[-1].get("registered") if before else None}
    if noted not in before:
        with Ledger(state.folder) as ledger:
            ledger.append("export", export=noted)


def exported(state: SweepState) -> Path:
    """The folder of a sweep's champion as it was exported last.

    Raises:
        InvalidInput: It has no champion, or the bundle is not on this machine.
    """
    champion = choose(state).champion
    for export in reversed(state.exports):
        if export["trial"] == champion and (folder := Path(export["folder"])).is_dir():
            return folder
    rule = "its champion is not exported on this machine" if champion else "it has no champion"
    way_out = f"`podium champion {state.name}` says why"
    if champion:
        way_out = f"`podium export {state.name}` makes a bundle"
    raise InvalidInput(Problem(state.name, rule, way_out))


def _export(state: SweepState, trial: str, to: Path, *, merge: bool, numbered: bool) -> Path:
    options = [*(["--merge"] if merge else []), *(["--numbered"] if numbered else [])]
    return Path(_worker(["export", str(state.folder), str(to), trial, *options]).splitlines()[-1])


def _upload(folder: Path, url: str, *, numbered: bool) -> str:
    """Upload a bundle and compare what comes down again with its manifest; return where it lies."""
    place = store.publish(folder, url, numbered=numbered)
    with store.fetched(place) as copy:
        if found := manifest.problems(copy):
            raise VerificationFailed(f"{place} is not what was uploaded.\n{'; '.join(found)}")
    return place


def _worker(arguments: list[str]) -> str:
    """Run ``python -m launchers.bundle_worker`` and turn its exit code back into an error."""
    done = subprocess.run(
        [sys.executable, "-m", "launchers.bundle_worker", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout.strip()
    message = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == InvalidInput.exit_code:
        raise InvalidInput(Problem("export", message))
    kinds = {kind.exit_code: kind for kind in (VerificationFailed, ServiceUnreachable, NoChampion)}
    raise kinds.get(done.returncode, PodiumError)(message)
