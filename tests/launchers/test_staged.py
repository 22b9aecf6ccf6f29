"""A sweep in two stages, run as a user runs it: nothing is done twice, nothing is lost, and the start competes."""

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from launchers.answerers import opened
from launchers.serving.bundle import opened as opened_bundle
from tests.chaos.kills import Moment, podium_dying, wait_until
from tests.launchers.running import ROOT, command, environment, podium
from tracking.ledger import State, SweepState, read

SFT_TRIALS, MORE_TRIALS = 3, 2
METRIC = """\
from os.path import commonprefix
def begins(row, answer):
    right = str(row["reference"])[:24]
    return {"prefix": len(commonprefix([answer, right])) / len(right)}
"""
STAGED = {
    "name": "staged",
    "stages": [
        {
            "name": "sft",
            "recipe": "tiny_commerce_sft",
            "set": {
                "train.max_steps": 9,
                "train.validate_every": 3,
                "train.validation_rows": 8,
                "generate.max_new_tokens": 8,
            },
            "space": {"optimizer.lr": "loguniform(5e-3, 2e-2)", "lora.rank": "choice(4, 8)"},
            "search": {"trials": SFT_TRIALS, "seed": 0},
        },
        {
            "name": "more",
            "recipe": "tiny_commerce_sft",
            "set": {
                "train.max_steps": 6,
                "train.validate_every": 3,
                "train.validation_rows": 8,
                "generate.max_new_tokens": 8,
            },
            "space": {"optimizer.lr": "loguniform(1e-4, 2e-3)"},
            "search": {"trials": MORE_TRIALS, "seed": 0},
        },
    ],
    "evaluate": {
        "metrics": ["begins.py:begins"],
        "dev": 8,
        "challenge": 24,
        "latency": {"top": 0},
        "defects": None,
    },
    "champion": {"maximize": "quality/prefix"},
}
NESTED = Path("runs/staged/stages/sft")
LAST = Path("runs/staged")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "begins.py").write_text(METRIC)
    path = folder / "staged.yaml"
    path.write_text(yaml.safe_dump({**STAGED, **changes}, sort_keys=False))
    return path


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def trained(folder: Path) -> Counter[tuple[str, int]]:
    """How often each trial reported each step, in all sessions."""
    return Counter((event["trial"], event["step"]) for event in events(folder) if event["event"] == "report")


def submitted(home: Path, path: Path, *changes: str, code: int = 0) -> str:
    run = podium(home, "submit", str(path), *changes)
    assert "Traceback" not in run.stderr, run.stderr
    assert run.returncode == code, run.stderr
    return run.stdout + run.stderr


