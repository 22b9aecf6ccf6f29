"""The ledger: what is written is read, whatever happens to the writer."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.errors import InvalidInput
from tracking.ledger import FILE_NAME, FORMAT, Ledger, State, fold, is_open, read

Driver = Any  # tests/tracking/conftest.py


def test_a_sweep_is_read_as_it_was_written(whole_sweep: Driver) -> None:
    state = whole_sweep.state()
    assert (state.name, state.status, state.folder) == ("shoes", "DONE", whole_sweep.folder)
    trial = state.trials["t-aaaa"]
    assert trial.state is State.DONE
    assert (trial.number, trial.step, trial.max_steps, trial.pool) == (0, 40, 40, "cpu")
    assert trial.values == {"optimizer.lr": 1.0, "lora.targets": ["*.q_proj"], "optimizer.name": "adam"}
    assert [report["step"] for report in trial.reports] == [10, 20, 30, 40]
    assert trial.adapter == "trials/t-aaaa/adapter"
    assert trial.started is not None
    assert trial.ended is not None
    assert trial.started <= trial.ended
    assert trial.metrics["quality/score"] == 4.5, "the sealed split does not enter a trial's metrics"
    assert trial.metrics["latency/formulation_p99_s"] is None
    assert state.trials["t-bbbb"].reason == "asha"
    assert state.trials["t-cccc"].error == "loss is NaN"
    assert [evaluation.arm for evaluation in state.evaluations()] == ["t-aaaa", "t-aaaa", "base"]
    assert [entry.kind for entry in state.costs] == ["training", "training", "training", "idle"]
    assert state.champion == {"champion": "t-aaaa"}


def test_the_writer_reads_its_own_last_line(driver: Driver) -> None:
    driver.begin()
    trial = driver.trial(0)
    assert driver.ledger.read().trials[trial].state is State.RUNNING


def test_a_torn_last_line_is_passed_over_and_then_cut_off(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append("sweep", name="s", format=FORMAT, spec={}, recipe={}, facts={})
        ledger.append("end", status="DONE")
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert read(tmp_path).status == "RUNNING"
    with Ledger(tmp_path) as ledger:
        ledger.append("end", status="STOPPED")
    assert read(tmp_path).status == "STOPPED"
    assert len(path.read_bytes().splitlines()) == 2


def test_a_bad_line_in_the_middle_is_named(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.append("sweep", name="s", format=FORMAT, spec={}, recipe={}, facts={})
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write("who wrote this?\n")
        file.write(json.dumps({"event": "end", "t": 1.0, "status": "DONE"}) + "\n")
    with pytest.raises(InvalidInput, match=r"line 2: ledger\.jsonl: not JSON: b'who wrote this"):
        read(tmp_path)


def test_no_ledger_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no ledger\.jsonl here"):
        read(tmp_path)
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(InvalidInput, match="the ledger holds no sweep"):
        read(tmp_path)


def test_what_is_not_a_number_is_never_written(driver: Driver) -> None:
    driver.begin()
    before = driver.ledger.path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        driver.ledger.append("report", trial="t", step=1, metrics={"train/loss": float("nan")})
    assert driver.ledger.path.read_bytes() == before


@pytest.mark.parametrize(
    "line", ["[]", "7", '{"t": 1}', '{"t": 1, "event": "end"}', '{"t": 1, "event": "report", "trial": "x", "step": 1}']
)
def test_a_line_that_is_no_event_is_named(driver: Driver, line: str) -> None:
    driver.begin()
    with driver.ledger.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InvalidInput, match=r"line 2: ledger\.jsonl: no event of a sweep: ") as caught:
        read(driver.folder)
    assert line[:20] in str(caught.value)


FULL = """
import resource, sys
from pathlib import Path
from tracking.ledger import Ledger, LedgerBroken
folder = Path(sys.argv[1])
with Ledger(folder) as ledger:
    size = ledger.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
    ledger.append("note", text="short")
    try:
        ledger.append("note", text="long " * 100)
    except LedgerBroken as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ledger.append("note", text="after")
