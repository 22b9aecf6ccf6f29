"""A changed YAML under the same name: what is told, which trials stay, and that no session draws one twice."""

import random
import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.champion import default_trial
from launchers.agenda import make_agenda
from launchers.build import Built, build
from launchers.run_folder import prepare
from launchers.search import DistinctSearch
from launchers.slots import Slots
from launchers.staging import Stages, build_stages
from sweeps.constraints import refusal, spared
from sweeps.design_points import planned_points
from sweeps.trial import Trial, make_trial
from tests.launchers.bad_incumbent import adapter
from tests.launchers.stage import Stage
from tracking.ledger import Ledger, State, SweepState, read

SWEEP = """\
name: versions
recipe: tiny_commerce_sft
set: {{train.max_steps: {steps}, train.validate_every: 2{inputs}}}
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: {lr}
  optimizer.weight_decay: {{when: optimizer.name == adamw, value: choice(0.0, 0.01)}}
  lora.rank: {rank}{keys}
search: {{trials: {trials}, seed: 1, seeds: {seeds}}}
evaluate: {{metrics: [shopping]}}
{more}
"""
BOUND = 'stop_early: {{}}\nchampion: {{subject_to: {{adapter/parameters: "<= {}"}}}}'


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "home"))


def sweep(folder: Path, **changes: Any) -> Built:
    values = {
        "steps": 8,
        "lr": "loguniform(1e-4, 1e-2)",
        "rank": "choice(4, 8)",
        "trials": 8,
        "seeds": 1,
        "inputs": "",
        "keys": "",
        "more": "",
    } | changes
    path = folder / "versions.yaml"
    path.write_text(SWEEP.format(**values))
    return build(path)


def session(built: Built, folder: Path, most: int | None = None, draw: random.Random | None = None) -> list[str]:
    """What a driver does with the ledger, without training: it ends after ``most`` trials, or in the middle of one."""
    handed_out: list[str] = []
    with Ledger(folder) as ledger:
        prepare(built, ledger)
        agenda = make_agenda(ledger, built.sweep, lambda trial: refusal(built.sweep, trial), retry=False)
        design = planned_points(built.sweep)

        def begin(trial: Trial) -> dict[str, float | None] | None:
            (folder / "trials" / trial.id).mkdir(parents=True, exist_ok=True)
            (folder / "trials" / trial.id / "trial.yaml").write_text(yaml.safe_dump(trial.settings))
            fields = {"number": trial.number, "values": trial.values, "max_steps": trial.max_steps}
            ledger.append("trial", trial=trial.id, pool="cpu", repeat=trial.repeat, **fields)
            if reason := refusal(built.sweep, trial):
                ledger.append("state", trial=trial.id, state=State.STOPPED, reason=reason)
                return {}
            return None

        search = DistinctSearch(
            built.sweep.space,
            design.trials,
            design.num_trials,
            lambda number, values, repeat: make_trial(built.sweep, number, values, repeat),
            lambda trial: {"trial": trial.id, "steps": trial.max_steps},
            Slots(2),
            objectives={"val/loss": "min"},
            seed=1,
            known=agenda.known,
            unfinished=agenda.train,
            repeats=built.sweep.spec.search.seeds,
            next_number=agenda.next_number,
            begin=begin,
        )
        for number in range(100):
            if most is not None and len(handed_out) >= most:
                break
            config = search.suggest(f"tune-{number}")
            if not isinstance(config, dict):
                break
            trial = config["trial"]
            handed_out.append(trial)
            ledger.append("state", trial=trial, state=State.RUNNING)
            if draw is not None and draw.random() < 0.3:
                break  # the driver dies
            loss = int(trial[:6], 16) / 2**24
            ledger.append("report", trial=trial, step=config["steps"], metrics={"val/loss": loss})
            ledger.append("adapter", trial=trial, folder=f"trials/{trial}/adapter")
            ledger.append("state", trial=trial, state=State.DONE)
            search.on_trial_complete(f"tune-{number}", {"val/loss": loss})
    return handed_out


