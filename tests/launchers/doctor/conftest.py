"""Copies of a finished sweep, each of which a test may break in its own way."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.launchers.running import Finished


def move_home(source: Path, to: Path) -> Path:
    """A copy of a home with all that it knows of its place: paths in ledgers, and in MLflow's database."""
    shutil.copytree(source, to)
    for ledger in to.glob("runs/*/ledger.jsonl"):
        ledger.write_text(ledger.read_text().replace(str(source), str(to)))
    with closing(sqlite3.connect(to / "mlflow.db")) as database, database:
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(source), str(to)))
    return to


@pytest.fixture
def home(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a finished sweep called ``small``, a copy."""
    copy = move_home(finished.home, tmp_path / "home")
    monkeypatch.setenv("PODIUM_HOME", str(copy))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return copy