"""


def test_a_write_that_fails_leaves_no_part_of_itself(driver: Driver) -> None:
    driver.begin()
    driver.ledger.__exit__(None, None, None)
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(driver.folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ledger.jsonl cannot be written: File too large" in run.stdout
    assert f"podium resume {driver.folder.name}" in run.stdout
    assert read(driver.folder).notes == ["short", "after"]


HOLD = "import sys; from pathlib import Path; from tracking.ledger import Ledger\n"
HOLD += "with Ledger(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_one_process_writes_and_others_read(driver: Driver, tmp_path: Path) -> None:
    driver.begin()
    root = str(Path(__file__).parents[2])
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "other")],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        refused = pytest.raises(InvalidInput, match=rf"process {other.pid} on .* is writing this sweep")
        with refused, Ledger(tmp_path / "other"):
            pass
        assert is_open(tmp_path / "other")
    finally:
        other.kill()  # as a machine would: the lock goes with the process
        other.communicate()
    assert not is_open(tmp_path / "other")
    with Ledger(tmp_path / "other") as ledger:
        ledger.append("sweep", name="s", format=FORMAT, spec={}, recipe={}, facts={})
    assert read(driver.folder).name == "shoes", "reading needs no lock"


TRIALS = ("a", "b")
EVENTS = st.one_of(
    st.builds(
        lambda trial, state: {"event": "state", "trial": trial, "state": state},
        st.sampled_from(TRIALS),
        st.sampled_from([state.value for state in State]),
    ),
    st.builds(
        lambda trial, step, loss: {"event": "report", "trial": trial, "step": step, "metrics": {"val/loss": loss}},
        st.sampled_from(TRIALS),
        st.integers(0, 100),
        st.floats(0, 9),
    ),
    st.builds(lambda trial: {"event": "adapter", "trial": trial, "folder": f"trials/{trial}"}, st.sampled_from(TRIALS)),
    st.builds(
        lambda arm, split: {"event": "evaluation", "id": "e", "arm": arm, "split": split, "n": 1, "metrics": {}},
        st.sampled_from([*TRIALS, "base"]),
        st.sampled_from(["dev", "challenge", "latency"]),
    ),
    st.builds(lambda usd: {"event": "cost", "kind": "idle", "pool": "p", "unit_s": 1.0, "usd": usd}, st.floats(0, 9)),
    st.just({"event": "mlflow", "experiment_id": "1"}),
    st.just({"event": "champion", "champion": {"champion": "a"}}),
    st.just({"event": "export", "export": {"folder": "x"}}),
    st.just({"event": "end", "status": "DONE"}),
    st.just({"event": "of a later version", "anything": 1}),
)


@settings(max_examples=50)
@given(st.lists(EVENTS, max_size=12), st.data())
def test_any_prefix_after_the_sweeps_line_can_be_read(events: list[dict[str, Any]], data: st.DataObject) -> None:
    """A writer may die at any byte; what is left is a sweep as it was some lines ago."""
    begin: list[dict[str, Any]] = [
        {"event": "sweep", "name": "s", "format": FORMAT, "spec": {}, "recipe": {}, "facts": {}}
    ]
    begin += [
        {"event": "trial", "trial": trial, "number": number, "values": {}, "pool": "p", "max_steps": 9}
        for number, trial in enumerate(TRIALS)
    ]
    lines = [{"t": float(number), **event} for number, event in enumerate([*begin, *events])]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    first = len(json.dumps(lines[0])) + 1 + sum(len(json.dumps(line)) + 1 for line in lines[1:3])
    cut = data.draw(st.integers(first, len(text)))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE_NAME).write_bytes(text[:cut])
        left = text[:cut].count(b"\n")
        expected = fold(iter(lines[:left]), Path(folder))
        assert read(Path(folder)) == expected


def test_the_time_between_two_sessions_belongs_to_neither(tmp_path: Path) -> None:
    sweep: dict[str, Any] = {"event": "sweep", "name": "s", "format": FORMAT, "spec": {}, "recipe": {}, "facts": {}}
    begin: dict[str, Any] = {"event": "begin", "host": "h", "pid": 1}
    note: dict[str, Any] = {"event": "note", "text": "at work"}
    times = [(0, sweep), (0, begin), (60, note), (36_000, begin), (36_010, note)]
    state = fold(iter([{"t": float(t), **event} for t, event in times]), tmp_path)
    assert [session.last - session.began for session in state.sessions] == [60, 10]
    closed = [*times, (99_000, {"event": "end", "status": "INTERRUPTED", "at": 36_010.0})]
    state = fold(iter([{"t": float(t), **event} for t, event in closed]), tmp_path)
    assert state.sessions[-1].ended == 36_010
    assert state.ended == 99_000


def test_a_trial_that_goes_on_forgets_why_it_had_stopped(driver: Driver) -> None:
    driver.begin()
    trial = driver.trial(0)
    driver.ledger.append("state", trial=trial, state=State.FAILED, error="its evaluation failed: no judge")
    driver.ledger.append("state", trial=trial, state=State.EVALUATING)
    driver.ledger.append("state", trial=trial, state=State.DONE)
    assert driver.state().trials[trial].error is None
    driver.ledger.append("state", trial=trial, state=State.STOPPED, reason="stopped", halted=True)
    driver.ledger.append("state", trial=trial, state=State.EVALUATING, reason="stopped early")
    driver.ledger.append("state", trial=trial, state=State.STOPPED)
    assert not driver.state().trials[trial].halted
