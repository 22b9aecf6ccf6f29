"""The judge as an instrument: scores by a rubric, comparisons in both orders, a panel, a cache, and calibration.

What a caller needs::

    judge = judge_of(settings, cache_dir)      # settings: a sweep's evaluate.judge block as plain values
    verdicts = judge.score_many(items, answers)
    metrics = summary(verdicts)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracking.meters.judge.panel import Panel
from tracking.meters.judge.rubric import RubricJudge
from tracking.meters.judge.settings import identity, members
from tracking.meters.judge.verdicts import (
    Comparison,
    JudgeError,
    Verdict,
    summary,
    summary_of_pairs,
    verdict_of,
)

__all__ = [
    "Comparison",
    "JudgeError",
    "Panel",
    "RubricJudge",
    "Verdict",
    "identity",
    "judge_of",
    "summary",
    "summary_of_pairs",
    "verdict_of",
]


def judge_of(settings: Mapping[str, Any], cache_dir: Path | None) -> RubricJudge | Panel:
    """The judge, or the panel, that a sweep's ``evaluate.judge`` block describes.

    Args:
        settings: The block as plain values.
        cache_dir: Where verdicts are kept, ``cache/judge`` of Podium's home; None keeps none.

    Raises:
        InvalidInput: The environment does not hold a key that is named.
    """
    judges = [RubricJudge(member, cache_dir) for member in members(settings)]
    return Panel(judges) if len(judges) > 1 else judges[0]
