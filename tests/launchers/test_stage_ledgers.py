"""What stages leave in ledgers, without training anything: starts that take part, budgets, names, what gc keeps."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from analysis.champion import choose, default_trial, median_trial
from analysis.confirmation import frozen_rule, outcome_of
from analysis.frame import frame, list_sweeps, open_sweep, swept_keys
from analysis.leaderboard import leaderboard
from analysis.plain import plain
from analysis.rule import Rule, losses_compare
from analysis.stages import lineage, stages_of, steps
from launchers.budget import Spending
from launchers.commands.follow import logs
from launchers.commands.look import summary_of
from launchers.completion import sweep_names
from launchers.disk import survey
from launchers.halt import Halt
from launchers.place import Place, StartTrial
from launchers.serving.bundle import Bundle, trial_adapters
from launchers.staging import best_of
from launchers.starts import enter
from launchers.walk import whole_code
from recipes.compose import compose
from recipes.schema import Recipe
from sweeps.errors import InvalidInput
from sweeps.spec import Budget, Confirm
from tracking.ledger import FORMAT, Ledger, State, SweepState, read
from tracking.meters.cost import summary
from tracking.meters.judge.calibration import Label, match
from tracking.meters.judge.judged import Judged
from tracking.meters.judge.verdicts import Verdict
from tracking.mlflow_runs import child_runs
from tracking.state import meant

SFT, DPO = "aaaaaaaaaaaa", "dddddddddddd"
NAMES = ("sft", "dpo")


def facts(stage: str, **more: Any) -> dict[str, Any]:
    rows = {split: {"rows": 9, "sha256": split * 3, "path": f"/x/{split}.jsonl"} for split in ("train", "validation")}
    within: dict[str, Any] = {"sweep": "shop", "name": stage, "names": list(NAMES), "source": None, "budget": {}}
    told = {"stage": within, "data": rows, "data_identity": "d" * 64, "code_commit": "c" * 12, "overrides": []}
    return {**told, "default_trial": DPO, **more}


def begin(ledger: Ledger, name: str, stage: str, method: str = "sft") -> None:
    recipe = {"method": method, "train": {"validation_rows": 8}}
    spec = {
        "recipe": f"tiny_{stage}",
        "search": {"trials": 2, "seeds": 1, "start_at": "default"},
        "champion": {"maximize": "quality/score"},
        "evaluate": {"metrics": ["shopping"]},
        "pools": ["cpu"],
    }
    ledger.append("sweep", name=name, format=FORMAT, spec=spec, recipe=recipe, facts=facts(stage))
    ledger.append("begin", host="here", pid=1)


def trial(ledger: Ledger, key: str, number: int, score: float, usd: float = 0.25, lr: float = 1e-3) -> None:
    ledger.append("trial", trial=key, number=number, values={"optimizer.lr": lr}, pool="cpu", max_steps=4)
    ledger.append("report", trial=key, step=4, metrics={"val/loss": 1.0 + number})
    folder = ledger.folder / "trials" / key
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_model.safetensors").write_text(key)
    (folder / "trial.yaml").write_text("start: {adapter: null}\n")
    ledger.append("adapter", trial=key, folder=f"trials/{key}/adapter")
    ledger.append("cost", kind="training", pool="cpu", unit_s=usd * 3600, usd=usd, trial=key)
    answers = ledger.folder / "evaluations" / f"{key}-dev.jsonl"
    answers.parent.mkdir(exist_ok=True)
    answers.write_text(json.dumps({"id": "1", "metrics": {"quality/score": score}}) + "\n")
    evaluation = {"id": f"{key}-dev", "arm": key, "split": "dev", "n": 1, "metrics": {"quality/score": score}}
    ledger.append("evaluation", **evaluation, items=f"evaluations/{key}-dev.jsonl")
    ledger.append("state", trial=key, state="DONE")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stages that have ended: the first with two trials, the second with one and what it starts from."""
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path))
    whole = tmp_path / "runs" / "shop"
    (whole / "stages").mkdir(parents=True)
    kept = {"stages": list(NAMES), "values": {}, "overrides": [], "base_dir": "/x"}
    (whole / "stages" / "stages.json").write_text(json.dumps(kept))
    with Ledger(whole / "stages" / "sft") as ledger:
        begin(ledger, "shop/sft", "sft")
        trial(ledger, "bbbbbbbbbbbb", 0, 2.0)
        trial(ledger, SFT, 1, 3.0)
        ledger.append("evaluation", id="base-dev", arm="base", split="dev", n=1, metrics={"quality/score": 0.0})
        ledger.append("champion", champion={"champion": SFT, "rule": {"metric": "quality/score"}})
        ledger.append("end", status="DONE", code=0)
    return tmp_path


