"""The README's first own sweep, as it stands there: own rows, then an own metric and a judge beside it."""

import json
import re
from pathlib import Path

import pytest

from tests.launchers.running import ROOT, podium
from tests.tracking.meters.judge.serving import Endpoint, verdict
from tracking.ledger import read

SMALL = ["search.trials=2", "set.train.max_steps=6", "set.train.validate_every=3", "set.generate.max_new_tokens=16"]
METRIC = """\
def names_the_order(row, answer):
    return {"score": 5.0 if str(row["order"]) in answer else 0.0, "words": float(len(answer.split()))}
"""


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """``orders.yaml`` from the README, with the rows that it needs."""
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```yaml\n(name: orders\n.*?)```", readme, re.DOTALL)
    assert len(blocks) == 1, "the README shows one first own sweep"
    (tmp_path / "orders.yaml").write_text(blocks[0])
    intents = ("delivery", "refund", "return")
    rows = [
        {
            "prompt": f"Is order {number} late? It is about a {intents[number % 3]}.",
            "completion": {"intent": intents[number % 3], "order": number},
            "order": number,
        }
        for number in range(1000, 1300)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "orders.yaml"


@pytest.mark.slow
def test_the_readmes_sweep_runs_as_it_stands(orders: Path, tmp_path: Path) -> None:
    run = podium(tmp_path / "home", "submit", str(orders), *SMALL)
    assert run.returncode == 6, run.stderr  # so few steps teach nothing that the base does not know, and it says so
    assert "Nobody is promoted" in run.stderr
    state = read(tmp_path / "home" / "runs" / "orders")
    assert state.champion is not None
    assert state.champion["rule"]["metric"] == "quality/field_f1"
    assert {row["n"] for row in json.loads(podium(tmp_path / "home", "compare", "-o", "json").stdout)["arms"]} >= {20}


@pytest.mark.slow
def test_an_own_metric_and_a_judge(orders: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METRIC)
    endpoint = Endpoint(lambda body: verdict(3))
    try:
        run = podium(
            tmp_path / "home",
            "submit",
            str(orders),
            *SMALL,
            "evaluate.metrics=[mine.py:names_the_order]",
            f"evaluate.judge={{model: tiny, endpoint: '{endpoint.url}', rubric: 'Five if it helps.'}}",
            "champion={maximize: quality/score, subject_to: {quality/words: '>= 0'}, confirm: {top: 0}}",
        )
    finally:
        endpoint.close()
    assert run.returncode == 0, run.stderr
    state = read(tmp_path / "home" / "runs" / "orders")
    for trial in state.trials.values():
        assert trial.metrics["quality/score"] == 3.0, "the judge's verdict counts"
        assert "quality/rubric_score" in trial.metrics, "the code's score stands beside it"
        assert "quality/words" in trial.metrics
    assert any("Five if it helps." in json.dumps(request["messages"]) for request in endpoint.requests)


@pytest.mark.slow
def test_a_budget_stops_the_sweep_and_a_champion_is_chosen_from_what_there_is(orders: Path, tmp_path: Path) -> None:
    run = podium(
        tmp_path / "home",
        "submit",
        str(orders),
        *SMALL[1:],
        "search.trials=300",
        "champion.confirm.top=0",  # so little training is no better than the base
        "budget.wall_clock=45s",
        timeout_s=280,
    )
    assert run.returncode == 4, run.stderr
    state = read(tmp_path / "home" / "runs" / "orders")
    assert state.status == "BUDGET"
    assert "budget.wall_clock" in (state.reason or "")
    assert len(state.trials) < 300
