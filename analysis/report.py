"""The report: one self-contained HTML page of a sweep, to be opened by a double click, without a network."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis import cost_figures, decision_figures, figures, latency_figures, retrieval_figures, theme
from analysis.champion import Choice, agreement, choose
from analysis.claims import check_page, quoted
from analysis.comparison import baseline, comparison
from analysis.figures import Scene
from analysis.importance import Importance, importance
from analysis.instrument import readings
from analysis.latency import kept, limits_in_words, notes, read_grid, reported, stages
from analysis.leaderboard import leaderboard
from analysis.measured import change, measured
from analysis.pairwise import WIN_RATE, read_pairwise
from analysis.parallel import parallel
from analysis.plain import plain
from analysis.rule import JSON_VALID, LOSS, QUALITY, RETRIEVAL, SCORE
from analysis.scales import label, number, shorten
from analysis.ways import other_ways
from recipes.files import write_whole
from sweeps.metrics import BY_NAME
from tracking.ledger import SweepState, TrialState
from tracking.meters.cost import summary
from tracking.meters.instrument import CLEAN

_TEMPLATE = "report.html.j2"
_HIDDEN = (
    "id",
    "qualified",
    "failed",
    "objective",
    "cost/gpu_s",
)  # of the leaderboard's columns; in hints or elsewhere


@dataclass(frozen=True)
class Section:
    """A figure with its title and how to read it; ``sentence`` where there is no figure."""

    id: str
    title: str
    how: str
    html: str = ""
    sentence: str = ""


def write_report(state: SweepState, path: Path, choice: Choice | None = None) -> Path:
    """Write the page of a sweep, at any time of it.

    Args:
        state: The sweep.
        path: The HTML file; replaced at once when it is there.
        choice: The outcome to show; by default the sweep's rule on what the ledger holds.

    Returns:
        ``path``.

    Raises:
        AssertionError: The page claims what it does not bear out; it is not written. Our mistake: sections make their
            figures with :mod:`analysis.claims`.
    """
    page = render(state, choice or choose(state))
    if wrong := check_page(page):
        raise AssertionError("\n".join(["the report is not written:", *map(str, wrong)]))
    write_whole(path, [page])
    return path


def render(state: SweepState, choice: Choice) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    scene = figures.scene(state, choice)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(_TEMPLATE).render(
        name=state.name,
        quoted=quoted(_given(state)),
        status=state.status,
        facts=_facts(state),
        champion=_champion(state, choice),
        comparison=_comparison(state, choice),
        instrument=_instrument(state),
        ways=_ways(state),
        latency=_latency(scene),
        pairwise=_pairwise(state),
        leaderboard=_leaderboard(state, choice),
        decision=_decision(scene),
        rows=_sections(scene),
        footer=f"Made from {state.folder.name}/ledger.jsonl on {_when(datetime.now(UTC).timestamp())}.",
        accent=theme.CHAMPION,
        font=theme.FONT,
        plotly_js=get_plotlyjs(),
    )


def _given(state: SweepState) -> Iterator[str]:
    """The user's own words that a page may show: names, values, reasons. They are no claims of ours."""

    def words(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield str(key)
                yield from words(item)
        elif isinstance(value, list | tuple):
            for item in value:
                yield from words(item)
        elif isinstance(value, str):
            yield from (value, shorten(value))

    yield from words([state.name, state.reason, state.spec, [cost.pool for cost in state.costs]])
    yield from words([state.facts.get("pools"), state.facts.get("serving")])  # sources of prices
    yield from limits_in_words(state)
    for trial in state.trials.values():
        yield from words([trial.values, trial.pool, trial.error, trial.reason, trial.metrics])


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _usd(value: float) -> str:
    return f"US$ {value:,.2f}" if value >= 1 else f"US$ {number(value) if value else 0}"


def _facts(state: SweepState) -> list[tuple[str, str]]:
    counts = Counter(str(trial.state) for trial in state.trials.values())
    trials = ", ".join(f"{count} {name.lower()}" for name, count in sorted(counts.items()))
    facts = [("Started", _when(state.started)), ("Trials", f"{len(state.trials)} ({trials})" if trials else "none yet")]
    if state.ended:
        facts.append(("Took", _duration(state.ended - state.started)))
    spent = summary(state)
    unknown = ", and verdicts at no known price" if spent["cost/judge_usd"] is None else ""
    facts.append(("Spent", _usd(spent["cost/usd"]) + unknown))
    if recipe := state.spec.get("recipe"):
        facts.append(("Recipe", str(recipe)))
    return facts + ([("Ended because", state.reason)] if state.reason else [])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _champion(state: SweepState, choice: Choice) -> dict[str, Any]:
    rule = f"Rule: the {choice.rule}."
    if choice.champion is None:
        shown = (
            choice.why
            if len(choice.why) <= 8
            else (*choice.why[:7], f"… and {len(choice.why) - 7} more, in the leaderboard.")
        )
        return {
            "heading": "No champion",
            "title": "None qualifies",
            "result": None,
            "subtitle": rule,
            "why": shown,
            "settings": [],
        }
    trial = state.trials[choice.champion]
    objective = choice.verdicts[trial.id].objective
    assert objective is not None, "a champion is measured"
    return {
        "heading": _heading(state, choice),
        "title": f"Trial {trial.number}",
        "result": (choice.rule.metric, number(_result(choice, objective))),
        "subtitle": rule,
        "why": [*choice.why, _how_sure(state, choice), *_changes(state, trial)],
        "settings": [(key, _shown(value)) for key, value in trial.values.items()],
    }


def _changes(state: SweepState, trial: TrialState) -> list[Markup]:
    """What the champion changes against the sweep's baseline: score, latencies and prices that both have."""
    arm = baseline(state)
    whole = "agent" if measured(state, trial.id, "latency/agent_p50_s") else "formulation"
    names = [SCORE, *(name for name in BY_NAME if name.startswith(("e2e/score", f"latency/{whole}_", "cost/")))]
    sentences = []
    for name in names:
        ours, theirs = measured(state, trial.id, name, "champion"), measured(state, arm, name)
        found = change(ours, theirs)[0] if ours and theirs else None
        if found:
            sentences.append(Markup("{}: {}.").format(name, found))
    return sentences


def _heading(state: SweepState, choice: Choice) -> str:
    if state.status == "RUNNING":
        return "In the lead, the sweep is running"
    if choice.kind == "tie":
        return f"Promoted, one of {len(choice.ties)} that are not told apart"
    return "Champion" if choice.outcome else "Champion by dev alone"


def _result(choice: Choice, objective: float) -> float:
    """The champion's own result: on the challenge set where that was read."""
    means = choice.outcome["means"] if choice.outcome else []
    return next((one["mean"] for one in means if one["arm"] == choice.champion), objective)


def _how_sure(state: SweepState, choice: Choice) -> str:
    """How many answers stand behind the champion's number."""
    if choice.outcome is not None:
        return _dev_score(state)
    trial = state.trials[str(choice.champion)]
    sizes = {e.split: e.n for e in trial.evaluations if e.split in ("dev", "challenge")}
    if not sizes:
        return "No answers were evaluated; the number is a loss over the validation rows."
    chosen = f"Chosen on n = {sizes['dev']} dev items" if "dev" in sizes else "Chosen without dev items"
    if "challenge" in sizes:
        return f"{chosen}, then measured once on n = {sizes['challenge']} sealed challenge items."
    best_of = f"as the best of {len(state.trials)}, so its number is optimistic"
    return f"{chosen}, {best_of}; not measured on the challenge split."


def _dev_score(state: SweepState) -> str:
    """What the champion had on dev, and what is left of that without the luck of the best of many."""
    found = (state.champion or {}).get("dev_score")
    if not found:
        return "Chosen without dev scores."
    mean, rest = number(found["mean"]), number(found["corrected"])
    return f"On dev it had {mean} (n = {found['n']}); corrected for being the best of {found['best_of']}, {rest}."


# Tables --------------------------------------------------------------------------------------------


def _head(name: str, text: bool = False) -> dict[str, Any]:
    """A column's heading that may break after a dot, a slash or an underscore."""
    from markupsafe import Markup, escape

    broken = str(escape(name))
    for mark in "./_":
        broken = broken.replace(mark, f"{mark}<wbr>")
    return {"html": Markup(broken), "text": text}


def _cell(value: Any, text: bool = False, pill: bool = False) -> dict[str, Any]:
    missing = value is None or value != value
    return {
        "shown": "–" if missing else _shown(value),
        "value": "" if missing else _sort_key(value),
        "text": text,
        "pill": pill,
    }


def _sort_key(value: Any) -> str:
    return repr(float(value)) if isinstance(value, int | float) else label(value)


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) else label(value)


