"""The quality of a set of answers: the mean of every metric over the items that have it, and the items themselves."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracking.meters.judge import RubricJudge
from tracking.meters.metrics import Item, Metric

SCORE = "quality/score"
RUBRIC_SCORE = "quality/rubric_score"  # the score that code gave, where a judge gives the one that counts


@dataclass(frozen=True)
class QualityResult:
    """``metrics`` are means; ``counts`` say over how many items where that is fewer than ``n``. No NaN anywhere."""

    metrics: dict[str, float]
    per_item: list[
        dict[str, Any]
    ]  # id, messages, reference, row, answer, metrics, and judge (score, reason) if there is one
    n: int
    counts: dict[str, int] = field(default_factory=dict)

    def write_items(self, path: Path) -> None:
        """Write ``per_item`` as JSONL, in one piece: a reader never sees half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".part")
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in self.per_item)
        draft.write_text("".join(lines), encoding="utf-8")
        draft.replace(path)


def score_answers(
    items: Sequence[Item], answers: Sequence[str], metrics: Sequence[Metric], judge: RubricJudge | None = None
) -> QualityResult:
    """Score ``answers[i]`` as the answer to ``items[i]``.

    With a judge, ``quality/score`` is the mean of its verdicts, and a score that a metric gives by code moves to
    ``quality/rubric_score``.

    Raises:
        InvalidInput: A metric cannot score the data, or a user's own fails.
        JudgeError: The judge gave no valid verdict on some item.
    """
    assert len(items) == len(answers), f"{len(items)} items, but {len(answers)} answers"
    verdicts = judge.score_many(items, answers) if judge is not None else None
    per_item: list[dict[str, Any]] = []
    values: dict[str, list[float]] = {}
    for number, (item, answer) in enumerate(zip(items, answers, strict=True)):
        scores: dict[str, float] = {}
        for metric in metrics:
            scores.update(metric(item, answer))
        record: dict[str, Any] = {
            "id": item.id,
            "messages": list(item.messages),
            "reference": item.reference,
            "row": item.row,
            "answer": answer,
            "metrics": scores,
        }
        if verdicts is not None:
            if SCORE in scores:
                scores[RUBRIC_SCORE] = scores.pop(SCORE)
            scores[SCORE] = float(verdicts[number].score)
            record["judge"] = {"score": verdicts[number].score, "reason": verdicts[number].reason}
        per_item.append(record)
        for key, value in scores.items():
            values.setdefault(key, []).append(value)
    means = {key: math.fsum(found) / len(found) for key, found in values.items()}
    counts = {key: len(found) for key, found in values.items() if len(found) < len(items)}
    return QualityResult(means, per_item, len(items), counts)