def test_the_same_yaml_is_no_new_version(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert len(session(sweep(tmp_path), folder)) == 8
    assert session(sweep(tmp_path), folder) == []
    with Ledger(folder) as ledger:
        assert ledger.read().version == 1


@pytest.mark.parametrize("seed", range(3))
def test_sessions_that_die_anywhere_draw_every_trial_once(tmp_path: Path, seed: int) -> None:
    folder, draw, finished = tmp_path / "run", random.Random(seed), 0
    built = sweep(tmp_path)
    for _ in range(60):
        session(built, folder, draw=draw)
        with Ledger(folder) as ledger:
            state = ledger.read()
        finished = sum(trial.state is State.DONE for trial in state.trials.values())
        if finished == 8:
            break
    assert finished == len(state.trials) == 8
    assert sorted(trial.number for trial in state.trials.values()) == list(range(8))
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    assert sum('"event": "trial"' in line for line in lines) == 8


def test_more_trials_keep_all_that_were_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = session(sweep(tmp_path), folder)
    more = session(sweep(tmp_path, trials=11), folder)
    assert len(more) == 3
    assert not set(more) & set(first)
    with Ledger(folder) as ledger:
        state = ledger.read()
    assert state.versions[-1].changes == ("search.trials: 8 → 11",)
    assert [trial.version for trial in state.every_trial.values()] == [1] * 8 + [2] * 3
    assert state.history == {}


def test_the_recipes_own_values_are_known_in_every_version(tmp_path: Path) -> None:
    folder, found = tmp_path / "run", []
    for inputs in ("", ", lora.alpha: 48"):  # of which nothing is kept
        built = sweep(tmp_path, inputs=inputs)
        session(built, folder)
        state = read(folder)
        default = default_trial(state)
        assert default == spared(built.sweep)
        assert default is not None
        assert state.trials[default].values == built.sweep.space.complete(built.sweep.space.default_values())
        found.append((default, state.trials[default].number))
    (first, zero), (second, later) = found
    assert first != second
    assert zero == 0 < later
    assert first in read(folder).history


def test_a_narrower_space_keeps_the_trials_inside_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    session(sweep(tmp_path), folder)
    again = session(sweep(tmp_path, lr="loguniform(1e-3, 1e-2)"), folder)
    with Ledger(folder) as ledger:
        state = ledger.read()
    defaults = next(trial for trial in state.every_trial.values() if trial.number == 0)
    for trial in state.every_trial.values():
        inside = 1e-3 <= trial.values["optimizer.lr"] <= 1e-2 or trial is defaults
        assert (trial.id in state.trials) == inside
    assert len(state.trials) == 8
    assert len(state.every_trial) == 8 + len(again)
    assert 0 < len(again) < 8
    back = session(sweep(tmp_path), folder)
    assert back == [], "the first space again: everything in it is known, and more than was asked for"


def test_another_number_of_steps_is_another_sweep_of_trials(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = session(sweep(tmp_path), folder)
    second = session(sweep(tmp_path, steps=10), folder)
    assert len(second) == 8
    assert not set(first) & set(second)
    with Ledger(folder) as ledger:
        state = ledger.read()
    assert set(state.history) == set(first)
    assert state.versions[-1].changes == ("set.train.max_steps: 8 → 10",)
    assert (folder / "spec-1.yaml").exists()


def test_a_key_that_is_swept_from_now_on_keeps_trials_by_their_settings(tmp_path: Path) -> None:
    folder, path = tmp_path / "run", tmp_path / "versions.yaml"
    sweep(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("  lora.rank: choice(4, 8)\n", "").replace("set: {", "set: {lora.rank: 4, "))
    first = session(build(path), folder)
    assert len(first) == 8
    session(sweep(tmp_path, trials=10), folder)
    with Ledger(folder) as ledger:
        state = ledger.read()
    assert set(first) <= set(state.trials), "4 is not the recipe's default, but it is what they were trained with"
    assert {state.trials[key].values["lora.rank"] for key in first} == {4}
    assert len(state.trials) == 10


def points(folder: Path) -> Counter[str]:
    """How often each point was trained."""
    with Ledger(folder) as ledger:
        state = ledger.read()
    return Counter(str(sorted(trial.values.items())) for trial in state.trials.values())


@pytest.mark.parametrize("most", [1, 4, 5])
def test_a_session_that_ends_between_the_repeats_of_a_point_makes_them_up(tmp_path: Path, most: int) -> None:
    built, folder = sweep(tmp_path, trials=4, seeds=3), tmp_path / "run"
    session(built, folder, most=most)
    session(built, folder)
    assert sorted(points(folder).values()) == [3, 3, 3, 3]


def test_more_repeats_are_made_of_the_points_that_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    session(sweep(tmp_path, trials=5), folder)
    assert len(session(sweep(tmp_path, trials=5, seeds=2), folder)) == 5
    assert sorted(points(folder).values()) == [2] * 5


def test_fewer_repeats_of_more_points(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    session(sweep(tmp_path, trials=4, seeds=3), folder)
    assert len(session(sweep(tmp_path, trials=6, seeds=1), folder)) == 2
    assert len(points(folder)) == 6


def refused(folder: Path) -> dict[str, str | None]:
    """The trials that were not started, with what is told of them."""
    with Ledger(folder) as ledger:
        trials = ledger.read().trials
    assert all((trial.state is State.STOPPED) == (trial.adapter is None) for trial in trials.values())
    return {key: trial.reason for key, trial in trials.items() if trial.state is State.STOPPED}


@pytest.mark.parametrize("seed", range(3))
def test_what_is_refused_stays_refused_however_often_the_driver_dies(tmp_path: Path, seed: int) -> None:
    whole, folder, draw = tmp_path / "whole", tmp_path / "run", random.Random(seed)
    built = sweep(tmp_path, rank="choice(4, 8, 16)", trials=12, more=BOUND.format(8 * per_rank(tmp_path)))
    trained = session(built, whole)
    expected = refused(whole)
    assert 0 < len(expected) < 12
    assert len(trained) + len(expected) == 12
    told = {f"not started: adapter/parameters is {16 * per_rank(tmp_path)}, must be <= {8 * per_rank(tmp_path)}"}
    assert set(expected.values()) == told
    for _ in range(60):
        session(built, folder, draw=draw)
    design = {trial.id for trial in planned_points(built.sweep).trials}
    assert {key for key in refused(folder) if key in design} == {key for key in expected if key in design}
    with Ledger(folder) as ledger:
        trials = ledger.read().trials
    assert len(trials) == 12
    assert all((trial.values["lora.rank"] == 16) == (key in refused(folder)) for key, trial in trials.items())


def test_another_bound_takes_up_what_was_refused_and_trains_nothing_twice(tmp_path: Path) -> None:
    folder, per = tmp_path / "run", per_rank(tmp_path)
    first = session(sweep(tmp_path, rank="choice(4, 8, 16)", more=BOUND.format(8 * per)), folder)
    before = refused(folder)
    assert before
    assert session(sweep(tmp_path, rank="choice(4, 8, 16)", more=BOUND.format(9 * per)), folder) == []
    assert all(str(9 * per) in str(reason) for reason in refused(folder).values())
    assert set(session(sweep(tmp_path, rank="choice(4, 8, 16)", more=BOUND.format(16 * per)), folder)) == set(before)
    assert refused(folder) == {}
    assert session(sweep(tmp_path, rank="choice(4, 8, 16)", more=BOUND.format(per)), folder) == []
    assert refused(folder) == {}, "what is trained stays"
    assert len(first) + len(before) == 8


def per_rank(folder: Path) -> int:
    """Numbers that each rank adds to the demo's adapter."""
    layers = sweep(folder).sweep.facts.layers
    assert layers is not None
    return sum(outputs + inputs for name, (outputs, inputs) in layers.items() if name.endswith("_proj"))


# Trials that start from an adapter ----------------------------------------------------------------------------------


def write_adapter(folder: Path, content: int) -> Path:
    """An adapter of rank 2, with other weights for each content."""

    def change(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1] + bytes([content]))

    with ExitStack() as stack:
        adapter(change=change)(Stage(folder.parent, stack))
    shutil.rmtree(folder, ignore_errors=True)
    return (folder.parent / "mine").rename(folder)


def started(folder: Path, *adapters: str, modes: str = "continue, stack", **changes: Any) -> Built:
    """A sweep whose trials go on from these adapters, or put a new one beside them."""
    keys = f"\n  start.mode: choice({modes})\n  start.adapter: choice({', '.join(adapters)})"
    return sweep(folder, **{"inputs": f", start.adapter: {adapters[0]}", "keys": keys, **changes})


def starts_of(state: SweepState) -> dict[str, tuple[str, str]]:
    """Where each trial starts, and how."""
    return {key: (trial.values["start.adapter"], trial.values["start.mode"]) for key, trial in state.trials.items()}


def test_trials_that_go_on_are_kept_whatever_rank_they_were_drawn_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_adapter(tmp_path / "first", 1)
    first = session(started(tmp_path, "first"), folder)
    before = read(folder).trials
    modes = Counter(mode for _, mode in starts_of(read(folder)).values())
    assert min(modes["continue"], modes["stack"]) > 1
    assert len(session(started(tmp_path, "first", trials=10), folder)) == 2
    after = read(folder)
    assert set(first) <= set(after.trials)
    assert {key: after.trials[key].values for key in first} == {key: before[key].values for key in first}


def test_another_space_of_ranks_keeps_trials_that_go_on_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_adapter(tmp_path / "first", 1)
    session(started(tmp_path, "first"), folder)
    before = starts_of(read(folder))
    session(started(tmp_path, "first", rank="choice(16, 32)"), folder)
    state = read(folder)
    defaults = next(key for key, trial in state.every_trial.items() if trial.number == 0)
    for key, (_, mode) in before.items():
        assert (key in state.trials) == (mode == "continue" or key == defaults)
    assert {trial.values["lora.rank"] for key, trial in state.trials.items() if key != defaults} <= {16, 32}


def test_an_adapter_is_known_by_its_contents_wherever_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for content, name in enumerate(("first", "second")):
        write_adapter(tmp_path / name, content)
    session(started(tmp_path, "first", "second"), folder)
    before = starts_of(read(folder))
    assert {name for name, _ in before.values()} == {"first", "second"}
    moved = {"first": "second", "second": "third"}  # the one lies where the other lay
    for old, new in reversed(moved.items()):
        (tmp_path / old).rename(tmp_path / new)
    assert session(started(tmp_path, "second", "third"), folder) == []
    state = read(folder)
    assert state.version == 2
    assert starts_of(state) == {key: (moved[name], mode) for key, (name, mode) in before.items()}


def test_another_adapter_in_the_same_place_is_another_start(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for content, name in enumerate(("first", "second")):
        write_adapter(tmp_path / name, content)
    session(started(tmp_path, "first", "second"), folder)
    before = starts_of(read(folder))
    write_adapter(tmp_path / "second", 7)
    session(started(tmp_path, "first", "second"), folder)
    state = read(folder)
    assert set(state.trials) & set(before) == {key for key, (name, _) in before.items() if name == "first"}
    assert set(state.history) == {key for key, (name, _) in before.items() if name == "second"}


STAGED = """\
name: staged
stages:
  - name: one
    recipe: tiny_commerce_sft
    set: {train.max_steps: 6, data.rows: 80}
    space: {optimizer.lr: loguniform(1e-4, 2e-3)}
    search: {trials: 2}
  - name: two
    recipe: tiny_commerce_sft
    start: {top: 2}
    set: {train.max_steps: 6, data.rows: 80}
    space: {optimizer.lr: loguniform(1e-4, 2e-3)}
    search: {trials: 4}
champion: {minimize: val/loss}
"""


def staged(folder: Path) -> Stages:
    (folder / "staged.yaml").write_text(STAGED)
    stages = build_stages(folder / "staged.yaml")
    assert stages is not None
    return stages


def test_a_home_that_has_moved_trains_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = staged(tmp_path)
    trained = session(stages.first, stages.folder_of(0))
    for content, key in enumerate(trained):
        write_adapter(stages.folder_of(0) / "trials" / key / "adapter", content)
    with Ledger(stages.folder_of(0)) as ledger:
        ledger.append("champion", champion={"champion": trained[0], "rule": {"metric": "val/loss"}})
    assert len(session(stages.started(1), stages.folder)) == 4
    before = read(stages.folder)
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("PODIUM_HOME", str(tmp_path / "elsewhere"))
    stages = staged(tmp_path)
    assert session(stages.started(1), stages.folder) == []
    state = read(stages.folder)
    assert set(state.drawn) == set(before.drawn)
    assert set(state.starts) == set(before.starts) == set(trained)
    assert state.history == {}
    for trial in state.drawn.values():
        start = Path(trial.values["start.adapter"])
        assert start.is_relative_to(tmp_path / "elsewhere")
        assert start.parent.name == Path(before.trials[trial.id].values["start.adapter"]).parent.name
