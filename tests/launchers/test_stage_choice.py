"""Commands that take a sweep's YAML, given one with stages: all of them, or the one that ``--stage`` names."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.forked import Forks
from tests.launchers.running import ROOT, loaded, podium

SHIPPED = (ROOT / "sweeps/quickstart_sft_dpo.yaml").read_text()
FEW = ("--batch-size", "64")  # is quicker


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as running:
        yield running


@dataclass(frozen=True)
class User:
    """Somebody with the demo's sweep in stages, of fewer rows, in a folder."""

    folder: Path
    forks: Forks

    @property
    def sweep(self) -> str:
        return str(self.folder / "quickstart_sft_dpo.yaml")

    def runs(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.forks.podium(self.folder / "home", *arguments)
        assert done.returncode == code, done.stderr
        return done

    def reads(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.runs(*arguments, "-o", "json", code=code).stdout)

    def tabulates(self, *arguments: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.runs(*arguments, "-o", "csv").stdout)))


@pytest.fixture
def user(tmp_path: Path, forks: Forks) -> User:
    found = User(tmp_path, forks)
    Path(found.sweep).write_text(SHIPPED.replace("set: {", "set: {data.rows: 240, "))
    return found


def test_a_plan_of_one_stage_is_its_part_of_the_plan_of_all(user: User) -> None:
    whole = user.reads("plan", user.sweep)
    assert list(whole["stages"]) == ["sft", "dpo"]
    for stage, part in whole["stages"].items():
        assert user.reads("plan", user.sweep, "--stage", stage) == part
    lines = user.tabulates("plan", user.sweep)
    assert [line["stage"] for line in lines[::5]] == ["sft", "dpo"]
    assert [line["id"] for line in user.tabulates("plan", user.sweep, "--stage", "sft")] == [
        line["id"] for line in lines if line["stage"] == "sft"
    ]


def test_the_table_of_a_stage_says_what_it_starts_from(user: User) -> None:
    table = podium(user.folder, "plan", user.sweep, "--stage", "dpo", probe=True)
    assert loaded(table) == []
    assert table.stdout.startswith("quickstart-sft-dpo, stage dpo: 8 trials")
    assert "dpo starts from the champion of sft, which is not known yet" in table.stderr
    assert "all 2 stages" not in table.stderr


def test_changes_are_of_the_whole_sweep_when_one_stage_is_planned(user: User) -> None:
    made = user.reads("plan", user.sweep, "stages.sft.search.trials=3", "--stage", "sft")
    assert made["num_trials"] == 3


def test_the_yaml_of_a_trial_is_that_of_the_stage_that_is_named(user: User) -> None:
    shown = user.runs("plan", user.sweep, "--stage", "sft", "--trial", "2").stdout
    second = user.reads("plan", user.sweep, "--stage", "sft")["trials"][2]
    assert shown.startswith(f"# trial 2, id {second['id']}\n")
    assert f"dim: {second['values']['lora.rank']}\n" in shown


def test_the_yaml_of_a_trial_that_nemo_does_not_train_is_refused(user: User) -> None:
    told = user.runs("plan", user.sweep, "--stage", "dpo", "--trial", "0", code=2).stderr
    assert "nemo trains fresh adapters by method sft, and not by dpo" in told


def test_the_rows_of_every_stage_are_counted(user: User) -> None:
    every = user.reads("data", "stats", user.sweep, *FEW)["stages"]
    assert {name: one["source"] for name, one in every.items()} == {
        stage: f"quickstart-sft-dpo/{stage}, training rows" for stage in ("sft", "dpo")
    }
    pairs = "of preference pairs, prompts with the preferred answers are counted; rejected ones come on top"
    assert [pairs in one["notes"] for one in every.values()] == [False, True]
    lines = user.tabulates("data", "stats", user.sweep, *FEW)
    assert [line["stage"] for line in lines] == ["sft"] * 5 + ["dpo"] * 5


def test_the_rows_of_the_stage_that_is_named_are_counted(user: User) -> None:
    assert user.reads("data", "stats", user.sweep, *FEW, "--stage", "dpo")["source"].startswith(
        "quickstart-sft-dpo/dpo"
    )


def test_the_rows_of_every_stage_are_checked(user: User) -> None:
    shown = user.runs("data", "check", user.sweep)
    for title in ("sft: builtin commerce", "dpo: builtin commerce_pairs"):
        assert f"{title}  " in shown.stdout
    verdicts = [line.partition(": look")[0] for line in shown.stderr.splitlines()]
    assert verdicts == ["sft: no error stands", "dpo: no error stands"]
    assert list(user.reads("data", "check", user.sweep, "--stage", "dpo")["forms"]) == ["preference pairs"]


def test_an_error_in_the_rows_of_one_stage_is_an_error(user: User) -> None:
    (user.folder / "short.yaml").write_text("defaults: [tiny_commerce_dpo, _self_]\ndata: {max_tokens: 300}\n")
    path = Path(user.sweep)
    path.write_text(path.read_text().replace("recipe: tiny_commerce_dpo", "recipe: ./short.yaml"))
    found = user.reads("data", "check", user.sweep, code=2)["stages"]
    assert {stage: one["is_usable"] for stage, one in found.items()} == {"sft": True, "dpo": False}


def test_the_rows_of_the_stage_that_is_named_are_split(user: User) -> None:
    splits = user.folder / "splits"
    user.runs("data", "split", user.sweep, "--stage", "dpo", "--to", str(splits))
    assert "rejected" in json.loads((splits / "train.jsonl").read_text().splitlines()[0])


def test_what_a_sweep_in_stages_holds_out_are_the_rows_that_all_are_judged_on(user: User) -> None:
    """The first stage's, which are also there as a sweep of their own."""
    plain = user.folder / "plain.yaml"
    plain.write_text((ROOT / "sweeps/quickstart.yaml").read_text().replace("set: {", "set: {data.rows: 240, "))
    counts = []
    for held_out in (user.sweep, str(plain)):
        seen = user.reads("data", "check", str(plain), "--held-out", held_out, code=2)
        counts.append([one["count"] for one in seen["findings"] if one["name"] == "held out"])
    assert counts[0] == counts[1]
    assert len(counts[0]) == 2


def test_a_yaml_where_a_name_is_meant_is_told_apart(user: User) -> None:
    told = user.runs("status", user.sweep, code=2).stderr
    assert "a sweep that was started goes by the `name` in its YAML" in told
