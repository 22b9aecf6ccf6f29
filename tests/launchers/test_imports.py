"""What the quick commands load: none of the heavy libraries, so that they answer at once."""

from pathlib import Path

import pytest

from tests.analysis.synthetic import synthetic
from tests.launchers.running import loaded, podium


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
        ["gc"],
        ["doctor", "--help"],
    ],
    ids=" ".join,
)
def test_quick_commands_load_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    synthetic(tmp_path)
    run = podium(tmp_path, *arguments, probe=True)
    assert run.returncode == 0, run.stderr
    assert loaded(run) == []


@pytest.mark.slow
def test_the_probe_sees_what_is_loaded(tmp_path: Path) -> None:
    """The test above can fail: a command that needs Ray is seen to load it."""
    run = podium(tmp_path, "submit", "sweeps/quickstart.yaml", "pools=[h100]", probe=True)
    assert run.returncode == 2, "there is no such GPU here"
    assert "ray" in loaded(run)