def _comparison(state: SweepState, choice: Choice) -> dict[str, Any]:
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
        arm = record["label"] + (f" (trial {record['number']})" if record["arm"] in state.trials else "")
        cells = [_cell(arm, text=True), *(_cell(record[name]) for name in names), _cell(record["n"] or None)]
        rows.append({"css": "won" if record["role"] == "champion" else "", "title": "", "cells": cells})
    return {
        "title": title,
        "how": "Same items, same code in every row; n is the number of items, and – means not measured.",
        "heads": [_head("", text=True), *(_head(name) for name in names), _head("n")],
        "rows": rows,
    }


def _instrument(state: SweepState) -> dict[str, Any] | None:
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
    return {"heads": [_head(name, text=place < 2) for place, name in enumerate(heads)], "rows": rows}


def _ways(state: SweepState) -> dict[str, Any] | None:
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
    return _table(heads, rows, 1)


def _latency(scene: Scene) -> dict[str, Any] | None:
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
        tables.append(_table(("", "stage", "median, s", "95th percentile, s", "99th, s", "requests", "asked"), rows, 2))
    if limits:
        rows = []
        for one in limits:
            verdict = "–" if one["kept"] is None else "kept" if one["kept"] else "broken"
            cells = [_cell(one["label"], text=True), _cell(one["metric"], text=True), _cell(one["limit"], text=True)]
            rows.append({"css": "", "title": one["why"], "cells": [*cells, _cell(one["value"]), _cell(verdict)]})
        tables.append(_table(("", "limit of the SLO on", "limit", "measured, s", "verdict"), rows, 3))
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
        tables.append(_table(heads, rows, 1))
    bars = latency_figures.stage_bars(scene)
    return {
        "how": ("Drawn are the medians of the stages, which need not add up to the agent's. " if bars else "")
        + "Each stage by itself, in seconds, measured alone on the machine; in brackets 95 % intervals, whatever "
        "the distribution. – is not measured, or with too few requests to say: point at a row to read why."
        + (f" Good requests keep {_limits(grid)}; {_how_served(grid)}." if grid else ""),
        "notes": [note["text"] for note in reported(notes(state, choice), state, choice)],
        "figure": _drawn("latency", bars) if bars else "",
        "tables": tables,
    }


