"""What a sweep's judge has said, read back from the run folder: verdicts beside their answers, and comparisons."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipes.files import write_whole
from sweeps.errors import InvalidInput, Problem
from tracking.meters.judge.settings import identity
from tracking.meters.judge.verdicts import Comparison, Verdict, verdict_of
from tracking.state import Evaluation, SweepState

PAIRS = ".pairs.jsonl"  # after the split: the file of comparisons in the run folder's evaluations/
RUBRIC_SCORE = "quality/rubric_score"


@dataclass(frozen=True)
class Judged:
    """An arm's answer to an item, with the verdict; ``by_code`` is the score that a metric gave beside it."""

    item: str
    arm: str
    split: str
    answer: str
    verdict: Verdict
    by_code: float | None = None


@dataclass(frozen=True)
class Pair:
    """Two arms' answers to an item, compared."""

    item: str
    arm_a: str
    arm_b: str
    answer_a: str
    answer_b: str
    comparison: Comparison


def judge_settings(state: SweepState) -> dict[str, Any]:
    """The sweep's ``evaluate.judge`` block.

    Raises:
        InvalidInput: It has none.
    """
    settings = state.spec.get("evaluate", {}).get("judge")
    if not settings:
        raise InvalidInput(Problem(state.name, "the sweep has no judge", "describe one under evaluate.judge"))
    return dict(settings)


def judged(state: SweepState, split: str = "dev") -> list[Judged]:
    """Every answer of a split that the sweep's present judge was asked about, arm by arm.

    Raises:
        InvalidInput: The sweep has no judge, or none of its answers was judged.
    """
    judge = identity(judge_settings(state))
    found = [
        entry
        for evaluation in state.evaluations()
        if evaluation.split == split and identity(evaluation.detail.get("judge")) in (None, judge)
        for entry in _read(state.folder, evaluation)
    ]
    if not found:
        rule = f"no answer of the {split} split has a verdict of the sweep's judge yet"
        raise InvalidInput(Problem(state.name, rule, "`podium status` says how far the sweep is"))
    return found


def _read(folder: Path, evaluation: Evaluation) -> Iterator[Judged]:
    path = folder / (evaluation.items or "")
    for record in _records(path) if path.is_file() else ():
        if "judge" in record:
            verdict, by_code = verdict_of(record["judge"]), record.get("metrics", {}).get(RUBRIC_SCORE)
            yield Judged(str(record["id"]), evaluation.arm, evaluation.split, record["answer"], verdict, by_code)


def write_pairs(folder: Path, split: str, pairs: Sequence[Pair]) -> None:
    """Keep a split's comparisons in a run folder, in one piece, for ``podium judge show``; earlier ones go."""
    write_whole(folder / "evaluations" / f"{split}{PAIRS}", (json.dumps(asdict(pair)) + "\n" for pair in pairs))


def read_pairs(folder: Path, split: str) -> list[Pair]:
    """The comparisons of a split that a run folder holds."""
    path = folder / "evaluations" / f"{split}{PAIRS}"
    records = _records(path) if path.is_file() else ()
    return [Pair(**{**record, "comparison": Comparison(**record["comparison"])}) for record in records]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
