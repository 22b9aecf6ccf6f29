"""The leaderboard: every trial of a sweep in the order of the champion's rule."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.champion import Verdict, judge, order
from analysis.comparison import standing
from analysis.decision.front import front
from analysis.frame import frame, swept_keys, trial_metrics
from analysis.plain import plain, records
from analysis.rule import ACCURACY, CHANGE, LOSS, QUALITY, Mode, Rule, effective_rule
from analysis.ways import other_ways
from sweeps.metrics import warning
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
            ``failed`` (why a trial does not qualify), and ``warning`` (what its figures warn of) where there is any.
            ``rank`` is null for trials that do not qualify; ties share one.
            In a sweep of several stages ``stage`` is the one that has trained a trial, and ``number`` its number there.
            After a search by several metrics ``front`` marks the qualified trials that no other beats in all of them.
        swept: The columns that are swept keys.
        arms: What was there before the sweep and was measured on dev, the base and the incumbent, and trials that were
            answered another way: ``arm label n`` and their metrics by name. They have no rank.
    """

    rule: Rule
    note: str | None
    table: pd.DataFrame
    swept: tuple[str, ...]
    arms: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what was not measured is None."""
        told = {"rule": self.rule.to_dict(), "note": self.note, "swept": list(self.swept)}
        return {**told, "rows": records(self.table), "arms": plain(self.arms)}

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
            "number": [state.trials[trial].own_number for trial in ordered],
            "id": ordered,
            **_stages(state, ordered),
            "state": facts["state"].to_numpy(),
            "qualified": [verdicts[trial].qualified for trial in ordered],
            "objective": [math.nan if (value := verdicts[trial].objective) is None else value for trial in ordered],
        }
    )
    searched = (state.spec.get("search") or {}).get("metrics") or {}
    if searched:
        table["front"] = _on_front(state, [trial for trial in ordered if verdicts[trial].qualified], ordered, searched)
    for name in dict.fromkeys([*_shown(list(facts.columns), rule), *searched, *keys]):
        table[name] = facts[name].to_numpy() if name in facts else math.nan
    warnings = [warning(trial_metrics(state, state.trials[trial])) or "" for trial in ordered]
    if any(warnings):
        table["warning"] = warnings
    table["failed"] = [list(verdicts[trial].failures) for trial in ordered]
    return Leaderboard(rule, note, table, tuple(keys), tuple(_arms(state)))


def _stages(state: SweepState, ordered: list[str]) -> dict[str, list[str]]:
    """The column that says which stage has trained a trial, in a sweep of several."""
    own = (state.facts.get("stage") or {}).get("name")
    return {"stage": [state.trials[trial].stage or own for trial in ordered]} if own else {}


def _arms(state: SweepState) -> Iterator[dict[str, Any]]:
    for arm, label in {**standing(state), **{way.arm: way.label for way in other_ways(state)}}.items():
        evaluations = {evaluation.split: evaluation for evaluation in state.arms.get(arm, ())}
        if "dev" in evaluations:
            metrics = [evaluations[split].metrics for split in ("dev", "latency", "serving") if split in evaluations]
            merged = {name: value for found in metrics for name, value in found.items()}
            yield {"arm": arm, "label": label, "n": evaluations["dev"].n, **merged}


def _on_front(state: SweepState, qualified: list[str], ordered: list[str], searched: Mapping[str, Mode]) -> list[bool]:
    metrics = {trial: trial_metrics(state, state.trials[trial]) for trial in qualified}
    whole = {trial: values for trial, values in metrics.items() if all(name in values for name in searched)}
    best = front(whole, searched)
    return [trial in best for trial in ordered]


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
    """The metrics worth a column: loss, two of preferences, all of quality, latencies and costs by name, the rule's."""
    named = {rule.metric, *(constraint.metric for constraint in rule.constraints)}
    quality = [name for name in columns if name.startswith(QUALITY)]
    wanted = [LOSS, ACCURACY, CHANGE, *quality, *_LATENCY, *sorted(named - set(quality)), *_COST]
    return [name for name in dict.fromkeys(wanted) if name in columns]