@pytest.fixture
def last(home: Path) -> Callable[..., SweepState]:
    """The second stage with a trial of this score."""

    def make(score: float = 3.0, method: str = "sft") -> SweepState:
        with Ledger(home / "runs" / "shop") as ledger:
            begin(ledger, "shop", "dpo", method)
            enter(ledger, place(home))
            trial(ledger, DPO, 0, score, usd=0.01)
            ledger.append("champion", champion={"champion": None, "rule": {"metric": "quality/score"}})
            ledger.append("end", status="DONE", code=0)
        return read(home / "runs" / "shop")

    return make


def place(home: Path, budget: Budget | None = None) -> Place:
    start = StartTrial("sft", home / "runs" / "shop" / "stages" / "sft", SFT)
    return Place("shop", "dpo", NAMES, budget or Budget(), {"builtin": None, "group": None}, None, "sft", (start,))


def test_a_start_takes_part_with_its_adapter_its_answers_and_its_cost(last: Callable[..., SweepState]) -> None:
    state = last()
    start = state.trials[SFT]
    assert (start.stage, start.stage_number, start.label) == ("sft", 1, "trial 1 of sft")
    assert start.state is State.DONE
    assert (state.folder / str(start.adapter) / "adapter_model.safetensors").read_text() == SFT
    assert [one.id for one in start.evaluations] == [f"{SFT}-dev"]
    assert (state.folder / str(start.evaluations[0].items)).is_file()
    assert state.arms["base"][0].id == "base-dev", "the base is not asked again either"
    assert frame(state).loc[SFT, "cost/usd"] == pytest.approx(0.25)
    assert sum(entry.usd for entry in state.costs) == pytest.approx(0.01), "its cost is that of the stage before"
    assert list(state.drawn) == [DPO]
    assert list(state.starts) == [SFT]


def test_verdicts_of_a_start_are_paid_for_in_the_stage_that_asked_for_them(
    home: Path, last: Callable[..., SweepState]
) -> None:
    judged = {"quality/score": 3.0, "judge/tokens": 1000.0, "judge/usd": 5.0}
    first = home / "runs" / "shop" / "stages" / "sft"
    for key, arm in ((f"{SFT}-again", SFT), ("base-again", "base")):
        with Ledger(first) as ledger:
            ledger.append("evaluation", id=key, arm=arm, split="dev", n=1, metrics=judged)
    state = last()
    assert [one.stage for one in (*state.trials[SFT].evaluations, *state.arms["base"])] == ["sft", "sft"]
    assert summary(read(first))["cost/judge_usd"] == 10.0
    assert summary(state)["cost/judge_usd"] == 0.0
    assert summary(state)["cost/usd"] == pytest.approx(0.01)


def test_a_start_enters_once(home: Path, last: Callable[..., SweepState]) -> None:
    before = len((last().folder / "ledger.jsonl").read_bytes())
    with Ledger(home / "runs" / "shop") as ledger:
        enter(ledger, place(home))
    assert len((home / "runs" / "shop" / "ledger.jsonl").read_bytes()) == before


def test_a_start_stays_through_a_new_version(home: Path, last: Callable[..., SweepState]) -> None:
    state = last()
    with Ledger(state.folder) as ledger:
        spec = {**state.spec, "search": {**state.spec["search"], "trials": 5}}
        content = {"name": "shop", "format": FORMAT, "spec": spec, "recipe": state.recipe, "facts": state.facts}
        ledger.append("sweep", **content, changes=["search.trials: 2 → 5"], kept={DPO: {"optimizer.lr": 1e-3}})
        assert ledger.read().starts == {}
        enter(ledger, place(home))
    again = read(state.folder)
    assert list(again.starts) == [SFT]
    assert [one.id for one in again.trials[SFT].evaluations] == [f"{SFT}-dev"]


def test_its_loss_counts_only_where_it_says_the_same(last: Callable[..., SweepState]) -> None:
    assert last().trials[SFT].metrics["val/loss"] == 2.0


def test_its_loss_does_not_count_for_another_method(last: Callable[..., SweepState]) -> None:
    assert "val/loss" not in last(method="dpo").trials[SFT].metrics


