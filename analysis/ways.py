"""The best trials, answered in the other way: free where they were measured guided, guided where they were free."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from analysis.decision.bootstrap import estimate
from analysis.decision.scores import read_scores
from analysis.rule import effective_rule
from tracking.ledger import Evaluation, SweepState
from tracking.state import FREE, GUIDED

WORDS = {GUIDED: "guided by the schema", FREE: "free"}


@dataclass(frozen=True)
class Way:
    """A trial on the same dev items, in another way than it was measured in.

    Attributes:
        arm: Its name in the ledger.
        metric: By which the sweep chooses.
        measured: Its mean in the way in which the trial was measured; ``other`` in this one.
        interval: Of the difference of the two, item by item, at 95 %; None where too few differ.
    """

    arm: str
    trial: str
    label: str
    metric: str
    n: int
    measured: float | None
    other: float | None
    interval: tuple[float, float] | None

    @property
    def difference(self) -> str | None:
        """The interval in words: ``-0.25 to +0.5``."""
        if self.interval is None:
            return None
        return " to ".join(f"{end:+.3g}" if end else "0" for end in self.interval)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def other_ways(state: SweepState) -> list[Way]:
    """Of the present trials, those that were answered in the other way on the items that they were measured on."""
    metric = effective_rule(state, None)[0].metric
    found = []
    for arm, evaluations in state.arms.items():
        suffix = next((suffix for suffix in WORDS if arm.endswith(suffix)), "")
        trial = state.trials.get(arm.removesuffix(suffix)) if suffix else None
        other = next((one for one in evaluations if one.split == "dev"), None)
        measured = next((one for one in trial.evaluations if one.split == "dev"), None) if trial else None
        if trial is None or other is None or measured is None or other.n != measured.n:
            continue
        values = measured.metrics.get(metric), other.metrics.get(metric)
        label, interval = f"{trial.title}, {WORDS[suffix]}", _difference(state, measured, other, metric)
        found.append(Way(arm, trial.id, label, metric, other.n, *values, interval))
    return found


def _difference(state: SweepState, measured: Evaluation, other: Evaluation, metric: str) -> tuple[float, float] | None:
    if None in (measured.metrics.get(metric), other.metrics.get(metric)) or not (measured.items and other.items):
        return None
    before, after = (read_scores(state.folder / str(one.items), metric) for one in (measured, other))
    pairs = [(before[item], after[item]) for item in before if item in after]
    found = estimate([late - early for early, late in pairs if early is not None and late is not None]).interval()
    return found if found is not None and all(map(math.isfinite, found)) else None  # too few of them differ


def in_words(state: SweepState) -> list[str]:
    """A sentence for each."""
    return [
        f"{way.label}: {way.metric} {way.other:.4g} on dev, as measured {way.measured:.4g} (n = {way.n}"
        + (f"; difference {way.difference} at 95 %)" if way.difference else ")")
        for way in other_ways(state)
        if way.other is not None and way.measured is not None
    ]
