"""The arms of retrieval side by side: the shopper's own words, each model's formulation, and the gold attributes.

Between the first and the last lies what a model can win; how much of it one wins is its own share.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from analysis.answers import group_of, item_of, records, stored
from analysis.champion import choose, default_trial
from analysis.comparison import standing
from analysis.decision.bootstrap import Estimate, estimate, paired
from analysis.decision.scores import Scores, Table, side_by_side
from sweeps.errors import InvalidInput, Problem
from sweeps.metrics import BY_NAME
from sweeps.retrieving import Pipeline
from tracking.ledger import SweepState
from tracking.meters.retrieval import GOLD, HYDE, NDCG, RAW, SCORE, ShoppingPipeline

WORDS = {RAW: "The shopper's words", GOLD: "Gold attributes"}
METRICS = (NDCG, SCORE)
MORE = ("retrieval/recall_at_10", "retrieval/mrr", "retrieval/unjudged_at_10", "retrieval/formulated")


@dataclass(frozen=True)
class Figure:
    """A mean over items, with its 95 % interval where there are groups enough for one."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Arm:
    """One arm on one split.

    Attributes:
        arm: ``raw``, ``gold``, or the name of what formulated.
        label: What people call it.
        kind: ``raw``, ``hyde`` or ``gold``.
        figures: ``METRICS``, and those of ``MORE`` that were measured.
        gain: nDCG@10 less that of the shopper's words, on the same items.
    """

    arm: str
    label: str
    kind: str
    figures: Mapping[str, Figure]
    gain: Figure

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def settings_of(state: SweepState) -> tuple[Pipeline, dict[str, str]]:
    """The pipeline of a sweep, and the SHA-256 of its tables when answers were last scored, by their keys.

    Raises:
        InvalidInput: It has none.
    """
    block = (state.spec.get("evaluate") or {}).get("pipeline")
    if block is None:
        hint = "add evaluate.pipeline, see docs/retrieval.md"
        raise InvalidInput(Problem("sweep", f"{state.name} has no pipeline, so nothing is retrieved", hint))
    told = [one.detail.get("pipeline") for one in state.evaluations()]
    return Pipeline.model_validate(block), next((one["files"] for one in reversed(told) if one), {})


def measured_arms(state: SweepState, split: str) -> list[Arm]:
    """The arms as the sweep's own evaluations measured them; none where it has no pipeline, or no answers.

    Raises:
        InvalidInput: There is no such split, or a file of answers is damaged.
    """
    by_arm: dict[str, _Values] = {}
    groups: dict[str, str] = {}
    for arm, answers in _recorded(state, split):
        values: _Values = {name: {} for name in (*METRICS, *MORE)}
        beside: dict[str, _Values] = {kind: {name: {} for name in METRICS} for kind in (RAW, GOLD)}
        for record in answers:
            item, metrics = str(record["id"]), record["metrics"]
            for name in values:
                if name in metrics:
                    values[name][item] = metrics[name]
            for kind, of_kind in beside.items():
                for name in METRICS:
                    of_kind[name][item] = metrics.get(f"{name}_{kind}")
            groups[item] = group_of(state, item_of(record))
        if values[NDCG]:
            by_arm[arm] = values
            for kind, of_kind in beside.items():  # the same beside every arm, on the items that the arm was given
                for name, scores in of_kind.items():
                    by_arm.setdefault(kind, {}).setdefault(name, {}).update(scores)
    return _arms(state, by_arm, groups)


def recomputed_arms(state: SweepState, split: str, pipeline: ShoppingPipeline) -> list[Arm]:
    """The arms from the stored answers by any pipeline, such as one with another embedding. No model is asked.

    Raises:
        InvalidInput: As :func:`measured_arms`; or the pipeline is not for these rows.
        ServiceUnreachable: Embeddings are from an endpoint, and it does not answer.
    """
    by_arm: dict[str, _Values] = {}
    groups: dict[str, str] = {}
    for arm, answers in _recorded(state, split):
        for record in answers:
            item = item_of(record)
            groups[item.id] = group_of(state, item)
            for kind, measures in pipeline.measure(item, record["answer"]).items():
                of_arm = by_arm.setdefault(arm if kind == HYDE else kind, {})
                for name in (*METRICS, *MORE):
                    if name in measures:
                        of_arm.setdefault(name, {})[item.id] = measures[name]
    return _arms(state, by_arm, groups)


_Values = dict[str, dict[str, float | None]]  # by metric, then by item


def _recorded(state: SweepState, split: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The arms that a table shows, with what they answered."""
    there = stored(state, split)
    for arm in _labels(state):
        if arm in there:
            yield arm, list(records(state.folder / str(there[arm].items)))


def _labels(state: SweepState) -> dict[str, str]:
    """Who may have formulated, by arm."""
    words = dict(standing(state))
    for trial, name in ((default_trial(state), "Default recipe"), (choose(state).champion, "Champion")):
        if trial is not None:
            words[trial] = f"{name} ({state.trials[trial].label})"
    return words


def _arms(state: SweepState, by_arm: Mapping[str, _Values], groups: Mapping[str, str]) -> list[Arm]:
    """Every arm with its figures: the shopper's words first, the gold attributes last."""
    labels = {**WORDS, **_labels(state)}
    order = [arm for arm in (RAW, *_labels(state), GOLD) if arm in by_arm]
    if RAW not in by_arm:
        return []
    tables: dict[str, Table] = {}
    for name in (*METRICS, *MORE):
        scores: dict[str, Scores] = {arm: found for arm in order if (found := by_arm[arm].get(name))}
        if scores:
            tables[name] = side_by_side(scores, groups)
    return [
        Arm(
            arm,
            labels[arm],
            arm if arm in (RAW, GOLD) else HYDE,
            {name: _figure(name, table, arm) for name, table in tables.items() if arm in table.arms},
            _gain(tables[NDCG], arm),
        )
        for arm in order
    ]


def _figure(name: str, table: Table, arm: str) -> Figure:
    return _of(estimate(table.row(arm), table.groups), *BY_NAME[name].range)


def _gain(table: Table, arm: str) -> Figure:
    least, most = BY_NAME[NDCG].range
    return _of(paired(table.row(arm), table.row(RAW), table.groups), least - most, most - least)


def _of(found: Estimate, least: float, most: float) -> Figure:
    """No mean lies beyond what the values can be, also where the draws give no bound."""
    ends = found.interval()
    low, high = (max(least, ends[0]), min(most, ends[1])) if ends else (None, None)
    return Figure(found.mean, low, high, found.n)


def rows_of(arms: Sequence[Arm], embedding: str) -> list[dict[str, Any]]:
    """One flat row an arm, for a table."""
    rows = []
    for one in arms:
        row: dict[str, Any] = {"embedding": embedding, "arm": one.arm, "label": one.label, "n": one.gain.n}
        for name, figure in (*one.figures.items(), ("gain", one.gain)):
            row |= {name: figure.mean, f"{name}_low": figure.low, f"{name}_high": figure.high}
        rows.append(row)
    return rows