@pytest.mark.parametrize(("score", "champion"), [(3.0, SFT), (2.9, SFT), (3.1, DPO)])
def test_what_is_only_as_good_does_not_take_its_place(
    last: Callable[..., SweepState], score: float, champion: str
) -> None:
    choice = choose(last(score))
    assert choice.champion == champion
    said = {
        SFT: "Trial 1 of sft, from which dpo started, stays champion: no trial of dpo is chosen over it.",
        DPO: "Trial 0 of dpo is chosen over trial 1 of sft, from which dpo started.",
    }
    assert choice.why[0] == said[champion]


def test_it_is_no_trial_of_the_recipe(last: Callable[..., SweepState]) -> None:
    state = last(1.0)
    assert default_trial(state) == DPO
    assert median_trial(state) == DPO
    assert swept_keys(state) == ["optimizer.lr"]
    assert frame(state).loc[SFT, "optimizer.lr"] is None or frame(state).isna().loc[SFT, "optimizer.lr"]


def test_the_leaderboard_says_which_stage_trained_whom(last: Callable[..., SweepState]) -> None:
    rows = leaderboard(last(3.5)).to_dict()["rows"]
    assert [(row["stage"], row["number"], row["rank"]) for row in rows] == [("dpo", 0, 1), ("sft", 1, 2)]


def test_the_best_start_is_always_among_the_contenders() -> None:
    rule = Rule("quality/score", "max", ())
    found = frozen_rule(rule, ["a", "b", "c", "s", "t"], ["base"], Confirm(top=2), ["s", "t"])
    assert not isinstance(found, str)
    assert found.contenders == ("a", "b", "s")
    first = frozen_rule(rule, ["s", "a"], ["base"], Confirm(top=2), ["s"])
    assert not isinstance(first, str)
    assert first.contenders == ("s", "a")
    broken = frozen_rule(rule, ["a", "b"], ["base"], Confirm(top=2), ["s"])
    assert not isinstance(broken, str)
    assert broken.contenders == ("a", "b"), "a start that breaks a constraint is no contender"


def test_a_lineage_goes_back_to_the_first_stage(last: Callable[..., SweepState]) -> None:
    state = last()
    where = state.folder / "trials" / DPO / "trial.yaml"
    start = (state.folder / str(state.trials[SFT].adapter)).resolve()
    where.write_text(f"start: {{adapter: {start}}}\n")
    found = lineage(state, state.trials[DPO])
    assert [(one["stage"], one["trial"], one["recipe"]) for one in found] == [
        ("sft", SFT, "tiny_sft"),
        ("dpo", DPO, "tiny_dpo"),
    ]
    assert found[0]["cost"]["cost/usd"] == pytest.approx(0.25)
    assert found[0]["dev"] == {"metric": "quality/score", "score": 3.0, "n": 1}
    assert "path" not in found[0]["data"]["train"]
    assert [one["trial"] for one in lineage(state, state.trials[SFT])] == [SFT], "that it went no further is told too"


@pytest.mark.parametrize(("better", "verdict"), [(0.05, "undecided"), (2.0, "better")])
def test_what_each_step_was_worth(last: Callable[..., SweepState], better: float, verdict: str) -> None:
    state = last(3.5)
    rng = Random(0)
    noise = [rng.uniform(-1, 1) for _ in range(40)]
    scores = {
        "base": [0.0] * 40,
        SFT: [3 + one for one in noise],
        DPO: [3 + better + rng.uniform(-1, 1) for _ in noise],
    }
    with Ledger(state.folder) as ledger:
        for arm, values in scores.items():
            items = f"evaluations/{arm}-challenge.jsonl"
            lines = [json.dumps({"id": str(at), "metrics": {"quality/score": one}}) for at, one in enumerate(values)]
            (state.folder / items).write_text("\n".join(lines) + "\n")
            mean = {"quality/score": sum(values) / 40}
            ledger.append("evaluation", id=items, arm=arm, split="challenge", n=40, metrics=mean, items=items)
        rule = frozen_rule(Rule("quality/score", "max", ()), [DPO, SFT], ["base"], Confirm(top=1), [SFT])
        assert not isinstance(rule, str)
        outcome = outcome_of(ledger.read(), rule, {})
        assert not isinstance(outcome, str)
        told = {"champion": outcome.pick, "rule": {"metric": "quality/score"}, "outcome": plain(outcome.to_dict())}
        ledger.append("champion", champion=told)
    found = steps(read(state.folder))
    assert [step.label for step in found] == ["base", "sft champion, trial 1", "dpo champion, trial 0"]
    assert [step.verdict for step in found] == [None, "better", verdict]
    [contest] = outcome.contest
    assert found[2].gain == pytest.approx(contest.difference)
    assert found[2].gain_interval == pytest.approx(contest.interval)
    assert found[1].mean == pytest.approx(sum(scores[SFT]) / 40)
    said = {"better": ": better", "undecided": ": not told apart"}[verdict]
    assert found[2].words.endswith(said)


