"""The quality of a set of answers: gates, metrics by code, then a judge; the mean of each, and the items themselves.

What is known for nothing comes first: an answer that fails a gate is sent to no judge, and where code already fails on
too many answers no judge is asked at all. A value that could not be had is missing: None beside its answer, with the
error, left out of the mean and counted. It is never a zero.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.files import write_whole
from sweeps.errors import InvalidInput, PodiumError
from tracking.meters.gates import GATE
from tracking.meters.judge import Panel, RubricJudge, Verdict, summary
from tracking.meters.judge.verdicts import LOWEST
from tracking.meters.metrics import Item, Metric

SCORE = "quality/score"
RUBRIC_SCORE = "quality/rubric_score"  # the score that code gave, where a judge gives the one that counts


class TooMuchMissing(PodiumError):
    """So many values of a metric are missing that its mean says little. The message begins with the first error."""


@dataclass(frozen=True)
class QualityResult:
    """Means, and what they were made of. No NaN anywhere.

    Attributes:
        metrics: Means by name; a gate's is the share of answers that pass. None where a judge's server does not tell.
        per_item: For each answer ``id``, ``messages``, ``reference``, ``row``, ``answer`` and ``metrics`` (None where
            a value is missing); ``errors`` where something went wrong; ``gate`` (``failed``, and ``without``: the score
            by code that the gate replaced) where a gate failed; ``judge`` (the verdict) where one was asked.
        n: Answers.
        counts: Over how many answers a mean is, where that is fewer than ``n``.
        missing: How many values are missing, by metric.
        errors: For each function or judge that failed: ``count``, and the ``first`` error.
    """

    metrics: dict[str, float | None]
    per_item: list[dict[str, Any]]
    n: int
    counts: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def write_items(self, path: Path) -> None:
        """Write ``per_item`` as JSONL, in one piece: a reader never sees half of it."""
        write_jsonl(self.per_item, path)


def write_jsonl(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows as JSONL, in one piece."""
    write_whole(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def score_answers(
    items: Sequence[Item],
    answers: Sequence[str],
    metrics: Sequence[Metric],
    judge: RubricJudge | Panel | None = None,
    gates: Sequence[Metric] = (),
    max_missing: float = 0.0,
) -> QualityResult:
    """Score ``answers[i]`` as the answer to ``items[i]``.

    With a judge, ``quality/score`` is the mean of its verdicts, and a score that a metric gives by code moves to
    ``quality/rubric_score``. An answer that fails a gate has the lowest ``quality/score``, 0, and no judge sees it; its
    other metrics stay what they are. Where a gate gives no answer, the score is missing.

    Args:
        gates: As :func:`tracking.meters.gates.load_gate` gives them.
        max_missing: The share of one metric's values, or of the verdicts that were asked for, that may be missing.

    Raises:
        TooMuchMissing: More are.
        ServiceUnreachable, JudgeError: The judge as a whole gives no verdicts.
    """
    assert len(items) == len(answers), f"{len(items)} items, but {len(answers)} answers"
    sheet = _Sheet(items, answers, max_missing)
    for gate in gates:
        sheet.fill(gate)
    for metric in metrics:
        sheet.fill(metric)
    if judge is not None:
        for record in sheet.records:
            if SCORE in record["metrics"]:
                record["metrics"][RUBRIC_SCORE] = record["metrics"].pop(SCORE)
    passing = sheet.apply_gates(judge is not None or any(SCORE in record["metrics"] for record in sheet.records))
    verdicts = sheet.ask(judge, passing) if judge is not None else []
    return sheet.result(summary(verdicts))


class _Sheet:
    """The records of a set of answers while they are filled in."""

    def __init__(self, items: Sequence[Item], answers: Sequence[str], max_missing: float) -> None:
        self._items, self._answers, self._max_missing = items, answers, max_missing
        self._errors: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = [
            {
                "id": item.id,
                "messages": list(item.messages),
                "reference": item.reference,
                "row": item.row,
                "answer": answer,
                "metrics": {},
            }
            for item, answer in zip(items, answers, strict=True)
        ]

    def fill(self, metric: Metric) -> None:
        """Enter a metric's values; where it fails, None for every name that it gives elsewhere."""
        failed: list[tuple[dict[str, Any], str]] = []
        names: dict[str, None] = {}
        for item, answer, record in zip(self._items, self._answers, self.records, strict=True):
            try:
                values = metric(item, answer)
            except InvalidInput as error:
                failed.append((record, str(error)))
            else:
                record["metrics"].update(values)
                names.update(dict.fromkeys(values))
        for record, text in failed:
            record["metrics"].update(dict.fromkeys(names))
            record.setdefault("errors", []).append(text)
        self._note([text for _, text in failed], len(self.records))

    def apply_gates(self, scored: bool) -> list[int]:
        """Give answers that fail a gate the lowest score, if there is any; return the places of those that pass all."""
        passing = []
        for place, record in enumerate(self.records):
            values = record["metrics"]
            gates = {name: value for name, value in values.items() if name.startswith(GATE)}
            failed = [name.removeprefix(GATE) for name, value in gates.items() if value == 0]
            if failed:
                without = {"without": values[SCORE]} if SCORE in values else {}
                record["gate"] = {"failed": failed, **without}
            if scored and (failed or None in gates.values()):
                values[SCORE] = float(LOWEST) if failed else None
            elif not failed:
                passing.append(place)
        return passing

    def ask(self, judge: RubricJudge | Panel, places: Sequence[int]) -> list[Verdict]:
        """Enter the judge's verdicts on these answers."""
        verdicts = judge.score_many([self._items[at] for at in places], [self._answers[at] for at in places])
        for place, verdict in zip(places, verdicts, strict=True):
            record = self.records[place]
            record["metrics"][SCORE] = verdict.score
            record["judge"] = verdict.to_dict()
            if verdict.score is None:
                record.setdefault("errors", []).append(verdict.error or "the judge gave no verdict")
        lost = [verdict.error or "the judge gave no verdict" for verdict in verdicts if verdict.score is None]
        self._note(lost, len(places))
        return verdicts

    def result(self, judged: dict[str, float | None]) -> QualityResult:
        """The means of everything that was entered, beside what the verdicts came to."""
        values: dict[str, list[float]] = {}
        missing: Counter[str] = Counter()
        for record in self.records:
            for name, value in record["metrics"].items():
                if value is None:
                    missing[name] += 1
                else:
                    values.setdefault(name, []).append(value)
        means: dict[str, float | None] = {name: math.fsum(found) / len(found) for name, found in values.items()}
        counts = {name: len(found) for name, found in values.items() if len(found) < len(self.records)}
        return QualityResult(
            {**means, **judged}, self.records, len(self.records), counts, dict(missing), list(self._errors)
        )

    def _note(self, errors: Sequence[str], asked: int) -> None:
        """Keep what went wrong.

        Raises:
            TooMuchMissing: It went wrong too often.
        """
        if not errors:
            return
        self._errors.append({"count": len(errors), "first": errors[0]})
        if len(errors) > self._max_missing * asked:
            limit = f"at most {self._max_missing:.0%} may be (evaluate.max_missing)"
            raise TooMuchMissing(f"{errors[0]}; so {len(errors)} of {asked} values are missing, {limit}")
