"""Every case of ``bad_cases``: one clear message, the documented exit code, no traceback, nothing started or lost."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.launchers.bad_cases import CASES, PAGE, page
from tests.launchers.forked import Forks
from tests.launchers.stage import BEGIN, END, GRID, ROWS, SWEEP, Arrange, Case, Stage, ledger, row, rows, yaml


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as running:
        yield running


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A folder with a sweep that is right."""
    with ExitStack() as stack:
        made = Stage(tmp_path, stack)
        made.write("small.yaml", SWEEP)
        made.write("rows.jsonl", ROWS)
        yield made


def run(forks: Forks, stage: Stage, *command: str, limit_s: int = 60) -> tuple[int, str, str]:
    arguments = (str(stage.here / "small.yaml") if word == "SWEEP" else stage.fill(word) for word in command)
    done = forks.podium(stage.home, *arguments, more=stage.environment, limit_s=limit_s)
    return done.returncode, done.stdout, done.stderr


def files(stage: Stage) -> dict[str, int]:
    """What lies in the folder, with its size."""
    return {str(path): path.stat().st_size for path in stage.here.rglob("*") if path.is_file()}


def case_id(case: Case) -> str:
    return f"{case.command[0]}: {case.what}"


@pytest.mark.parametrize("case", [case for case in CASES if not case.slow], ids=case_id)
def test_what_is_wrong_is_told(forks: Forks, stage: Stage, case: Case) -> None:
    if case.arrange:
        case.arrange(stage)
    before = files(stage)
    code, out, err = run(forks, stage, *case.command)
    assert stage.fill(case.told) in err, err
    assert code == case.code, err
    assert out == ""
    assert "Traceback" not in err
    after = files(stage)
    assert before.items() <= after.items(), "nothing is lost"
    started = [path for path in after if path.endswith("ledger.jsonl") and path not in before]
    if started:  # a cluster can be looked at only when it is there
        assert case.told.startswith("pools:"), started


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case.slow], ids=case_id)
def test_what_goes_wrong_while_a_sweep_runs_fails_one_trial_and_not_the_sweep(
    forks: Forks, stage: Stage, case: Case
) -> None:
    from tracking.ledger import State, read

    assert case.arrange
    case.arrange(stage)
    code, _, err = run(forks, stage, *case.command, limit_s=280)
    assert code == case.code, err
    assert "Traceback" not in err
    state = read(stage.home / "runs" / "small")
    errors = [str(trial.error) for trial in state.trials.values() if trial.state is State.FAILED]
    assert errors
    assert all(stage.fill(case.told) in error for error in errors), errors
    assert len(state.trials) == 3
    assert state.champion is not None, "the others go on"


def test_the_page_is_made_of_these_cases() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.launchers.bad_cases`"


def test_every_problem_is_told_at_once(forks: Forks, stage: Stage) -> None:
    """The sweep, its files and its data in one go, as far as one does not hide the other."""
    stage.write("small.yaml", SWEEP.replace("trials: 3", "trials: 0") + "evaluate: {metrics: ['gone.py:f']}\n")
    rows(ROWS + "hello\n[]\n")(stage)
    code, _, err = run(forks, stage, "plan", "SWEEP")
    assert code == 2
    for told in ("4 problems", "line 7: search.trials", "line 9: evaluate.metrics", "near 'hello'", "got list"):
        assert told in err, err


@pytest.mark.parametrize(
    ("arrange", "command"),
    [
        (rows(b"\xef\xbb\xbf" + ROWS.encode()), ()),
        (rows(ROWS.replace("\n", "\r\n")), ()),
        (row(prompt="x", completion="\U0001f600", note="\U0001f600"), ()),
        (yaml("\ufeff" + SWEEP), ()),
        (yaml(SWEEP.replace("\n", "\r\n")), ()),
        (yaml(SWEEP.replace("set: {", "set: {optimizer.lr: 1e-5, ")), ()),
        (yaml(SWEEP), ("set.optimizer.lr=1e-5",)),
        (yaml(SWEEP), (*GRID, "--yes")),
    ],
    ids=["rows with BOM", "rows with CRLF", "emoji", "YAML with BOM", "YAML with CRLF", "1e-5", "1e-5 set", "--yes"],
)
def test_what_only_looks_wrong_is_taken(forks: Forks, stage: Stage, arrange: Arrange, command: tuple[str, ...]) -> None:
    arrange(stage)
    code, out, err = run(forks, stage, "plan", "SWEEP", *command, "-o", "csv")
    assert code == 0, err
    assert out.startswith("number,id,pool")


def test_a_torn_last_line_of_a_ledger_is_no_mistake(forks: Forks, stage: Stage) -> None:
    ledger(BEGIN, END)(stage)
    path = stage.home / "runs" / "small" / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:-4])
    code, out, err = run(forks, stage, "status", "small", "-o", "json")
    assert code == 0, err
    assert json.loads(out)["status"] != "DONE", "the end was not written whole"
