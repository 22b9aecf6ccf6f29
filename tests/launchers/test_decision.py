"""Whole sweeps from the first item to the decision: more items for the best, a frozen rule, a set that is read once."""

import json
from pathlib import Path

import pytest

from tests.launchers.running import podium
from tracking.ledger import read

METRIC = """\
def score(row, answer):
    return {"score": 5.0 if "category" in answer else 0.0}

def constant(row, answer):
    return {"score": 3.0}
"""
SWEEP = """\
name: decided
recipe: tiny_commerce_sft
set: {{train.max_steps: 12, train.validate_every: 6, train.validation_rows: 8, generate.max_new_tokens: 8}}
space:
  lora.rank: choice(4, 8, 16)
  optimizer.lr: choice(0.01)
search: {{algorithm: grid, start_at: null}}
evaluate: {{metrics: ["metric.py:{metric}"], dev: 6, challenge: 24, latency: {{top: 0}}}}
champion: {{maximize: quality/score, contenders: {{start: 2, items: 12}}, confirm: {{top: 2}}}}
"""


def write(folder: Path, metric: str) -> Path:
    (folder / "metric.py").write_text(METRIC)
    path = folder / "decided.yaml"
    path.write_text(SWEEP.format(metric=metric))
    return path


def events(home: Path) -> list[dict[str, object]]:
    lines = (home / "runs" / "decided" / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_the_best_are_judged_on_more_items_and_confirmed_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    sweep = write(tmp_path, "score")
    done = podium(home, "submit", str(sweep))
    assert done.returncode == 0, done.stderr
    state = read(home / "runs" / "decided")
    num_items = sorted(one.n for trial in state.trials.values() for one in trial.evaluations if one.split == "dev")
    assert num_items == [6, 12, 12]
    kinds = [event["event"] for event in events(home)]
    frozen = kinds.index("challenge")
    read_there = [place for place, event in enumerate(events(home)) if event.get("split") == "challenge"]
    assert frozen < min(read_there)  # the rule, before anything that it is about
    assert state.champion is not None
    assert state.champion["outcome"]["kind"] in ("champion", "tie")
    assert {one["first"] for one in state.champion["outcome"]["promotion"]} == {state.champion["champion"]}
    assert state.champion["dev_score"]["corrected"] <= state.champion["dev_score"]["mean"]
    certificate = json.loads((home / "champions" / "decided" / "champion.json").read_text())
    assert certificate["outcome"]["rule"]["references"] == ["base"]
    assert [one["read"] for one in certificate["challenge_reads"]] == [1]

    again = podium(home, "submit", str(sweep), "evaluate.latency.requests=7")  # another version, the same answers
    assert again.returncode == 0, again.stderr
    assert [event["event"] for event in events(home)].count("challenge") == 1


@pytest.mark.slow
def test_who_is_no_better_than_the_base_is_no_champion(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = podium(home, "submit", str(write(tmp_path, "constant")), "champion.contenders=null")
    assert done.returncode == 6, done.stderr
    assert "Nobody is promoted" in done.stderr
    assert not (home / "champions").exists()
    shown = podium(home, "champion", "-o", "json")
    assert shown.returncode == 6
    assert json.loads(shown.stdout)["kind"] == "none"
    taken = podium(home, "export", "--trial", "0", "--to", str(tmp_path / "taken"))
    assert taken.returncode == 0, taken.stderr