def _limits(grid: dict[str, Any]) -> str:
    return " and ".join(f"{name} {limit}" for name, limit in grid["slo"].items())


def _how_served(grid: dict[str, Any]) -> str:
    if grid["searched"]:
        return "their number is that of the highest rate tried at which the limits are kept"
    return f"their number is what of {grid['rate']:g} requests a second was good"


def _table(heads: tuple[str, ...], rows: list[dict[str, Any]], num_texts: int) -> dict[str, Any]:
    return {"heads": [_head(name, text=place < num_texts) for place, name in enumerate(heads)], "rows": rows}


def _between(value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    """A figure with its interval, sorted by the figure."""
    cell = _cell(value)
    if value is not None and (low is not None or high is not None):
        ends = [number(end) if end is not None else "…" for end in (low, high)]
        cell["shown"] += f" ({' to '.join(ends)})"
    return cell


def _pairwise(state: SweepState) -> dict[str, Any] | None:
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
        f"{_when(found['t'])}; a verdict that changes with the order is a tie. Strength is the probability of a win "
        "against an average arm (Bradley–Terry). It decides nothing: the champion is chosen by scores.",
        "arms": {"heads": [_head(name, text=place < 1) for place, name in enumerate(heads)], "rows": arms},
        "pairs": {"heads": [_head(name, text=place < 2) for place, name in enumerate(beside)], "rows": pairs},
    }


def _leaderboard(state: SweepState, choice: Choice) -> dict[str, Any]:
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
        rows.append({"css": css, "title": hint, "cells": cells})
    heads = {"number": "trial"}
    return {
        "how": f"Ranked by the {choice.rule}; trials that do not qualify have no rank, and point at a row to read why. "
        "Click a heading to sort.",
        "heads": [_head(heads.get(name, name), text=name in text) for name in names],
        "rows": rows,
    }


# Figures -------------------------------------------------------------------------------------------

