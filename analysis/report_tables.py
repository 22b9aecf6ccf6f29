"""The tables of the report, as its template takes them: headings and rows of cells, each with what it is sorted by."""

from datetime import UTC, datetime
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis import latency_figures
from analysis.champion import Choice
from analysis.comparison import comparison
from analysis.figures import Scene
from analysis.instrument import readings
from analysis.latency import kept, notes, read_grid, reported, stages
from analysis.leaderboard import leaderboard
from analysis.pairwise import WIN_RATE, read_pairwise
from analysis.plain import plain
from analysis.report_figures import drawn
from analysis.rule import JSON_VALID, QUALITY, RETRIEVAL, SCORE
from analysis.scales import label, number
from analysis.stages import stages_of, steps
from analysis.ways import other_ways
from tracking.ledger import SweepState
from tracking.meters.instrument import CLEAN

_HIDDEN = (
    "id",
    "qualified",
    "failed",
    "objective",
    "warning",
    "cost/gpu_s",
)  # of the leaderboard's columns; in hints or elsewhere


def when(seconds: float) -> str:
    """A moment, given in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _head(name: str, text: bool = False) -> dict[str, Any]:
    """A column's heading that may break after a dot, a slash or an underscore."""
    from markupsafe import escape

    broken = str(escape(name))
    for mark in "./_":
        broken = broken.replace(mark, f"{mark}<wbr>")
    return {"html": Markup(broken), "text": text}


def _cell(value: Any, text: bool = False, pill: bool = False) -> dict[str, Any]:
    missing = value is None or value != value
    return {
        "shown": "–" if missing else shown(value),
        "value": "" if missing else _sort_key(value),
        "text": text,
        "pill": pill,
    }


def _sort_key(value: Any) -> str:
    return repr(float(value)) if isinstance(value, int | float) else label(value)


def shown(value: Any) -> str:
    """A value as tables write it."""
    return number(value) if isinstance(value, float) else label(value)


def comparison_table(state: SweepState, choice: Choice) -> dict[str, Any]:
    """The plain comparison on the challenge split; on dev, and saying so, where that was not read."""
    table = comparison(state, choice)
    title = "On the sealed challenge split"
    if not table["n"].any():
        table = comparison(state, choice, "dev")
        title = "On the dev split (the challenge split was not read)"
    if not table["n"].any():
        return {"title": "No answers were evaluated", "how": "", "heads": [], "rows": []}
    names = [name for name in table.columns if name.startswith(QUALITY)]
    first = [name for name in (choice.rule.metric, SCORE, JSON_VALID, *RETRIEVAL) if name in names]
    names = list(dict.fromkeys([*first, *names]))[:5]
    rows = []
    for record in table.to_dict("records"):
        arm = record["label"] + (f" ({state.trials[record['arm']].label})" if record["arm"] in state.trials else "")
        cells = [_cell(arm, text=True), *(_cell(record[name]) for name in names), _cell(record["n"] or None)]
        rows.append({"css": "won" if record["role"] == "champion" else "", "title": "", "cells": cells})
    return {
        "title": title,
        "how": "Same items, same code in every row; n is the number of items, and – means not measured.",
        "heads": [_head("", text=True), *(_head(name) for name in names), _head("n")],
        "rows": rows,
    }


def instrument_table(state: SweepState) -> dict[str, Any] | None:
    """How many planted defects the scorers find; None where none were planted."""
    table = readings(state)
    if table.empty:
        return None
    rows = []
    for record in table.to_dict("records"):
        skipped = record["skipped"] if isinstance(record["skipped"], str) else ""
        between = f"{number(record['low'])} to {number(record['high'])}" if record["n"] else skipped or "–"
        bound = f"{'≤' if record['defect'] == CLEAN else '≥'} {number(record['limit'])}"
        met = "–" if pd.isna(record["met"]) else "yes" if record["met"] else "no"
        counted = f"{record['found']} of {record['n']}"
        words = "a clean answer (false alarm)" if record["defect"] == CLEAN else record["defect"].replace("_", " ")
        cells = [_cell(str(record["scorer"]), text=True), _cell(words, text=True), _cell(counted), _cell(between)]
        rows.append({"css": "", "title": skipped, "cells": [*cells, _cell(bound), _cell(met)]})
    heads = ("scored by", "planted in right answers", "found", "interval of the share", "asked", "kept")
    return _table(heads, rows)


