"""Making and verifying a champion's bundle. What loads torch runs in a process of its own, never in the driver's."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.champion import Choice
from sweeps.errors import InvalidInput, PodiumError, Problem, VerificationFailed
from tracking.ledger import SweepState

Say = Callable[[str], None]


def make_bundle(state: SweepState, choice: Choice, to: Path, *, merge: bool, say: Say) -> dict[str, Any]:
    """Export a champion to ``to`` and verify it there; return what the ledger notes of it.

    Raises:
        VerificationFailed: The bundle does not do what the champion did; the message says in what.
        InvalidInput: ``to`` holds something else.
    """
    assert choice.champion is not None
    say(f"exporting trial {choice.champion} to {to} …")
    arguments = ["export", state.folder.name, str(to), choice.champion, *(["--merge"] if merge else [])]
    _worker([*arguments, "--folder", str(state.folder)])
    say("verifying it: hashes, the adapter in plain PEFT, the stored items scored again …")
    checks = _worker(["verify", str(to)])
    for line in checks.splitlines():
        say(f"  {line}")
    return {"to": str(to), "trial": choice.champion, "merged": merge, "verified": checks.splitlines()}


def _worker(arguments: list[str]) -> str:
    """Run ``python -m launchers.bundle_worker`` and turn its exit code back into an error."""
    done = subprocess.run(
        [sys.executable, "-m", "launchers.bundle_worker", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout.strip()
    message = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == VerificationFailed.exit_code:
        raise VerificationFailed(message)
    if done.returncode == InvalidInput.exit_code:
        raise InvalidInput(Problem("export", message))
    raise PodiumError(message)
