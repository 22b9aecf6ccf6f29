"""Bad input through the installed command itself; ``test_errors.py`` goes through every kind of it."""

import json
from pathlib import Path

import pytest

from tests.launchers.running import podium, write_sweep

BROKEN = """\
name: broken sweep
recipe: tiny_commerce_sft
set: {train.max_stepz: 600, lora.rank: 0}
pools: [cpu, h200]
space:
  optimizer.name: choice(adam, adamv)
  optimizer.lr: loguniform(1e-3, 1e-5)
  optimizer.weigth_decay: choice(0.0, 0.01)
  lora.dropout: {when: optimizer.nam == adamw, value: uniform(0, 0.1)}
serach: {trials: 20}
search: {algorithm: tpee, trials: -3}
champion: {maximize: quality/scoer}
"""


def test_every_problem_is_told_at_once_with_line_rule_and_nearest_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(BROKEN)
    run = podium(tmp_path, "plan", str(path))
    assert run.returncode == 2
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    lines = {
        line.strip().split(":", 1)[0]: line.strip() for line in run.stderr.splitlines() if line.startswith("  line")
    }
    told = run.stderr
    for line, words in {
        1: ["name", '"broken sweep"'],
        3: ["train.max_stepz", 'did you mean "train.max_steps"?'],
        4: ["h200", 'did you mean "h100"?'],
        6: ["adamv", "adamw"],
        7: ["optimizer.lr", "0.001", "1e-05"],
        8: ["optimizer.weigth_decay", 'did you mean "optimizer.weight_decay"?'],
        9: ["optimizer.nam", "optimizer.name"],
        10: ["serach", 'did you mean "search"?'],
        11: ["tpee", "tpe"],
        12: ["quality/scoer", "quality/score"],
    }.items():
        assert f"line {line}" in lines, told
        of_line = "\n".join(text for text in told.splitlines() if text.strip().startswith(f"line {line}:"))
        for word in words:
            assert word in of_line, of_line
    assert "lora.rank" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "nowhere.yaml"], ["nowhere.yaml"]),
        (["plan", "SWEEP", "search.trails=3"], ["search.trails", 'did you mean "trials"?']),
        (["plan", "SWEEP", "set.base.path=/nowhere/at/all"], ["/nowhere/at/all", "no such folder"]),
        (["status", "nothing-here"], ["nothing-here"]),
        (["verify", "no-such-bundle"], ["no such folder"]),
        (["dashboard"], ["no sweep was run"]),
    ],
    ids=lambda value: (
        " ".join(value) if value and value[0] in ("plan", "submit", "status", "verify", "dashboard") else ""
    ),
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    sweep = write_sweep(tmp_path)
    run = podium(tmp_path / "home", *(str(sweep) if argument == "SWEEP" else argument for argument in arguments))
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in run.stderr, run.stderr


def test_plan_as_json_stands_alone_on_stdout(tmp_path: Path) -> None:
    run = podium(tmp_path, "plan", "sweeps/commerce_sft.yaml", "-o", "json")
    assert run.returncode == 0, run.stderr
    plan = json.loads(run.stdout)
    assert plan["num_trials"] == 20
    assert plan["gpu_hours"] > 0
    assert plan["usd"] > 0
    assert not list(tmp_path.iterdir()), "a plan starts and writes nothing"
