"""The best trials answered in the other way too: in the report, with the difference item by item."""

import json
from pathlib import Path

import pytest

from analysis.champion import choose
from analysis.claims import check_page
from analysis.report import render
from analysis.ways import in_words, other_ways
from tests.analysis.synthetic import synthetic, trial_id
from tracking.ledger import Ledger, SweepState
from tracking.state import GUIDED

N = 48


def answered(home: Path, gain: float) -> SweepState:
    """A sweep whose trial 3 was answered guided as well, and was better by ``gain`` in every second item."""
    state = synthetic(home)
    trial = trial_id(3)
    for name, more in (("items", 0.0), ("guided", gain)):
        path = state.folder / "trials" / trial / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = ({"id": f"i{n}", "metrics": {"quality/score": 3.0 + more * (n % 2)}} for n in range(N))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Ledger(state.folder) as ledger:
        fields = {"split": "dev", "n": N, "metrics": {"quality/score": 3.0 + gain / 2}}
        items = f"trials/{trial}/guided.jsonl"
        ledger.append("evaluation", id="guided", arm=f"{trial}{GUIDED}", items=items, **fields)
        return ledger.read()


@pytest.mark.parametrize("gain", [0.5, 0.0])
def test_the_report_has_the_difference(tmp_path: Path, gain: float) -> None:
    state = answered(tmp_path, gain)
    [way] = other_ways(state)
    page = render(state, choose(state))
    assert check_page(page) == []
    section = page[page.index('id="ways"') :].split("</section>")[0]
    assert f"Trial {state.trials[trial_id(3)].number}, guided by the schema" in section
    assert way.difference is not None
    assert way.difference in section
    assert way.difference in in_words(state)[0]
    if gain:
        assert way.difference.startswith("+0.1"), "above 0, and below the mean of 0.25"
    else:
        assert way.difference == "0 to 0", "no answer was scored otherwise"


def test_a_sweep_that_answered_in_one_way_has_no_section(tmp_path: Path) -> None:
    state = synthetic(tmp_path)
    assert 'id="ways"' not in render(state, choose(state))