def test_a_loss_of_sft_goes_no_further_than_to_sft(home: Path, last: Callable[..., SweepState]) -> None:
    last()
    source = home / "runs" / "shop"
    with Ledger(home / "runs" / "third") as ledger:
        begin(ledger, "third", "more", "dpo")
        enter(ledger, replace(place(home), starts=(StartTrial("dpo", source, SFT),)))
        assert "val/loss" in read(source).trials[SFT].known
        assert "val/loss" not in ledger.read().trials[SFT].metrics


def test_losses_compare_whatever_the_start_was_swept_over(last: Callable[..., SweepState]) -> None:
    state = last(method="dpo")
    state.trials[SFT].values["preference.beta"] = 0.1
    assert losses_compare(state)
    state.trials[DPO].values["preference.beta"] = 0.1
    assert not losses_compare(state)


def test_a_start_is_no_trial_of_the_sweep(last: Callable[..., SweepState]) -> None:
    state = last()
    told = summary_of(state)
    assert (told["num_trials"], told["states"]) == (1, {"DONE": 1})
    start, own = state.trials[SFT], state.trials[DPO]
    assert meant(state.trials.values(), SFT[:4]) == [start]
    assert meant(state.trials.values(), str(start.number)) == []
    assert meant(state.trials.values(), "0") == [own]
    with pytest.raises(InvalidInput, match=rf"no trial '-1' in shop \(there are 0 \({DPO}\)\)"):
        logs("shop", "-1")


def test_a_start_is_served_and_labelled_by_what_it_is_elsewhere(last: Callable[..., SweepState]) -> None:
    state = last()
    recipe = compose("tiny_commerce_sft", base_dir=state.folder)
    for key in (SFT, DPO):
        (state.folder / "trials" / key / "trial.yaml").write_text(yaml.safe_dump(recipe))
    proof = {"sweep": "shop", "trial": {"id": "another"}, "base": {"name": recipe["base"]["path"]}}
    found = trial_adapters(Bundle("shop", state.folder, proof, Recipe.model_validate(recipe), None))
    assert {name: folder.resolve().parent.name for name, folder in found.items()} == {
        "trial-0": DPO,
        "sft-trial-1": SFT,
    }
    answers = [Judged("1", arm, "dev", arm, Verdict(4.0, "good")) for arm in (SFT, DPO)]
    [(_, own)] = match([Label("1", "0", 4.0, 2)], answers, state, "labels.csv")
    assert own.arm == DPO
    with pytest.raises(InvalidInput, match="the judge has scored no such arm: -1"):
        match([Label("1", "-1", 4.0, 2)], answers, state, "labels.csv")
    runs = {run.tag[1]: run for run in child_runs(state)}
    assert {key: runs[key].params["trial"] for key in (SFT, DPO)} == {SFT: "1", DPO: "0"}


def whole(home: Path, *stages: dict[str, Any]) -> None:
    """The whole has these stages, written so."""
    path = home / "runs" / "shop" / "stages" / "stages.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "values": {"stages": stages}}))


@pytest.mark.parametrize(
    ("start", "num_kept"),
    [({}, 2), ({"start": {"top": 3}}, 3), ({"start": {"from": "sft", "top": 4}}, 4), ({"start": {"from": "x"}}, 2)],
)
def test_what_a_stage_will_start_from_stays(home: Path, start: dict[str, Any], num_kept: int) -> None:
    whole(home, {"name": "sft"}, {"name": "dpo", **start})
    folder = home / "runs" / "shop" / "stages" / "sft"
    with Ledger(folder) as ledger:
        for number in range(2, 6):
            trial(ledger, f"{number}" * 12, number, 1 - number / 10)
        ledger.append("end", status="DONE", code=0)
    state = read(folder)
    [usage] = [one for one in survey(home, adapters=True) if one.kind == "adapters"]
    kept = set(state.trials) - {path.parent.name for path in usage.free}
    assert kept == set(best_of(state, num_kept))
    assert len(kept) == num_kept


