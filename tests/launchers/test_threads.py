"""A thread that waits for others sleeps, so that a busy machine slows a sweep by what it takes from it and no more."""

import os
import subprocess
import sys

import pytest

from launchers.cli import SPINS
from tests.launchers.running import ROOT

PROGRAM = """
import subprocess, sys
from launchers import cli
cli.app = lambda: subprocess.run([sys.executable, "-c", "import os; print(os.environ['GOMP_SPINCOUNT'])"], check=True)
cli.main()
"""


@pytest.mark.parametrize(
    ("own", "expected"), [({}, SPINS), ({"GOMP_SPINCOUNT": "77"}, "77")], ids=["ours", "the user's"]
)
def test_what_is_started_finds_how_long_its_threads_may_spin(own: dict[str, str], expected: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env={**inherited, **own}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == expected, done.stderr
