"""The report: one self-contained HTML page of a sweep, to be opened by a double click, without a network."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from analysis import figures, theme
from analysis.champion import Choice, choose
from analysis.claims import check_page, quoted
from analysis.comparison import baseline
from analysis.latency import limits_in_words
from analysis.measured import change, measured
from analysis.report_figures import decision_sections, sections
from analysis.report_tables import (
    comparison_table,
    instrument_table,
    latency_tables,
    leaderboard_table,
    pairwise_tables,
    shown,
    stages_table,
    steps_table,
    ways_table,
    when,
)
from analysis.rule import SCORE
from analysis.scales import number, shorten
from recipes.files import write_whole
from sweeps.metrics import BY_NAME
from tracking.ledger import SweepState, TrialState
from tracking.meters.cost import summary

_TEMPLATE = "report.html.j2"


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
        comparison=comparison_table(state, choice),
        stages=stages_table(state),
        steps=steps_table(state),
        instrument=instrument_table(state),
        ways=ways_table(state),
        latency=latency_tables(scene),
        pairwise=pairwise_tables(state),
        leaderboard=leaderboard_table(state, choice),
        decision=decision_sections(scene),
        rows=sections(scene),
        footer=f"Made from {state.folder.name}/ledger.jsonl on {when(datetime.now(UTC).timestamp())}.",
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

    yield from words(
        [state.name, state.reason, state.facts.get("stage"), state.spec, [cost.pool for cost in state.costs]]
    )
    yield from words([state.facts.get("pools"), state.facts.get("serving")])  # sources of prices
    yield from limits_in_words(state)
    for trial in state.trials.values():
        yield from words([trial.values, trial.pool, trial.error, trial.reason, trial.metrics])


def _usd(value: float) -> str:
    return f"US$ {value:,.2f}" if value >= 1 else f"US$ {number(value) if value else 0}"


def _facts(state: SweepState) -> list[tuple[str, str]]:
    counts = Counter(str(trial.state) for trial in state.drawn.values())
    trials = ", ".join(f"{count} {name.lower()}" for name, count in sorted(counts.items()))
    facts = [("Started", when(state.started)), ("Trials", f"{len(state.drawn)} ({trials})" if trials else "none yet")]
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
        told = (
            choice.why
            if len(choice.why) <= 8
            else (*choice.why[:7], f"… and {len(choice.why) - 7} more, in the leaderboard.")
        )
        return {
            "heading": "No champion",
            "title": "None qualifies",
            "result": None,
            "subtitle": rule,
            "why": told,
            "settings": [],
        }
    trial = state.trials[choice.champion]
    objective = choice.verdicts[trial.id].objective
    assert objective is not None, "a champion is measured"
    return {
        "heading": _heading(state, choice),
        "title": trial.title,
        "result": (choice.rule.metric, number(_result(choice, objective))),
        "subtitle": rule,
        "why": [*choice.why, _how_sure(state, choice), *_changes(state, trial)],
        "settings": [(key, shown(value)) for key, value in trial.values.items()],
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
