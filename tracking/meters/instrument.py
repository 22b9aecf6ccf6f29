"""How good the instrument is that scores the answers: what it says of right answers, and of the same with a defect.

A defect is found where a gate catches it, or where the planted answer scores at least ``drop`` levels below the clean
one. A false alarm is a clean answer that fails a gate or scores below ``clean``. The clean answers are the data's own
right ones, of rows that nobody trained on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sweeps.errors import InvalidInput
from sweeps.evaluating import Defects
from tracking.meters.defects import Defect
from tracking.meters.judge import Panel, RubricJudge
from tracking.meters.metrics import Item, Metric, row_of
from tracking.meters.quality import RUBRIC_SCORE, SCORE, TooMuchMissing, score_answers

CLEAN = "clean"  # what a clean answer is called where a defect's name would stand
LEVELS = 5.0
_SCORES = (SCORE, "quality/field_f1", "quality/exact_match", "quality/json_valid")
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Reading:
    """What one scorer makes of one defect, or of clean answers.

    Attributes:
        scorer: "judge" or "code".
        defect: Its name; ``clean`` for the false alarms.
        n: Answers that were scored.
        found: How many of them were found to be wrong.
        missing: Answers without a score, beside those.
        low, high: The 95 % Wilson interval of ``found / n``; None without any.
        limit: The least share that should be found; of clean answers, the most.
        skipped: Why there is no reading.
    """

    scorer: str
    defect: str
    n: int
    found: int
    missing: int
    low: float | None
    high: float | None
    limit: float
    skipped: str | None = None

    @property
    def rate(self) -> float | None:
        """``found / n``."""
        return self.found / self.n if self.n else None


@dataclass(frozen=True)
class Readings:
    """The readings of an instrument, and every answer that they were taken from.

    Attributes:
        planted: One record an answer: ``id``, ``defect``, ``answer``, ``metrics``, and ``found``, by scorer; ``gate``,
            ``judge`` and ``errors`` as in :class:`tracking.meters.quality.QualityResult`.
        judged: What the judge's verdicts came to, by name.
    """

    readings: list[Reading]
    planted: list[dict[str, Any]]
    judged: dict[str, float | None] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, float | None]:
        """By the names under which they are recorded: those of the scorer that counts, and what its verdicts cost."""
        counts = [one for one in self.readings if one.scorer == self.readings[0].scorer and one.skipped is None]
        named = {
            "defect/false_alarms" if one.defect == CLEAN else f"defect/{one.defect}_detected": one for one in counts
        }
        return {**{name: one.rate for name, one in named.items()}, **self.judged}

    def to_dicts(self) -> list[dict[str, Any]]:
        """The readings as plain values."""
        return [asdict(reading) for reading in self.readings]


def take_readings(
    items: Sequence[Item],
    defects: Sequence[Defect],
    settings: Defects,
    metrics: Sequence[Metric],
    judge: RubricJudge | Panel | None = None,
    gates: Sequence[Metric] = (),
    max_missing: float = 0.0,
) -> Readings:
    """Plant the defects in right answers, and score them and the clean ones as any others are.

    With a judge there are two scorers where code gives a score too: the judge, which counts, and the code beside it.

    Args:
        items: Of which the first ``settings.rows`` are used.
        settings: What counts as found, and the limits.
        max_missing: The share of rows in which a defect of the user's own may fail.

    Raises:
        TooMuchMissing: It fails in more.
        ServiceUnreachable, JudgeError: The judge as a whole gives no verdicts.
    """
    items = items[: settings.rows]
    planted = [(CLEAN, place, item.reference) for place, item in enumerate(items)]
    errors: list[dict[str, Any]] = []
    for defect in defects:
        planted += [(defect.name, place, text) for place, text in _plant(defect, items, max_missing, errors)]
    # However many planted answers a metric cannot score: that is a reading, and is counted.
    answered, answers = [items[place] for _, place, _ in planted], [text for _, _, text in planted]
    scored = score_answers(answered, answers, metrics, judge, gates, max_missing=1.0)
    records = [
        {"defect": name, **{key: value for key, value in record.items() if key not in ("messages", "reference", "row")}}
        for (name, _, _), record in zip(planted, scored.per_item, strict=True)
    ]
    pairs = [(record, records[place]) for record, (_, place, _) in zip(records, planted, strict=True)]
    readings = []
    for scorer, name in _scorers(records, judge is not None):
        for record, clean in pairs:
            record.setdefault("found", {})[scorer] = _found(record, clean, name, settings)
        readings.append(_reading(records, scorer, CLEAN, settings.false_alarms, None))
        readings += [_reading(records, scorer, one.name, settings.detected, one.needs) for one in defects]
    judged = {name: value for name, value in scored.metrics.items() if name.startswith("judge/")}
    return Readings(readings, records, judged, [*errors, *scored.errors])


def _plant(
    defect: Defect, items: Sequence[Item], max_missing: float, errors: list[dict[str, Any]]
) -> list[tuple[int, str]]:
    planted, failed = [], []
    for place, item in enumerate(items):
        try:
            text = defect.plant(row_of(item), item.reference)
        except InvalidInput as error:
            failed.append(str(error))
            continue
        if text is not None:
            planted.append((place, text))
    if failed:
        errors.append({"count": len(failed), "first": failed[0]})
    if len(failed) > max_missing * len(items):
        raise TooMuchMissing(f"{failed[0]}; so it fails in {len(failed)} of {len(items)} rows")
    return planted


def _scorers(records: Sequence[dict[str, Any]], judged: bool) -> list[tuple[str, str]]:
    """Who scored, and under which name; the one that counts first. Perhaps nobody: not every metric is a score."""
    names = {name for record in records for name in record["metrics"]}
    by_code = next((name for name in _SCORES if name in names), None)
    if not judged:
        return [("code", by_code)] if by_code is not None else []
    return [("judge", SCORE), *([("code", RUBRIC_SCORE)] if RUBRIC_SCORE in names else [])]


def _found(record: dict[str, Any], clean: dict[str, Any], name: str, settings: Defects) -> bool | None:
    """Whether a score finds something wrong with an answer; None where there is no score."""
    if "gate" in record and (record is clean or "gate" not in clean):
        return True
    level, before = _level(record, name), _level(clean, name)
    if level is None or before is None:
        return None
    return level < settings.clean - _ROUNDING if record is clean else before - level >= settings.drop - _ROUNDING


def _level(record: dict[str, Any], name: str) -> float | None:
    value = record["metrics"].get(name)
    if value is None:
        return None
    return float(value) if name in (SCORE, RUBRIC_SCORE) else float(value) * LEVELS


def _reading(records: Sequence[dict[str, Any]], scorer: str, defect: str, limit: float, needs: str | None) -> Reading:
    marks = [record["found"][scorer] for record in records if record["defect"] == defect]
    known = [mark for mark in marks if mark is not None]
    low, high = wilson(sum(known), len(known))
    skipped = f"applies to no row: {needs}" if needs is not None and not marks else None
    return Reading(scorer, defect, len(known), sum(known), len(marks) - len(known), low, high, limit, skipped)


def wilson(found: int, n: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share, by Wilson's score; None for no n.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    if n == 0:
        return None, None
    from scipy.stats import binomtest

    interval = binomtest(found, n).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)
