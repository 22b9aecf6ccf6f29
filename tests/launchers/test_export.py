"""Where ``podium export`` puts bundles on this machine, that it never overwrites one, and what the ledger has of it."""

import json
import shutil
from pathlib import Path

import pytest

from launchers.bundles import exported, note_export
from sweeps.errors import InvalidInput
from tests.analysis.synthetic import synthetic, trial_id
from tests.launchers.running import Finished, podium
from tracking.ledger import Ledger, LedgerLocked, read


def test_a_champion_exported_by_hand_is_found_and_keeps_its_version(tmp_path: Path) -> None:
    state = synthetic(tmp_path)
    places = [tmp_path / "first", tmp_path / "second"]
    first, second = ({"to": str(one), "folder": str(one), "trial": trial_id(3), "merged": False} for one in places)
    note_export(state, first)
    with Ledger(state.folder) as ledger:
        ledger.append("export", export={**first, "registered": 4})
    with pytest.raises(InvalidInput, match=r"not exported on this machine .*`podium export shop` makes a bundle"):
        exported(read(state.folder))
    for place in places:
        place.mkdir()
    note_export(read(state.folder), second)
    state = read(state.folder)
    assert exported(state) == places[1]
    assert [one["registered"] for one in state.exports] == [None, 4, 4]
    note_export(state, second)
    assert read(state.folder).exports == state.exports, "the same bundle is noted once"
    shutil.rmtree(places[1])
    assert exported(state) == places[0]


def test_while_the_sweep_runs_nothing_is_noted(tmp_path: Path) -> None:
    state = synthetic(tmp_path)
    with Ledger(state.folder), pytest.raises(LedgerLocked):
        note_export(state, {"to": "x", "folder": "x", "trial": trial_id(3)})
    assert read(state.folder).exports == []


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
    exports = read(finished.state.folder).exports
    assert (exports[-1]["to"], exports[-1]["trial"]) == (str(tmp_path / "out"), champion["champion"])
    assert exports[-1]["registered"] == exports[0]["registered"]
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