def check_whole(
    home: Path, sft: int = SFT_TRIALS, more: int = MORE_TRIALS, resumed: bool = False
) -> tuple[SweepState, SweepState]:
    """Both stages have come to their end with as many trials as were asked for.

    A trial that was resumed reports the step of its checkpoint once more.
    """
    first, last = read(home / NESTED), read(home / LAST)
    for state, number in ((first, sft), (last, more)):
        assert state.status == "DONE", state.reason
        assert len(state.drawn) == number
        assert {trial.state for trial in state.trials.values()} == {State.DONE}
        assert max(trained(state.folder).values()) <= (2 if resumed else 1)
    return first, last


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in two stages that nothing disturbed."""
    folder = tmp_path_factory.mktemp("staged")
    told = submitted(folder, write(folder))
    assert "stage 1 of 2: sft" in told
    assert "stage 2 of 2: more, from trial" in told
    (folder / "told").write_text(told)
    return folder


def test_the_challenge_set_is_read_in_the_last_stage_alone(home: Path) -> None:
    first, last = check_whole(home)
    assert first.challenge_reads == []
    assert first.exports == []
    assert not any(one.split == "challenge" for one in first.evaluations())
    assert len(last.challenge_reads) == 1
    start = next(iter(last.starts))
    assert {"base", start} <= set(last.challenge_reads[0]["arms"]), "the base and the champion of the stage before"
    assert start in last.challenge_reads[0]["rule"]["contenders"]


def test_the_start_is_there_already_and_competes(home: Path) -> None:
    first, last = read(home / NESTED), read(home / LAST)
    assert first.champion is not None
    start = last.trials[first.champion["champion"]]
    assert start.stage == "sft"
    assert start.state is State.DONE
    assert start.adapter is not None
    assert (last.folder / start.adapter / "adapter_model.safetensors").is_file()
    assert not any(event["event"] == "report" and event["trial"] == start.id for event in events(last.folder))
    dev = [event for event in events(last.folder) if event["event"] == "evaluation" and event["split"] == "dev"]
    mine = [event for event in dev if event["arm"] == start.id]
    assert len(mine) == 1, "its answers are taken over and not asked for again"
    assert mine[0]["id"] in {one.id for one in first.trials[start.id].evaluations}
    assert not any(entry.trial == start.id and entry.what == "dev" for entry in last.costs)
    run = podium(home, "leaderboard", "staged", "-o", "json")
    board = json.loads(run.stdout)["stages"]["more"]["rows"]
    assert {row["stage"] for row in board} == {"sft", "more"}
    row = next(row for row in board if row["id"] == start.id)
    assert row["number"] == start.stage_number
    assert row["cost/usd"] == pytest.approx(start.spent["cost/usd"])


def test_the_others_go_on_from_its_adapter(home: Path) -> None:
    last = read(home / LAST)
    start = next(iter(last.starts.values()))
    for trial in last.drawn.values():
        settings = yaml.safe_load((last.folder / "trials" / trial.id / "trial.yaml").read_text())
        assert Path(settings["start"]["adapter"]) == (last.folder / str(start.adapter)).resolve()
        assert settings["lora"]["rank"] == start.values["lora.rank"]


def test_the_certificate_has_the_lineage_and_the_bundle_is_verified(home: Path) -> None:
    last = read(home / LAST)
    proof = json.loads((last.folder / "champion.json").read_text())
    stages = [entry["stage"] for entry in proof["lineage"]]
    assert stages[0] == "sft"
    assert proof["lineage"][-1]["trial"] == proof["trial"]["id"]
    assert proof["lineage"][0]["trial"] == next(iter(last.starts))
    assert any("from which more started" in sentence for sentence in proof["why"])
    assert [step["label"].partition(" ")[0] for step in proof["steps"]][:2] == ["base", "sft"]
    run = podium(home, "verify", str(home / "champions" / "staged"), "-o", "json")
    assert run.returncode == 0, run.stderr
    checks = {check["check"]: check["ok"] for check in json.loads(run.stdout)["checks"]}
    assert checks["lineage"] is True
    assert checks["adapter"] is True


def test_a_changed_lineage_is_found(home: Path, tmp_path: Path) -> None:
    import shutil

    from analysis import manifest

    bundle = shutil.copytree(home / "champions" / "staged", tmp_path / "bundle")
    proof = json.loads((bundle / "champion.json").read_text())
    proof["lineage"][-1]["adapter_sha256"] = "0" * 64
    (bundle / "champion.json").write_text(json.dumps(proof))
    manifest.write(bundle)
    run = podium(home, "verify", str(bundle))
    assert run.returncode == 7
    assert "lineage: it ends with the adapter 000000000000…, but the bundle holds" in run.stderr


def test_the_end_says_what_each_stage_was_worth(home: Path) -> None:
    told = (home / "told").read_text()
    assert "on the challenge set (24 rows), each against the one before it:" in told
    assert "  base: " in told
    assert "  sft champion, trial " in told


def test_commands_know_the_stages(home: Path) -> None:
    whole = json.loads(podium(home, "status", "-o", "json").stdout)
    assert [stage["stage"] for stage in whole["stages"]] == ["sft", "more"]
    assert len(whole["trials"]) == SFT_TRIALS + MORE_TRIALS
    assert whole["usd"] == pytest.approx(sum(stage["usd"] for stage in whole["stages"]))
    one = json.loads(podium(home, "status", "staged/sft", "-o", "json").stdout)
    assert one["num_trials"] == SFT_TRIALS
    for arguments in (("compare",), ("cost",), ("logs",), ("report",), ("doctor", "staged"), ("gc", "staged")):
        run = podium(home, *arguments)
        assert run.returncode == 0, (arguments, run.stdout, run.stderr)
    costs = json.loads(podium(home, "cost", "-o", "json").stdout)
    assert set(costs["stages"]) == {"staged/sft", "staged"}
    assert podium(home, "status", "staged/mroe").returncode == 2
    assert "is done" in podium(home, "pause", "staged").stderr


def test_adapters_that_a_stage_starts_from_are_never_freed(home: Path) -> None:
    from launchers.disk import survey

    last = read(home / LAST)
    freed = {path for usage in survey(home, adapters=True) for path in usage.free}
    for start in last.starts.values():
        assert (last.folder / str(start.adapter)).resolve() not in freed


def test_a_second_submit_runs_nothing_and_a_changed_last_stage_only_itself(home: Path) -> None:
    before = {folder: len(events(home / folder)) for folder in (NESTED, LAST)}
    told = submitted(home, home / "staged.yaml")
    assert told.count("is finished and unchanged: nothing is left to run") == 2
    told = submitted(home, home / "staged.yaml", "stages.more.space.optimizer.lr=loguniform(2e-4, 2e-3)")
    assert "sweep staged/sft is finished and unchanged" in told
    assert len(events(home / NESTED)) == before[NESTED], "nothing of the stage before was done again"
    assert len(events(home / LAST)) > before[LAST]
    last = read(home / LAST)
    assert last.version == 2
    assert len(last.starts) == 1
    assert last.status == "DONE"


@pytest.mark.parametrize("name", ["staged", "staged/sft"])
def test_everything_that_is_kept_of_either_stage_agrees(name: str, home: Path) -> None:
    run = podium(home, "doctor", name)
    assert run.returncode == 0, run.stdout
    assert " failed" not in run.stdout


def test_a_stage_by_its_name_answers_and_is_exported(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its champion can draw the pairs that a later stage learns from, and be served beside the last one's."""
    first = read(home / NESTED)
    assert first.champion is not None
    monkeypatch.setenv("PODIUM_HOME", str(home))
    with opened("staged/sft") as answerer:
        assert answerer.adapter == first.folder / "trials" / first.champion["champion"] / "adapter"
    run = podium(home, "export", "staged/sft")
    assert run.returncode == 0, run.stderr
    with opened_bundle("staged/sft") as bundle:
        assert str(bundle.folder) == run.stdout.strip()
        assert bundle.proof["trial"]["id"] == first.champion["champion"]
    missing = podium(home, "serve", "staged/none")
    assert missing.returncode == 2
    assert 'staged has no stage "none"' in missing.stderr


