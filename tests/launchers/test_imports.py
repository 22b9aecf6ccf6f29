"""What the quick commands load: none of the heavy libraries, so that they answer at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.analysis.synthetic import synthetic
from tests.launchers.running import ROOT, environment

HEAVY = ("torch", "transformers", "ray", "mlflow")
PROBE = """
import json, sys
from launchers.cli import main
sys.argv = ["podium", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, f"exit code {end.code}"
heavy = [name for name in ("torch", "transformers", "ray", "mlflow") if name in sys.modules]
print("\\nLOADED " + json.dumps(heavy))
"""


def loaded(home: Path, *arguments: str) -> list[str]:
    """The heavy libraries that a command has loaded when it is done."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: list[str] = json.loads(run.stdout.rsplit("LOADED ", 1)[1])
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["submit", "--help"],
        ["plan", "sweeps/quickstart.yaml"],
        ["plan", "sweeps/commerce_sft.yaml", "--trial", "3"],
        ["status"],
        ["leaderboard"],
        ["leaderboard", "-o", "json"],
    ],
    ids=" ".join,
)
def test_quick_commands_load_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    synthetic(tmp_path)
    assert loaded(tmp_path, *arguments) == []


def test_the_probe_sees_what_is_loaded(tmp_path: Path) -> None:
    """The test above can fail: a command that needs MLflow is seen to load it."""
    probe = PROBE.replace("from launchers.cli import main", "import mlflow\nfrom launchers.cli import main")
    run = subprocess.run(
        [sys.executable, "-c", probe, "--help"],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "LOADED" in run.stdout
    assert "mlflow" in json.loads(run.stdout.rsplit("LOADED ", 1)[1])
