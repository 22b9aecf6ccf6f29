"""A writer may die at any byte: what is left is read as the lines that were whole, and the next writer goes on."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import InvalidInput
from tracking.ledger import FILE_NAME, FORMAT, Ledger, fold, read

SWEEP = {"event": "sweep", "name": "s", "format": FORMAT, "spec": {}, "recipe": {}, "facts": {}}
TRIAL = {"event": "trial", "trial": "a", "number": 0, "values": {"lr": 0.1}, "pool": "p", "max_steps": 9, "repeat": 0}
START = {"event": "start", "trial": "b", "values": {}, "pool": "p", "known": {}, "stage": "sft", "stage_number": 3}
EVENTS: list[dict[str, Any]] = [
    SWEEP,
    {"event": "begin", "host": "größe.example", "pid": 7},
    {"event": "units", "units": {"p": 2}},
    TRIAL,
    {**START, "number": -1, "max_steps": 9, "adapter": "stages/sft/trials/b/adapter", "spent": {"cost/usd": 0.1}},
    {"event": "mlflow", "tracking_uri": "sqlite:///x", "experiment_id": "1"},
    {"event": "state", "trial": "a", "state": "RUNNING"},
    {"event": "report", "trial": "a", "step": 3, "metrics": {"train/loss": 1.5, "val/loss": 1.25}},
    {"event": "adapter", "trial": "a", "folder": "trials/a/adapter"},
    {"event": "state", "trial": "a", "state": "FAILED", "error": "it said:\n\t“no”"},
    {"event": "evaluation", "id": "e", "arm": "a", "split": "dev", "n": 1, "metrics": {"quality/score": 4.0}},
    {"event": "evaluation", "id": "f", "arm": "base", "split": "dev", "n": 1, "metrics": {"quality/score": None}},
    {"event": "cost", "kind": "training", "pool": "p", "unit_s": 1.0, "usd": 0.5, "trial": "a"},
    {"event": "note", "text": "a disk was slow"},
    {"event": "challenge", "read": 1, "arms": ["a", "base"], "n": 1, "rule": None, "why": "it is a loss"},
    {"event": "champion", "champion": {"champion": "a"}},
    {"event": "cross_check", "trial": "a", "check": {"engine": "nemo"}},
    {"event": "export", "export": {"to": "x"}},
    {"event": "end", "status": "PAUSED", "reason": "asked", "code": 0},
    {**SWEEP, "changes": ["search.trials: 1 → 2"], "kept": {"a": {"lr": 0.1}}},
    {"event": "begin", "host": "h", "pid": 8},
    {"event": "end", "status": "DONE", "code": 3},
]
LINES = [
    (json.dumps({"t": float(number), **event}, ensure_ascii=False) + "\n").encode()
    for number, event in enumerate(EVENTS)
]
WHOLE = b"".join(LINES)


def parsed(lines: list[bytes]) -> Any:
    return iter([json.loads(line) for line in lines])


def test_every_kind_of_event_is_among_them() -> None:
    assert {event["event"] for event in EVENTS} == set(re.findall(r"``(\w+)``\s+\(", fold.__doc__ or "")) - {"t"}


@pytest.mark.parametrize("number", range(len(LINES)), ids=[event["event"] for event in EVENTS])
def test_a_ledger_cut_at_any_byte_of_a_line_is_read_and_continued(tmp_path: Path, number: int) -> None:
    path = tmp_path / FILE_NAME
    before = b"".join(LINES[:number])
    for size in range(len(LINES[number])):
        path.write_bytes(before + LINES[number][:size])
        if number == 0:
            with pytest.raises(InvalidInput, match="the ledger holds no sweep"):
                read(tmp_path)
            continue
        assert read(tmp_path) == fold(parsed(LINES[:number]), tmp_path)
        with Ledger(tmp_path) as ledger:
            ledger.append("note", text="goes on")
        left = path.read_bytes()
        assert left.startswith(before), "no whole line is lost"
        assert left.count(b"\n") == number + 1, "the torn one is gone"
        assert read(tmp_path) == fold(parsed(left.splitlines()), tmp_path)
        assert read(tmp_path).notes[-1] == "goes on"