def ways_table(state: SweepState) -> dict[str, Any] | None:
    """The best trials answered in the other way too; None where none was."""
    found = other_ways(state)
    if not found:
        return None
    rows = []
    for way in found:
        cells = [
            _cell(way.label, text=True),
            _cell(way.measured),
            _cell(way.other),
            _cell(way.difference),
            _cell(way.n),
        ]
        rows.append(
            {"css": "", "title": "" if way.interval else "too few of the answers differ to say", "cells": cells}
        )
    heads = ("answered", f"{found[0].metric} as measured", "in this way", "interval of the difference", "n")
    return _table(heads, rows)


def stages_table(state: SweepState) -> dict[str, Any] | None:
    """The stages of the sweep with what each chose and spent; None for a plain sweep."""
    rows = []
    for stage in stages_of(state):
        told = stage.to_dict()
        cells = [_cell(told[key], text=True) for key in ("stage", "status")]
        cells += [_cell(told.get("method"), text=True), _cell(told["num_trials"]), _cell(told.get("label"), text=True)]
        rows.append({"css": "", "title": told.get("reason") or "", "cells": [*cells, _cell(told["usd"])]})
    return _table(("stage", "status", "method", "trials", "champion", "US$"), rows) if rows else None


def steps_table(state: SweepState) -> dict[str, Any] | None:
    """From the base to the champion on the challenge set; None for a plain sweep, or where that was not read."""
    rows = []
    for step in steps(state):
        cells = [_cell(step.label, text=True), _cell(step.n), _cell(step.mean), _cell(_interval(step.interval))]
        cells += [_cell(step.gain), _cell(_interval(step.gain_interval)), _cell(step.verdict, text=True)]
        rows.append({"css": "", "title": step.words, "cells": cells})
    heads = ("", "n", "mean", "interval", "over the one before", "interval of that", "verdict")
    return _table(heads, rows) if rows else None


def _interval(interval: tuple[float, float] | None) -> str | None:
    return f"{number(interval[0])} to {number(interval[1])}" if interval else None


def latency_tables(scene: Scene) -> dict[str, Any] | None:
    """Stages and the SLO's verdicts of those reported, and the grid of servers; None where nobody was timed."""
    state, choice = scene.state, scene.choice
    found = reported(stages(state, choice), state, choice)
    limits = reported(kept(state, choice), state, choice)
    grid = read_grid(state)
    if not found and grid is None:
        return None
    tables = []
    if found:
        rows = []
        for one in found:
            cells = [_cell(one["label"], text=True), _cell(one["stage"], text=True)]
            cells += [_between(one[p], one[f"{p}_low"], one[f"{p}_high"]) for p in ("p50", "p95", "p99")]
            rows.append(
                {"css": "", "title": one["why"], "cells": [*cells, _cell(one["n"]), _cell(one["load"], text=True)]}
            )
        tables.append(_table(("", "stage", "median, s", "95th percentile, s", "99th, s", "requests", "asked"), rows))
    if limits:
        rows = []
        for one in limits:
            verdict = "–" if one["kept"] is None else "kept" if one["kept"] else "broken"
            cells = [_cell(one["label"], text=True), _cell(one["metric"], text=True), _cell(one["limit"], text=True)]
            rows.append({"css": "", "title": one["why"], "cells": [*cells, _cell(one["value"]), _cell(verdict)]})
        tables.append(_table(("", "limit of the SLO on", "limit", "measured, s", "verdict"), rows))
    if grid:
        rows = [
            {
                "css": "",
                "title": point["why"],
                "cells": [
                    _cell(point["accelerator"], text=True),
                    *(_cell(point[key]) for key in ("tp", "goodput_rps", "goodput_rps_per_unit", "usd_per_1k_good")),
                    _cell(f"{point['price']['usd_per_hour']:g}, {point['price']['date']}", text=True),
                ],
            }
            for point in grid["points"]
        ]
        heads = (
            "served on",
            "GPUs or cores",
            "good requests/s",
            "for each of them",
            "US$ per 1,000 good",
            "US$ per hour of one, as of",
        )
        tables.append(_table(heads, rows))
    bars = latency_figures.stage_bars(scene)
    return {
        "how": ("Drawn are the medians of the stages, which need not add up to the agent's. " if bars else "")
        + "Each stage by itself, in seconds, measured alone on the machine; in brackets 95 % intervals, whatever "
        "the distribution. – is not measured, or with too few requests to say: point at a row to read why."
        + (f" Good requests keep {_limits(grid)}; {_how_served(grid)}." if grid else ""),
        "notes": [note["text"] for note in reported(notes(state, choice), state, choice)],
        "figure": drawn("latency", bars) if bars else "",
        "tables": tables,
    }