@pytest.mark.parametrize(
    "moment",
    [
        Moment("in the first stage", "report", nth=4),
        Moment("with the first stage decided", "end", "before"),
        Moment("with the start entering", "start", "before"),
        Moment("with the start entered", "start"),
        Moment("in the last stage", "report", nth=SFT_TRIALS * 3 + 2),
        Moment("with the challenge set open", "challenge"),
    ],
    ids=lambda moment: moment.name,
)
def test_killed_in_either_stage_it_loses_nothing(tmp_path: Path, home: Path, moment: Moment) -> None:
    dead = podium_dying(tmp_path, moment, "submit", str(write(tmp_path)))
    assert dead.returncode == -9, dead.stderr
    run = podium(tmp_path, "resume", "staged")
    assert run.returncode == 0, run.stderr
    first, last = check_whole(tmp_path, resumed=True)
    same_first, same_last = read(home / NESTED), read(home / LAST)
    assert set(first.trials) == set(same_first.trials)
    assert set(last.trials) >= set(last.starts)
    assert next(iter(last.starts)) == next(iter(same_last.starts))
    # A set that was open when the driver died is read again, and the ledger says so.
    assert len(last.challenge_reads) == (2 if moment.event == "challenge" else 1)


def test_a_second_submit_follows_and_a_stop_lets_the_rest_train_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, champion={"minimize": "val/loss"})  # however little was trained
    sweep = yaml.safe_load(path.read_text())
    sweep["stages"][0]["set"]["train.max_steps"] = 3000  # it still trains, however late the stop comes
    path.write_text(yaml.safe_dump(sweep, sort_keys=False))
    with (tmp_path / "first.log").open("wb") as log:
        first = subprocess.Popen(
            command("submit", str(path)), cwd=ROOT, env=environment(tmp_path), stdout=log, stderr=log
        )
        try:
            ledger = tmp_path / NESTED / "ledger.jsonl"
            wait_until(lambda: ledger.exists() and '"event": "report"' in ledger.read_text(), 200, "a report")
            changed = podium(tmp_path, "submit", str(path), "stages.more.search.trials=9")
            assert changed.returncode == 2
            assert "this sweep is running, and the YAML is another: stages" in changed.stderr
            second = subprocess.Popen(
                command("submit", str(path)), cwd=ROOT, env=environment(tmp_path), stderr=subprocess.PIPE, text=True
            )
            assert "asked staged/sft to stop" in podium(tmp_path, "stop", "staged").stderr
            assert first.wait(timeout=300) == 0
            _, told = second.communicate(timeout=120)
        finally:
            first.kill()
    assert second.returncode == 0, told
    assert "another process is running staged: following it" in told
    one, last = read(tmp_path / NESTED), read(tmp_path / LAST)
    assert one.champion is not None
    assert last.drawn == {}
    assert list(last.starts) == [one.champion["champion"]]
    assert (one.status, last.status) == ("STOPPED", "STOPPED")
    assert len(one.sessions) == len(last.sessions) == 1, "who follows runs nothing"


