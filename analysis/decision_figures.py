"""The figures of the decision: how sure it is, who beats whom, and where it would flip."""

from typing import Any

from analysis import theme
from analysis.confirmation import names
from analysis.figures import Scene, axis_title, latency_metric
from analysis.flips import Segment, by_limit, by_worth, candidates
from analysis.frame import trial_metrics

ROW_PX = 34
_VERDICTS = {"better": theme.CHAMPION, "worse": theme.WORSE, "undecided": theme.DIMMED, "too few": theme.DIMMED}


def intervals(scene: Scene) -> Any:
    """The mean on the challenge set of everybody who was read there for the decision, with its interval."""
    import plotly.graph_objects as go

    outcome = scene.choice.outcome
    if outcome is None:
        return "The challenge set has not been read: the choice is by dev alone."
    called = names(scene.state)
    means = sorted((one for one in outcome["means"] if one["mean"] is not None), key=lambda one: one["mean"])
    figure = go.Figure(layout=theme.layout(110 + ROW_PX * len(means), showlegend=False))
    for one in means:
        low, high = _ends(one["interval"], one["mean"])
        colour = theme.CHAMPION if one["arm"] == scene.choice.champion else theme.MUTED
        colour = theme.TRIAL if colour == theme.MUTED and one["arm"] in scene.state.trials else colour
        figure.add_trace(
            go.Scatter(
                x=[one["mean"]],
                y=[_capital(called[one["arm"]])],
                mode="markers",
                marker={"color": colour, "size": 11},
                error_x={"array": [high - one["mean"]], "arrayminus": [one["mean"] - low], "thickness": 2, "width": 5},
                hovertemplate=f"%{{y}}: %{{x:.3f}}, {low:.3f} to {high:.3f}, n = {one['n']}<extra></extra>",
            )
        )
    figure.update_xaxes(title_text=f"{axis_title(outcome['rule']['metric'])} on the challenge set")
    figure.update_yaxes(ticks="", showgrid=False)
    return figure


def contests(scene: Scene) -> Any:
    """Every comparison of the decision: the difference with the interval that holds jointly with the others."""
    import plotly.graph_objects as go

    outcome = scene.choice.outcome
    if outcome is None:
        return "The challenge set has not been read, so nobody was compared on it."
    called = names(scene.state)
    compared = [one for one in (*outcome["contest"], *outcome["promotion"]) if one["difference"] is not None]
    if not compared:
        return "No two arms have items in common on the challenge set."
    figure = go.Figure(layout=theme.layout(110 + ROW_PX * len(compared), showlegend=False))
    for one in reversed(compared):
        low, high = _ends(one["joint_interval"], one["difference"])
        figure.add_trace(
            go.Scatter(
                x=[one["difference"]],
                y=[f"{_capital(called[one['first']])} − {called[one['second']]}"],
                mode="markers",
                marker={"color": _VERDICTS[one["verdict"]], "size": 11},
                error_x={
                    "array": [high - one["difference"]],
                    "arrayminus": [one["difference"] - low],
                    "thickness": 2,
                    "width": 5,
                },
                hovertemplate=f"%{{y}}: %{{x:.3f}}, {low:.3f} to {high:.3f}, n = {one['n']}: "
                f"{one['verdict']}<extra></extra>",
            )
        )
    figure.add_vline(x=0, line={"color": theme.INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text=f"Difference in {axis_title(outcome['rule']['metric'])}, same items")
    figure.update_yaxes(ticks="", showgrid=False)
    return figure


def flips(scene: Scene) -> Any:
    """Who would win under every limit on latency and on cost, and at every worth of a dollar."""
    from plotly.subplots import make_subplots

    panels = [panel for panel in _panels(scene) if panel[2]]
    if not panels:
        return f"No trial has {scene.rule.metric} beside a latency or a cost."
    figure = make_subplots(1, len(panels), horizontal_spacing=0.05, shared_yaxes=True)
    winners = {one.trial: int(scene.table.loc[one.trial, "number"]) for panel in panels for one in panel[2]}
    rows = [scene.state.trials[trial].title for trial in sorted(winners, key=lambda one: winners[one], reverse=True)]
    for column, (title, axis, segments, is_log) in enumerate(panels, start=1):
        _bands(figure, scene, segments, column)
        words = f"{title}<br>{axis}"
        figure.update_xaxes(title_text=words, type="log" if is_log else "linear", row=1, col=column)
    figure.update_layout(**theme.layout(150 + ROW_PX * len(rows), showlegend=False))
    figure.update_xaxes(exponentformat="e")
    figure.update_yaxes(
        ticks="", showgrid=False, categoryorder="array", categoryarray=rows, range=[-0.6, len(rows) - 0.4]
    )
    return figure


def _panels(scene: Scene) -> list[tuple[str, str, tuple[Segment, ...], bool]]:
    """Title, axis, who wins where, and whether the axis is logarithmic."""
    qualified = {
        trial: trial_metrics(scene.state, scene.state.trials[trial])
        for trial, verdict in scene.choice.verdicts.items()
        if verdict.qualified
    }
    found = []
    for name, words in ((latency_metric(scene), "a limit on latency"), ("cost/usd", "a limit on the trial's cost")):
        if name is not None:
            these = candidates(qualified, scene.rule.metric, name, scene.rule.mode)
            found.append((f"Under {words}:", axis_title(name), by_limit(these), False))
    these = candidates(qualified, scene.rule.metric, "cost/usd", scene.rule.mode)
    worth = by_worth(these)
    if len(worth) > 1:
        found.append(("At what a dollar is worth:", f"{scene.rule.metric} for a dollar of the trial", worth, True))
    return found


def _bands(figure: Any, scene: Scene, segments: tuple[Segment, ...], column: int) -> None:
    """A bar for each winner, from where it begins to win to where it ends."""
    import plotly.graph_objects as go

    ends = [one.end for one in segments if one.end is not None]
    last = 1.4 * max([*ends, segments[-1].start]) or 1.0
    first = min((end for end in ends), default=last) / 4  # where a logarithmic axis begins, which has no zero
    for one in segments:
        start, end = one.start or (first if len(segments) > 1 else 0.0), one.end if one.end is not None else last
        figure.add_trace(
            go.Scatter(
                x=[start, end],
                y=[scene.state.trials[one.trial].title] * 2,
                mode="lines",
                line={"color": theme.CHAMPION if one.trial == scene.choice.champion else theme.TRIAL, "width": 12},
                hovertemplate=f"{scene.name(one.trial)}: from {one.start:.4g}"
                + (f" to {one.end:.4g}" if one.end is not None else " on")
                + "<extra></extra>",
            ),
            row=1,
            col=column,
        )


def _ends(interval: list[float | None] | None, middle: float) -> tuple[float, float]:
    """The ends of an interval; an end that has no bound is drawn at the mean."""
    low, high = interval or (None, None)
    return (middle if low is None else low, middle if high is None else high)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
