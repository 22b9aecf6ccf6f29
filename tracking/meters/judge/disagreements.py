"""Where a judge is least to be believed: the answers on which it and somebody else are furthest apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tracking.meters.judge.judged import Judged, Pair

Kind = Literal["human", "panel", "metric", "flip"]
KINDS: tuple[Kind, ...] = ("human", "panel", "metric", "flip")
EXCERPT = 160  # characters of an answer that are shown


@dataclass(frozen=True)
class Disagreement:
    """One answer, or pair of answers, on which two opinions differ.

    Attributes:
        kind: With a person's label, within a panel, with the score by code, or of a comparison with itself.
        gap: Points between the two; of a flip, None.
        judge: The judge's score; of a panel, each judge's; of a flip, the tie that it counts as.
        other: The label, or the score by code.
        reasons: The judge's, of a panel and of a flip each one's.
    """

    kind: Kind
    item: str
    arm: str
    gap: float | None
    judge: str
    other: float | None
    answer: str
    reasons: tuple[str, ...]


def worst(
    answers: Sequence[Judged],
    pairs: Sequence[Pair],
    calibration: Mapping[str, Any] | None,
    top: int,
    kinds: Sequence[Kind] = KINDS,
) -> list[Disagreement]:
    """The ``top`` disagreements of each kind, the largest first."""
    found: list[Disagreement] = []
    for kind in kinds:
        several = list(_OF[kind](answers, pairs, calibration))
        found += sorted(several, key=lambda one: -(one.gap or 0))[:top]
    return found


def _with_people(
    answers: Sequence[Judged], pairs: Sequence[Pair], calibration: Mapping[str, Any] | None
) -> Iterator[Disagreement]:
    by_answer = {(entry.item, entry.arm): entry for entry in answers}
    for row in calibration["answers"] if calibration else ():
        entry = by_answer.get((row["item"], row["arm"]))
        score = entry.verdict.score if entry is not None else None
        if entry is not None and score is not None and row["label"] != score:
            yield _of(entry, "human", abs(row["label"] - score), row["label"])


def _within_panels(answers: Sequence[Judged], *_: Any) -> Iterator[Disagreement]:
    for entry in answers:
        scores = [part.score for part in entry.verdict.panel if part.score is not None]
        if scores and max(scores) > min(scores):
            yield _of(entry, "panel", max(scores) - min(scores), None)


def _with_code(answers: Sequence[Judged], *_: Any) -> Iterator[Disagreement]:
    for entry in answers:
        score = entry.verdict.score
        if score is not None and entry.by_code is not None and score != entry.by_code:
            yield _of(entry, "metric", abs(score - entry.by_code), entry.by_code)


def _with_itself(answers: Sequence[Judged], pairs: Sequence[Pair], *_: Any) -> Iterator[Disagreement]:
    for pair in pairs:
        if pair.comparison.flipped:
            both = f"{_short(pair.answer_a)} ↔ {_short(pair.answer_b)}"
            arms = f"{pair.arm_a} ↔ {pair.arm_b}"
            yield Disagreement("flip", pair.item, arms, None, "tie", None, both, tuple(pair.comparison.reasons))


_OF = {"human": _with_people, "panel": _within_panels, "metric": _with_code, "flip": _with_itself}


def _of(entry: Judged, kind: Kind, gap: float, other: float | None) -> Disagreement:
    parts = entry.verdict.panel or (entry.verdict,)
    scores = " / ".join("–" if part.score is None else f"{part.score:g}" for part in parts)
    reasons = tuple(f"{part.judge}: {part.reason}" if len(parts) > 1 else part.reason for part in parts)
    return Disagreement(kind, entry.item, entry.arm, gap, scores, other, _short(entry.answer), reasons)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"