def _limits(grid: dict[str, Any]) -> str:
    return " and ".join(f"{name} {limit}" for name, limit in grid["slo"].items())


def _how_served(grid: dict[str, Any]) -> str:
    if grid["searched"]:
        return "their number is that of the highest rate tried at which the limits are kept"
    return f"their number is what of {grid['rate']:g} requests a second was good"


def _table(heads: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A table of at least one row; a heading stands over texts or over numbers as its column does."""
    columns = zip(heads, rows[0]["cells"], strict=True)
    return {"heads": [_head(name, text=cell["text"]) for name, cell in columns], "rows": rows}


def _between(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    """A figure with its interval, sorted by the figure."""
    cell = _cell(value)
    if value is not None and (low is not None or high is not None):
        ends = [number(end) if end is not None else "…" for end in (low, high)]
        cell["shown"] += f" ({' to '.join(ends)})"
    return cell


def pairwise_tables(state: SweepState) -> dict[str, Any] | None:
    """Arms against each other by the judge's comparisons; None where none were made."""
    found = read_pairwise(state)
    if found is None:
        return None
    called = {one["arm"]: f"{one['name'][0].upper()}{one['name'][1:]}" for one in found["arms"]}
    arms, pairs = [], []
    for one in found["arms"]:
        ends = one["interval"]
        cells = [_cell(called[one["arm"]], text=True), _cell(one["strength"])]
        cells += [_cell(f"{number(ends[0])} to {number(ends[1])}" if ends else None)]
        arms.append({"css": "", "title": "", "cells": [*cells, _cell((one[WIN_RATE] or {}).get("value"))]})
    for one in found["pairs"]:
        cells = [_cell(called[one["first"]], text=True), _cell(called[one["second"]], text=True)]
        cells += [_cell(one[name]) for name in ("wins", "losses", "ties", "missing", "flips")]
        pairs.append({"css": "", "title": "", "cells": cells})
    heads = ("", "strength", "interval", "share won against the base, a tie a half")
    beside = ("first", "second", "first wins", "second wins", "ties", "no verdict", "changed with the order")
    return {
        "how": f"Answers to the {found['split']} set, n = {found['n']} items, compared by the judge in both orders on "
        f"{when(found['t'])}; a verdict that changes with the order is a tie. Strength is the probability of a win "
        "against an average arm (Bradley–Terry). It decides nothing: the champion is chosen by scores.",
        "arms": _table(heads, arms),
        "pairs": _table(beside, pairs),
    }


def leaderboard_table(state: SweepState, choice: Choice) -> dict[str, Any]:
    """Every trial by the rule, with what it ran with and what was measured of it."""
    board = leaderboard(state, choice.rule)
    first = ["rank", "number", "state", choice.rule.metric]
    names = [*first, *(name for name in board.table.columns if name not in {*first, *_HIDDEN})]
    # The parts of a score are for the table of arms and for MLflow; here they would push the swept values away.
    bounds = (constraint.metric for constraint in choice.rule.constraints)
    kept = {choice.rule.metric, *bounds, SCORE, JSON_VALID, *RETRIEVAL}
    names = [
        name
        for name in dict.fromkeys(names)
        if name in board.table.columns and (name in kept or not name.startswith(QUALITY))
    ]
    text = {"state"} | {key for key in board.swept if not pd.api.types.is_numeric_dtype(board.table[key])}
    rows = []
    for record in board.table.to_dict("records"):
        cells = [_cell(plain(record[name]), text=name in text, pill=name == "state") for name in names]
        won = "won" if record["id"] == choice.champion else ""
        css = won or ("" if record["qualified"] else "out")
        hint = f"{record['id']}: {'; '.join(record['failed']) or 'qualifies'}"
        hint += f"; {record['warning']}" if record.get("warning") else ""
        rows.append({"css": css, "title": hint, "cells": cells})
    heads = {"number": "trial"}
    return {
        "how": f"Ranked by the {choice.rule}; trials that do not qualify have no rank, and point at a row to read why. "
        "Click a heading to sort.",
        "heads": [_head(heads.get(name, name), text=name in text) for name in names],
        "rows": rows,
    }
