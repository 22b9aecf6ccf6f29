"""Where ``podium export`` puts bundles on this machine, and that it never overwrites one."""

import json
from pathlib import Path

import pytest

from tests.launchers.running import Finished, podium


@pytest.mark.slow
def test_another_trial_goes_beside_the_champion(finished: Finished) -> None:
    champion = finished.state.champion
    assert champion is not None
    certificate = finished.home / "runs" / "small" / "champion.json"
    before = certificate.read_bytes()
    run = podium(finished.home, "export", "small", "--trial", champion["ranking"][1])
    assert run.returncode == 0, run.stderr
    made = Path(run.stdout.strip())
    assert made.parent == finished.home / "champions"
    assert made.name.startswith("small-")
    assert f"{finished.home / 'champions' / 'small'} holds something else, so the bundle is in {made}" in run.stderr
    assert json.loads((made / "champion.json").read_text())["trial"]["id"] == champion["ranking"][1]
    assert certificate.read_bytes() == before, "the run folder's certificate is the champion's"
    again = podium(finished.home, "export", "small", "--trial", champion["ranking"][1])
    assert again.stdout == run.stdout, "the same bundle is made once"


@pytest.mark.slow
def test_a_place_that_is_named_is_taken_or_refused(finished: Finished, tmp_path: Path) -> None:
    champion = finished.state.champion
    assert champion is not None
    run = podium(finished.home, "export", "small", "--to", str(tmp_path / "out"), "--keep", "1")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(tmp_path / "out")
    kept = tmp_path / "out-checkpoints" / champion["ranking"][1]
    assert podium(finished.home, "verify", str(kept)).returncode == 0
    before = (tmp_path / "out" / "champion.json").read_bytes()
    other = podium(finished.home, "export", "small", "--to", str(tmp_path / "out"), "--trial", champion["ranking"][2])
    assert other.returncode == 2
    assert "holds another bundle" in other.stderr
    assert (tmp_path / "out" / "champion.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-checkpoints"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("")
    foreign = podium(finished.home, "export", "small", "--to", str(tmp_path / "thesis"))
    assert foreign.returncode == 2
    assert "is there and is no bundle" in foreign.stderr
