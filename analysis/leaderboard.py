"""The leaderboard: every trial of a sweep in the order of the champion's rule."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.champion import Verdict, judge, order
from analysis.frame import frame, swept_keys
from analysis.plain import records
from analysis.rule import LOSS, QUALITY, Rule, effective_rule
from tracking.ledger import SweepState

_LATENCY = ("latency/formulation_p50_s", "latency/formulation_p95_s", "latency/agent_p95_s", "latency/ttft_p95_s")
_COST = ("cost/usd", "cost/gpu_s", "cost/usd_per_1k_requests")


@dataclass(frozen=True)
class Leaderboard:
    """Ranked trials.

    Attributes:
        rule: What ranks them.
        note: A sentence where the rule is not the one that the sweep asked for.
        table: Columns ``rank number id state qualified objective``, metrics by name, the swept values by path, and
            ``failed`` (why a trial does not qualify). ``rank`` is null for trials that do not qualify; ties share one.
        swept: The columns that are swept keys.
    """

    rule: Rule
    note: str | None
    table: pd.DataFrame
    swept: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what was not measured is None."""
        return {"rule": self.rule.to_dict(), "note": self.note, "swept": list(self.swept), "rows": records(self.table)}

    def to_csv(self) -> str:
        """The table as CSV with a header; what was not measured is empty, reasons are joined by ``; ``."""
        flat = self.table.assign(failed=["; ".join(reasons) for reasons in self.table["failed"]])
        return str(flat.to_csv(index=False))


def leaderboard(state: SweepState, rule: Rule | None = None) -> Leaderboard:
    """Rank every trial: those that qualify first, then by the objective, ties (equal to 12 decimals) at the same rank.

    Equal ranks are followed by a gap (1, 1, 3). Works at any time: a trial that still runs does not qualify yet.
    """
    rule, note = effective_rule(state, rule)
    verdicts = judge(state, rule)
    ordered = order(state, rule, verdicts)
    facts = frame(state).loc[ordered]
    keys = swept_keys(state)
    table = pd.DataFrame(
        {
            "rank": pd.array(_ranks(rule, [verdicts[trial] for trial in ordered]), dtype="Int64"),
            "number": facts["number"].to_numpy(),
            "id": ordered,
            "state": facts["state"].to_numpy(),
            "qualified": [verdicts[trial].qualified for trial in ordered],
            "objective": [math.nan if (value := verdicts[trial].objective) is None else value for trial in ordered],
        }
    )
    for name in [*_shown(list(facts.columns), rule), *keys]:
        table[name] = facts[name].to_numpy()
    table["failed"] = [list(verdicts[trial].failures) for trial in ordered]
    return Leaderboard(rule, note, table, tuple(keys))


def _ranks(rule: Rule, verdicts: list[Verdict]) -> list[int | None]:
    ranks: list[int | None] = []
    previous: float | None = None
    for position, verdict in enumerate(verdicts, start=1):
        if not verdict.qualified or verdict.objective is None:
            ranks.append(None)
            continue
        goodness = rule.goodness(verdict.objective)
        ranks.append(ranks[-1] if previous == goodness else position)
        previous = goodness
    return ranks


def _shown(columns: list[str], rule: Rule) -> list[str]:
    """The metrics worth a column: loss, all of quality, latencies and costs by name, and what the rule names."""
    named = {rule.metric, *(constraint.metric for constraint in rule.constraints)}
    quality = [name for name in columns if name.startswith(QUALITY)]
    wanted = [LOSS, *quality, *_LATENCY, *sorted(named - set(quality)), *_COST]
    return [name for name in dict.fromkeys(wanted) if name in columns]