def test_nothing_starts_from_a_trial_whose_weights_are_gone(home: Path) -> None:
    folder = home / "runs" / "shop" / "stages" / "sft"
    with Ledger(folder) as ledger:
        trial(ledger, "cccccccccccc", 2, 1.0)
    assert best_of(read(folder), 2) == [SFT, "bbbbbbbbbbbb"]
    shutil.rmtree(folder / "trials" / "bbbbbbbbbbbb" / "adapter")
    assert best_of(read(folder), 2) == [SFT, "cccccccccccc"]


def test_what_earlier_stages_spent_counts_for_the_budget_of_all(home: Path, tmp_path: Path) -> None:
    own = Spending(0.1, 360.0, 10.0)
    all_together = own.with_others(place(home))
    assert all_together.usd == pytest.approx(0.1 + 0.5)
    assert all_together.unit_s == pytest.approx(360 + 0.5 * 3600)
    halt = Halt(tmp_path / "inbox")
    own.check(Budget(usd=0.6), 0.0, 0.0, 0.0, halt)
    assert halt.reason is None, "alone it may go on"
    all_together.check(Budget(usd=0.6), 0.0, 0.0, 0.0, halt)
    assert halt.status == "BUDGET"
    assert "budget.usd: 0.6 of 0.6 is spent" in str(halt.reason)


def test_what_later_stages_spent_counts_for_an_earlier_one_that_is_extended(
    home: Path, last: Callable[..., SweepState]
) -> None:
    last()
    first = replace(place(home), name="sft", source=None, starts=())
    assert Spending(0.5, 0.0, 0.0).with_others(first).usd == pytest.approx(0.5 + 0.01)


def test_names_of_sweeps_and_stages(home: Path, last: Callable[..., SweepState]) -> None:
    assert list_sweeps(home) == ["shop"]
    assert open_sweep("shop", home).name == "shop/sft", "the last stage has not begun"
    with pytest.raises(InvalidInput, match="the stage dpo of shop has not begun"):
        open_sweep("shop/dpo", home)
    last()
    assert open_sweep(None, home).name == open_sweep("shop", home).name == open_sweep("shop/dpo", home).name == "shop"
    assert open_sweep("shop/sft", home).name == "shop/sft"
    with pytest.raises(InvalidInput, match=r'shop has no stage "sfd" \(did you mean "shop/sft"'):
        open_sweep("shop/sfd", home)
    assert {name for name, _ in sweep_names("")} == {"shop", "shop/sft"}
    assert sweep_names("shop/") == [("shop/sft", "a stage")]


def test_the_state_of_each_stage(home: Path, last: Callable[..., SweepState]) -> None:
    waiting = [stage.to_dict() for stage in stages_of(open_sweep("shop/sft", home))]
    assert [(one["stage"], one["status"]) for one in waiting] == [("sft", "DONE"), ("dpo", "WAITING")]
    assert waiting[0]["label"] == "trial 1"
    last()
    done = [stage.to_dict() for stage in stages_of(open_sweep("shop", home))]
    assert [one["num_trials"] for one in done] == [2, 1]


def test_gc_keeps_what_a_later_stage_starts_from(home: Path, last: Callable[..., SweepState]) -> None:
    nested = home / "runs" / "shop" / "stages" / "sft"
    for number in range(2, 7):  # more than are kept for being near the top
        with Ledger(nested) as ledger:
            trial(ledger, f"{number}" * 12, number, 4.0 + number)
    with Ledger(nested) as ledger:
        ledger.append("champion", champion={"champion": "6" * 12, "rule": {"metric": "quality/score"}})
        ledger.append("end", status="DONE", code=0)
    last()
    usages = survey(home, adapters=True)
    free = {path.parent.name for usage in usages for path in usage.free if usage.kind == "adapters"}
    assert "2" * 12 in free, "others are given up"
    assert SFT not in free
    sizes = [usage.size for usage in usages if usage.kind == "adapters"]
    files = [path.stat().st_size for path in home.rglob("adapter_model.safetensors")]
    assert sum(sizes) == sum(files), "what lies in a stage's folder is counted once"


@pytest.mark.parametrize(
    ("codes", "code"), [([0, 0], 0), ([3, 0], 3), ([4, 3], 4), ([3, 6], 6), ([0, 130], 130), ([4, 7], 7)]
)
def test_the_exit_code_of_all_stages(codes: list[int], code: int) -> None:
    assert whole_code(codes) == code
