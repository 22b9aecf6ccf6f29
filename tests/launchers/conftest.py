"""One real sweep, run once, that the tests of this folder and of ``tests/browser`` look at."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.launchers.running import loaded, podium, write_sweep
from tracking.ledger import SweepState, read


@dataclass(frozen=True)
class Finished:
    """A sweep that ran to its end: Podium's home, and what the command printed."""

    home: Path
    stdout: str
    stderr: str
    code: int
    loaded: tuple[str, ...]  # heavy libraries in the driver's process at its end

    @property
    def state(self) -> SweepState:
        return read(self.home / "runs" / "small")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """``podium submit`` on three trials of six steps: Ray, NeMo, MLflow and evaluation as in any sweep."""
    folder = tmp_path_factory.mktemp("sweep")
    home = folder / "home"
    run = podium(home, "submit", str(write_sweep(folder)), probe=True)
    return Finished(home, run.stdout, run.stderr, run.returncode, tuple(loaded(run)))