def test_several_starts_are_swept_and_all_compete_wherever_the_home_is_moved(tmp_path: Path) -> None:
    path, home, elsewhere = write(tmp_path), tmp_path / "home", tmp_path / "elsewhere"
    changes = ("stages.more.start.top=2", "stages.more.search.trials=3")
    submitted(home, path, *changes)
    first, last = check_whole(home, more=3)
    assert len(last.starts) == 2
    assert set(last.starts) <= set(first.trials)
    used = {Path(trial.values["start.adapter"]).parent.name for trial in last.drawn.values()}
    assert used <= set(last.starts)
    home.rename(elsewhere)
    before = trained(elsewhere / LAST)
    submitted(elsewhere, path, *changes)
    assert trained(elsewhere / LAST) == before
    _, moved = check_whole(elsewhere, more=3)
    assert moved.champion is not None
    assert last.champion is not None
    assert moved.champion["champion"] == last.champion["champion"]


def test_a_stage_without_a_champion_ends_the_sweep(tmp_path: Path) -> None:
    path = write(tmp_path, champion={"maximize": "quality/prefix", "subject_to": {"val/loss": "< 0.001"}})
    told = submitted(tmp_path, path, code=6)
    assert "the stage sft chose no champion, so more has nothing to start from" in told
    assert not (tmp_path / LAST / "ledger.jsonl").exists()
    shown = json.loads(podium(tmp_path, "status", "staged", "-o", "json").stdout)
    assert [stage["status"] for stage in shown["stages"]] == ["DONE", "WAITING"]


def test_a_budget_that_the_first_stage_spends_leaves_its_champion(tmp_path: Path) -> None:
    """Nothing more is trained, and what the budget has paid for is confirmed and exported."""
    path = write(tmp_path, champion={"minimize": "val/loss"})
    # Half a minute of a core: enough for some reports on any machine, and for 4,000 steps on none.
    told = submitted(tmp_path, path, "stages.sft.set.train.max_steps=4000", "budget.usd=0.0004", code=4)
    assert "budget.usd" in told
    first, last = read(tmp_path / NESTED), read(tmp_path / LAST)
    assert (first.status, last.status) == ("BUDGET", "BUDGET")
    assert last.drawn == {}
    assert first.champion is not None
    assert last.champion is not None
    assert last.champion["champion"] == first.champion["champion"]
    assert "stays champion: no trial of more is chosen over it" in told
    assert last.exports[-1]["trial"] == first.champion["champion"]
