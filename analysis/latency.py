"""Latencies of a sweep as tables: stages of all that were timed, the SLO's verdicts, and the grid of servers."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.champion import Choice
from analysis.comparison import standing
from recipes.files import write_json
from sweeps.latency import Latency, Limit
from sweeps.metrics import PERCENTILES, STAGES
from tracking.ledger import Evaluation, SweepState
from tracking.meters.latency.slo import verdicts

GRID = "latency_grid.json"  # in the run folder


def slo_of(state: SweepState) -> dict[str, Limit]:
    """The limits that a sweep sets."""
    return Latency.model_validate((state.spec.get("evaluate") or {}).get("latency") or {}).slo


def limits_in_words(state: SweepState) -> list[str]:
    """The limits that the user has set, of the sweep and of its grid: ``<= 2 s``."""
    return [*map(str, slo_of(state).values()), *(read_grid(state) or {"slo": {}})["slo"].values()]


def timed(state: SweepState, choice: Choice) -> dict[str, tuple[str, Evaluation]]:
    """Who was timed, by arm, with what people call it: what there was before, then the champion, then other trials."""
    trials = sorted(state.trials.values(), key=lambda trial: (trial.id != choice.champion, trial.number))
    words = {trial.id: trial.title for trial in trials}
    if choice.champion is not None:
        words[choice.champion] = f"Champion, {state.trials[choice.champion].label}"
    found = {}
    for arm, label in {**standing(state), **words}.items():
        for one in state.evaluations_of(arm):
            if one.split == "latency":
                found[arm] = (label, one)
    return found


def stages(state: SweepState, choice: Choice) -> list[dict[str, Any]]:
    """A row for every stage of every arm that was timed: ``arm label stage n load p50 p95 p99`` in seconds.

    ``<p>_low`` and ``<p>_high`` are the ends of the interval; ``why`` says why one of the percentiles is missing.
    """
    rows = []
    for arm, (label, one) in timed(state, choice).items():
        intervals, missing = one.detail.get("intervals", {}), one.detail.get("missing", {})
        for stage in STAGES:
            names = {percent: f"latency/{stage}_p{percent}_s" for percent in PERCENTILES}
            if not any(name in one.metrics for name in names.values()):
                continue
            row: dict[str, Any] = {"arm": arm, "label": label, "stage": stage, "n": one.n}
            for percent, name in names.items():
                low, high = intervals.get(name) or (None, None)
                row |= {f"p{percent}": one.metrics.get(name), f"p{percent}_low": low, f"p{percent}_high": high}
            why = [missing[name] for name in names.values() if name in missing]
            rows.append({**row, "load": one.detail.get("load"), "why": "; ".join(dict.fromkeys(why))})
    return rows


def notes(state: SweepState, choice: Choice) -> list[dict[str, str]]:
    """What must be known to read an arm's figures, ``arm text`` each.

    That requests have no answer, and that answers could not be read, so that nothing was searched by them.
    """
    found = []
    for arm, (label, one) in timed(state, choice).items():
        told = []
        if lost := one.detail.get("num_errors"):
            told.append(f"{lost} of {one.n} requests have no answer, and count as slower than all that have")
        if unread := one.detail.get("searched_own_words"):
            told.append(
                f"answers to {unread} item{'s' if unread > 1 else ''} could not be read, which e2e/score counts "
                "as nothing found; timed is then a search for the shopper's own words"
            )
        found += [{"arm": arm, "text": f"{label}: {text}"} for text in told]
    return found


def reported(rows: Iterable[dict[str, Any]], state: SweepState, choice: Choice) -> list[dict[str, Any]]:
    """Of rows by ``arm``, those of champion and references; without a champion, of all that were timed."""
    shown = {*standing(state), choice.champion} if choice.champion else {*standing(state), *state.trials}
    return [row for row in rows if row["arm"] in shown]


def kept(state: SweepState, choice: Choice) -> list[dict[str, Any]]:
    """A row for every limit of the SLO and every arm: ``arm label metric limit value kept why``."""
    slo = slo_of(state)
    return [
        {"arm": arm, "label": label, **verdict.to_dict()}
        for arm, (label, one) in timed(state, choice).items()
        for verdict in verdicts(slo, one.metrics, one.detail.get("missing"))
    ]


def write_grid(state: SweepState, content: Mapping[str, Any]) -> None:
    """Keep a grid's result in the run folder."""
    write_json(state.folder / GRID, content)


def read_grid(state: SweepState) -> dict[str, Any] | None:
    """The grid that ``podium latency --serve`` measured; None where it did not."""
    path = state.folder / GRID
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