_CERTAINTY_HOW = (
    "The mean of everybody who was compared on the sealed challenge set, under the rule that was frozen before it was "
    "read; each interval by itself. Orange is the champion, grey is what there was before the sweep."
)
_CONTESTS_HOW = (
    "The difference between two on the same items. All intervals hold together; where one contains 0, the two are not "
    "told apart. Orange is better, red is worse."
)
_RETRIEVAL_HOW = (
    "Products of the catalogue that are found by the shopper's own words, by what each model makes of them, and by the "
    "right category and attributes. In the open diamonds no model has a part: between them lies what one can win. Each "
    "interval by itself."
)
_FLIPS_HOW = (
    "Who has the best result on dev under every limit, and at every worth of a dollar: a price that doubles "
    "is a worth that doubles. Where a bar ends, the choice flips."
)


def _sections(scene: Scene) -> list[list[Section]]:
    found = importance(scene.state, scene.rule)
    metric = scene.rule.metric
    better = "up" if scene.rule.mode == "max" else "down"
    return [
        [_section("flips", "When would another win?", _FLIPS_HOW, decision_figures.flips(scene))],
        [
            _section(
                "parallel",
                "What was tried",
                "Each line is one trial through the values it ran with, ending at its result on the right; "
                "the darker, the better, and the champion is orange.",
                parallel(scene),
            )
        ],
        [
            _section(
                "importance", "What mattered", _importance_how(found, metric), figures.importance_bars(found, metric)
            ),
            _section(
                "agreement",
                "Does the loss tell the quality?",
                _agreement_how(scene),
                figures.rank_agreement(scene),
            ),
        ],
        [
            _section(
                "curves",
                "How the trials learned",
                "Lower is better; trials that were stopped early or failed are pale and end where they were stopped.",
                figures.loss_curves(scene),
            )
        ],
        [
            _section(
                "trade-offs",
                "What quality costs",
                f"Better is {better} and to the left; none beats a trial on the dashed front in both. "
                f"{_latency_how(scene)}",
                figures.trade_offs(scene),
            )
        ],
        [
            _section(
                "costs",
                "Where the money went",
                "What the sweep held, by pool, in shares that add up to it: retried is work that was lost and done "
                "again, failed that of trials that failed, idle what was held and did nothing. A judge's tokens come "
                "on top.",
                cost_figures.cost_bars(scene),
            )
        ],
        *_serving(scene),
    ]


def _serving(scene: Scene) -> list[list[Section]]:
    """A month of serving, where the sweep says what is to be served."""
    found = cost_figures.serving_bars(scene)
    if found is None:
        return []
    return [[_section("serving", "What serving costs", cost_figures.serving_how(scene), found)]]


def _decision(scene: Scene) -> list[list[Section]]:
    found = retrieval_figures.retrieval_arms(scene)
    retrieval = [[_section("retrieval", "What is found?", _RETRIEVAL_HOW, found)]] if found is not None else []
    return [
        [
            _section("certainty", "How sure is it?", _CERTAINTY_HOW, decision_figures.intervals(scene)),
            _section("contests", "Who beats whom?", _CONTESTS_HOW, decision_figures.contests(scene)),
        ],
        *retrieval,
    ]


def _section(identifier: str, title: str, how: str, figure: Any) -> Section:
    if isinstance(figure, str):
        return Section(identifier, title, how, sentence=figure)
    return Section(identifier, title, how, html=_drawn(identifier, figure))


def _drawn(identifier: str, figure: Any) -> str:
    config = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    html = figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{identifier}", config=config)
    return str(html)


def _importance_how(found: Importance | str, metric: str) -> str:
    if isinstance(found, str):
        return f"How much of the variation of {metric} each swept key explains."
    source = f"{found.evaluator}, n = {found.n} trials"
    return f"How much of the variation of {metric} each swept key explains ({source}): a hint, not a proof."


def _agreement_how(scene: Scene) -> str:
    metric, mode = (SCORE, "max") if scene.rule.metric == LOSS else (scene.rule.metric, scene.rule.mode)
    result = agreement(scene.state, metric, mode)  # type: ignore[arg-type]
    if result["spearman"] is None:
        return "If the points fall from upper left to lower right, a lower loss means better answers."
    rho = f"{result['spearman']:+.2f}".replace("-", "−")
    return f"Spearman's ρ = {rho} over n = {result['n']} trials; +1 means that a lower loss always gave better answers."


def _latency_how(scene: Scene) -> str:
    if scene.rule.metric in scene.table and figures.latency_metric(scene):
        return "Latency is measured for the base and the top few only."
    return "Latency is not drawn: fewer than two trials have one."
