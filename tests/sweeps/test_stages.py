"""A staged YAML taken apart: what each stage's own sweep says, and where its lines are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.errors import InvalidInput
from sweeps.source import STAGE_KEYS, apply_overrides, parse_source
from sweeps.stages import Staged, read_staged, staged, whole_name

TEXT = """\
name: shop
pools: [cpu]
stages:
  - name: sft
    recipe: tiny_commerce_sft
    set: {train.max_steps: 60}
    space:
      optimizer.lr: loguniform(1e-4, 1e-2)
      lora.rank: choice(8, 16)
    search: {trials: 8}
  - name: dpo
    recipe: tiny_commerce_dpo
    start: {from: sft, top: 2}
    space:
      preference.beta: loguniform(0.02, 0.5)
    search: {trials: 4}
    budget: {usd: 1}
budget: {usd: 5, wall_clock: 1h}
evaluate:
  metrics: [shopping]
  dev: 8
  challenge: 8
  latency: {top: 3, requests: 8}
  incumbent: {name: now, adapter: ours}
champion:
  maximize: quality/score
  confirm: {top: 2, alpha: 0.1}
export: {keep: 1}
serving: {rescore: 2}
"""


def take_apart(text: str = TEXT) -> Staged:
    return staged(parse_source(text))


def test_each_stage_is_a_sweep_of_its_own_and_the_last_bears_the_name() -> None:
    first, last = take_apart().stages
    assert (first.sweep, last.sweep) == ("shop/sft", "shop")
    assert whole_name(first.sweep) == whole_name(last.sweep) == "shop"
    one, other = first.loaded(), last.loaded()
    assert one.problems == other.problems == ()
    assert one.spec is not None
    assert other.spec is not None
    assert one.spec.recipe == "tiny_commerce_sft"
    assert one.spec.search.trials == 8
    assert other.spec.set == {}
    assert set(other.spec.space) == {"preference.beta"}
    assert one.spec.pools == other.spec.pools == ("cpu",)


def test_an_earlier_stage_chooses_on_dev_alone_and_exports_nothing() -> None:
    first, last = (stage.loaded().spec for stage in take_apart().stages)
    assert first is not None
    assert last is not None
    assert first.champion.confirm.top == 0, "the challenge set stays sealed"
    assert last.champion.confirm.top == 2
    assert first.champion.maximize == last.champion.maximize
    assert first.export.keep == 0
    assert first.evaluate.incumbent is None
    assert first.evaluate.latency.top == 0
    assert last.evaluate.latency.top == 3
    assert first.serving.rescore == 0
    assert first.evaluate.dev == last.evaluate.dev == 8


@pytest.mark.parametrize("limit", ["latency/formulation_p50_s", "cost/usd_per_1k_requests"])
def test_an_earlier_stage_times_only_for_a_rule_that_needs_it(limit: str) -> None:
    traffic = "traffic: {peak_rps: 5, mean_rps: 2}\n"
    text = TEXT.replace("maximize: quality/score", f"maximize: quality/score\n  subject_to: {{{limit}: '< 2'}}")
    first = take_apart(text + traffic).stages[0].loaded().spec
    assert first is not None
    assert first.evaluate.latency.top == 3


def test_budgets_of_all_and_of_one_are_told_apart() -> None:
    whole = take_apart()
    assert whole.budget.usd == 5
    assert whole.budget.wall_clock_s == 3600
    first, last = (stage.loaded().spec for stage in whole.stages)
    assert first is not None
    assert last is not None
    assert first.budget.usd is None
    assert last.budget.usd == 1


def test_starts_are_set_and_several_are_swept() -> None:
    last = take_apart().stages[1]
    one = last.loaded(["/runs/a"])
    assert one.set == {"start.adapter": "/runs/a", "start.mode": "continue"}
    several = last.loaded(["/runs/a", "/runs/b"])
    assert several.set["start.adapter"] == "/runs/a", "the recipe's own values start from the best"
    assert several.problems == ()
    assert several.source.block("space")["start.adapter"] == {"values": ["/runs/a", "/runs/b"]}
    assert "start.adapter" not in last.loaded().source.block("space"), "the stage itself stays as it is written"


def test_what_is_left_out_is_the_stage_before_its_champion_and_to_continue() -> None:
    start = take_apart(TEXT.replace("    start: {from: sft, top: 2}\n", "")).stages[1].start
    assert start is not None
    assert (start.stage, start.top, start.mode) == ("sft", 1, "continue")


@pytest.mark.parametrize(
    ("old", "new", "line", "where"),
    [
        ("optimizer.lr: loguniform(1e-4, 1e-2)", "optimizer.lr: loguniform(1, 0.1)", 8, "stages[0].space.optimizer.lr"),
        ("search: {trials: 4}", "search: {trials: 0}", 16, "stages[1].search.trials"),
        ("    recipe: tiny_commerce_dpo\n", "", 11, "stages[1].recipe"),
        ("dev: 8", "dev: -8", 21, "evaluate.dev"),
        ("alpha: 0.1", "alpha: 2", 27, "champion.confirm.alpha"),
        ("budget: {usd: 1}", "budget: {usd: x}", 17, "stages[1].budget.usd"),
        ("usd: 5", "usd: x", 18, "budget.usd"),
    ],
)
def test_errors_name_the_line_in_the_file(old: str, new: str, line: int, where: str) -> None:
    assert old in TEXT
    whole = take_apart(TEXT.replace(old, new))
    told = dict.fromkeys([*whole.problems, *(one for stage in whole.stages for one in stage.loaded().problems)])
    assert [(problem.where, problem.line) for problem in told] == [(where, line)]


def test_overrides_of_a_stage_and_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(TEXT)
    changes = [
        "stages.dpo.search.trials=6",
        "stages.sft.space.lora.rank=choice(4)",
        "~stages.dpo.budget",
        "budget.usd=9",
    ]
    whole = read_staged(path, changes)
    assert whole is not None
    assert whole.problems == ()
    first, last = (stage.loaded() for stage in whole.stages)
    assert first.source.block("space")["lora.rank"] == "choice(4)"
    assert last.spec is not None
    assert last.spec.search.trials == 6
    assert last.spec.budget.usd is None
    assert whole.budget.usd == 9


def test_a_wrong_override_of_a_stage_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(TEXT)
    whole = read_staged(path, ["stages.dpo.search.trials=0"])
    assert whole is not None
    assert [str(one) for one in whole.stages[1].loaded().problems] == [
        "stages.dpo.search.trials=0: must be at least 1, but got 0"
    ]


def test_a_plain_sweep_has_no_stages(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("name: plain\nrecipe: r\nspace: {optimizer.lr: uniform(0, 1)}\n")
    assert read_staged(path) is None


def test_a_plain_sweep_has_no_stage_s_name() -> None:
    from sweeps.loading import check_source

    loaded = check_source(parse_source("name: a/b\nrecipe: r\nspace: {optimizer.lr: uniform(0, 1)}\n"))
    assert 'must be a folder name, but got "a/b"' in str(loaded.error())
    with_stages = take_apart(TEXT.replace("name: shop", "name: a/b"))
    assert 'line 1: name: must be a folder name, but got "a/b"' in str(with_stages.error())


@given(st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=2, max_size=6, unique=True), st.data())
def test_every_stage_keeps_its_own_blocks_and_all_share_the_others(names: list[str], data: Any) -> None:
    """Whatever the stages are called and however many they are."""
    trials = [data.draw(st.integers(1, 50)) for _ in names]
    source = data.draw(st.integers(0, len(names) - 2))
    text = "name: all\npools: [cpu]\nstages:\n"
    for name, number in zip(names, trials, strict=True):
        text += f"  - {{name: '{name}', recipe: r{number}, space: {{optimizer.lr: 'uniform(0, 1)'}}, "
        text += f"search: {{trials: {number}}}"
        text += f", start: {{from: '{names[source]}'}}}}\n" if name == names[-1] else "}\n"
    whole = take_apart(text)
    assert whole.problems == ()
    assert [stage.name for stage in whole.stages] == names
    for stage, name, number in zip(whole.stages, names, trials, strict=True):
        spec = stage.loaded().spec
        assert spec is not None
        assert (spec.recipe, spec.search.trials, spec.pools) == (f"r{number}", number, ("cpu",))
        assert spec.name == ("all" if stage.is_last else f"all/{name}")
    assert whole.stages[-1].start is not None
    assert whole.stages[-1].start.stage == names[source]


@given(st.sampled_from([key for key in STAGE_KEYS if key != "start"]), st.integers(1, 9))
def test_an_override_of_a_stage_is_that_of_a_plain_sweep(key: str, number: int) -> None:
    plain: dict[str, Any] = {"search": {}, "set": {}, "space": {}}
    path = f"{key}.lora.rank" if key in ("set", "space") else f"{key}.x" if key not in ("recipe",) else key
    alone, _, wrong = apply_overrides(plain, [f"{path}={number}"])
    inside, texts, also = apply_overrides(
        {"stages": [{"name": "a"}, {"name": "b", **plain}]}, [f"stages.b.{path}={number}"]
    )
    assert wrong == also == []
    assert inside["stages"][1] == {"name": "b", **alone}
    assert inside["stages"][0] == {"name": "a"}
    assert next(iter(texts)).startswith("stages[1].")


def test_no_list_is_told_at_once() -> None:
    for text in ("name: x\nstages: 3\n", "name: x\nstages: []\n", "name: x\nstages: [a, b]\n", "name: x\nstages:\n"):
        with pytest.raises(InvalidInput, match=r"line 2: stages: must be"):
            take_apart(text)
