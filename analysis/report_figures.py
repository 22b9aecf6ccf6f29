"""The sections of the report that are drawn: each figure with its title and how to read it."""

from dataclasses import dataclass
from typing import Any

from analysis import cost_figures, decision_figures, figures, retrieval_figures
from analysis.champion import agreement
from analysis.figures import Scene
from analysis.importance import Importance, importance
from analysis.parallel import parallel
from analysis.rule import LOSS, SCORE


@dataclass(frozen=True)
class Section:
    """A figure with its title and how to read it; ``sentence`` where there is no figure."""

    id: str
    title: str
    how: str
    html: str = ""
    sentence: str = ""


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


def sections(scene: Scene) -> list[list[Section]]:
    """What was tried, how it went and what it cost; rows of one or two figures."""
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


def decision_sections(scene: Scene) -> list[list[Section]]:
    """How sure the decision is, and what the answers find."""
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
    return Section(identifier, title, how, html=drawn(identifier, figure))


def drawn(identifier: str, figure: Any) -> str:
    """A figure of plotly as HTML that needs its script beside it."""
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
