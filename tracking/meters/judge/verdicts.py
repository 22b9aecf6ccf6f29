"""What a judge says of an answer, or of two, and what a list of that comes to."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from sweeps.errors import PodiumError
from tracking.meters.judge.agreement import kappa

LOWEST, HIGHEST = 0, 5


class JudgeError(PodiumError):
    """The judge gives no valid verdicts."""


@dataclass(frozen=True)
class Verdict:
    """A judge's score of one answer.

    Attributes:
        score: 0–5, whole for one judge, a mean for a panel; None where there is no valid verdict.
        reason: The judge's own, written before the score.
        error: Why there is no score. Of a panel, also why some of its judges gave none.
        tokens_in, tokens_out: Of all replies that this verdict took; None where the server does not tell.
        usd: Their price; None where tokens or prices are unknown.
        cached: Taken from the cache: ``tokens_in``, ``tokens_out`` and ``usd`` were paid earlier.
        judge: The model's name.
        served: What the server called itself when it answered.
        panel: The verdicts of a panel's judges, in its order.
    """

    score: float | None
    reason: str = ""
    error: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    usd: float | None = None
    cached: bool = False
    judge: str = ""
    served: str | None = None
    panel: tuple["Verdict", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As it stands beside its answer in an evaluation's file; what is empty is left out, but for the score."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "panel"}
        told = {key: value for key, value in values.items() if key == "score" or value not in (None, "", False)}
        return {**told, "panel": [part.to_dict() for part in self.panel]} if self.panel else told


@dataclass(frozen=True)
class Comparison:
    """A judge's verdict on two answers, asked in both orders. One that changes with the order is a tie, as in MT-Bench.

    Source: Zheng et al., Judging LLM-as-a-judge with MT-Bench and Chatbot Arena (2023), section 3.4.

    Attributes:
        winner: None where an order has no valid verdict.
        flipped: The verdict changed with the order.
        reasons: Of the order a–b, and of b–a.
        identical: Both answers are the same text: a tie that nobody was asked about.
    """

    winner: Literal["a", "b", "tie"] | None
    flipped: bool = False
    reasons: tuple[str, ...] = ()
    error: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    usd: float | None = None
    cached: bool = False
    identical: bool = False


def total(values: Iterable[int | float | None]) -> Any:
    """Their sum; None where one of them is unknown."""
    found = list(values)
    return None if any(value is None for value in found) else sum(value for value in found if value is not None)


def summary(verdicts: Sequence[Verdict]) -> dict[str, float | None]:
    """The metrics of an evaluation's verdicts.

    ``judge/missing`` and ``judge/cached`` are shares of the items; ``judge/tokens`` and ``judge/usd`` what was paid for
    now, ``judge/usd_saved`` what the verdicts from the cache had cost; None where the server or the sweep does not
    tell. Of a panel also ``judge/panel_missing``, the share of its single verdicts, ``judge/disagreement``, the mean
    absolute difference of two judges on an item, in points, and ``judge/panel_kappa``, the mean quadratic kappa of two
    judges.
    """
    if not verdicts:
        return {}
    single = [part for verdict in verdicts for part in (verdict.panel or (verdict,))]
    paid = [verdict for verdict in single if not verdict.cached]
    told: dict[str, float | None] = {
        "judge/missing": _share(verdict.score is None for verdict in verdicts),
        "judge/cached": _share(verdict.cached for verdict in single),
        "judge/tokens": total(tokens for one in paid for tokens in (one.tokens_in, one.tokens_out)),
        "judge/usd": total(verdict.usd for verdict in paid),
        "judge/usd_saved": total(verdict.usd for verdict in single if verdict.cached),
    }
    if any(verdict.panel for verdict in verdicts):
        told["judge/panel_missing"] = _share(verdict.score is None for verdict in single)
        told["judge/disagreement"] = _mean([disagreement(verdict) for verdict in verdicts])
        told["judge/panel_kappa"] = _panel_kappa(verdicts)
    return told


def summary_of_pairs(comparisons: Sequence[Comparison]) -> dict[str, float | None]:
    """The same of pairwise verdicts, with ``judge/flip_rate``: the share that changes with the order.

    Pairs of identical answers, which nobody was asked about, count for nothing here.
    """
    asked = [one for one in comparisons if not one.identical]
    if not asked:
        return {}
    paid = [one for one in asked if not one.cached]
    judged = [one.flipped for one in asked if one.winner is not None]
    return {
        "judge/flip_rate": _share(judged) if judged else None,
        "judge/missing": _share(one.winner is None for one in asked),
        "judge/cached": _share(one.cached for one in asked),
        "judge/tokens": total(tokens for one in paid for tokens in (one.tokens_in, one.tokens_out)),
        "judge/usd": total(one.usd for one in paid),
        "judge/usd_saved": total(one.usd for one in asked if one.cached),
    }


def disagreement(verdict: Verdict) -> float | None:
    """The mean absolute difference of two judges of a panel on one item, in points; None with fewer than two scores."""
    scores = [part.score for part in verdict.panel if part.score is not None]
    return _mean([abs(one - other) for one, other in itertools.combinations(scores, 2)])


def _panel_kappa(verdicts: Sequence[Verdict]) -> float | None:
    size = max(len(verdict.panel) for verdict in verdicts)
    found = []
    for one, other in itertools.combinations(range(size), 2):
        scores = [(verdict.panel[one].score, verdict.panel[other].score) for verdict in verdicts if verdict.panel]
        both = [(x, y) for x, y in scores if x is not None and y is not None]
        found.append(kappa([x for x, _ in both], [y for _, y in both]))
    return _mean(found)


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found)


def verdict_of(record: Mapping[str, Any]) -> Verdict:
    """The verdict that :meth:`Verdict.to_dict` wrote."""
    known = {field.name for field in fields(Verdict)}
    values = {key: value for key, value in record.items() if key in known and key != "panel"}
    return Verdict(**{"score": None, **values}, panel=tuple(map(verdict_of, record.get("panel", ()))))
