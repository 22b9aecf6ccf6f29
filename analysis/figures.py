"""The figures of the report, each a plotly figure, or the sentence that says why there is none.

Every figure takes the same :class:`Scene`, and the champion has the accent colour in all of them.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import theme
from analysis.champion import Choice
from analysis.claims import Share, facts
from analysis.flips import candidates, leaders
from analysis.frame import curves, frame
from analysis.importance import Importance
from analysis.rule import LOSS, SCORE, Rule
from sweeps.metrics import BY_NAME
from tracking.ledger import State, SweepState

_LATENCIES = ("latency/agent_p95_s", "latency/ttft_p95_s", "latency/formulation_p50_s")


@dataclass(frozen=True)
class Scene:
    """What the figures draw."""

    state: SweepState
    choice: Choice
    table: pd.DataFrame

    @property
    def rule(self) -> Rule:
        """The rule that was applied."""
        return self.choice.rule

    def name(self, trial: str) -> str:
        """A trial's name in hover texts."""
        crown = " (champion)" if trial == self.choice.champion else ""
        return f"{self.state.trials[trial].title}{crown}"

    def champion_last(self, trials: list[str]) -> list[str]:
        """``trials`` with the champion at the end, so that it is drawn on top."""
        return sorted(trials, key=lambda trial: trial == self.choice.champion)


def scene(state: SweepState, choice: Choice) -> Scene:
    """A scene of a sweep and its outcome."""
    return Scene(state, choice, frame(state))


def axis_title(metric: str) -> str:
    """A metric's name for an axis, with its unit."""
    words = {"val/loss": "Validation loss", "train/loss": "Training loss"}.get(metric, metric)
    unit = BY_NAME[metric].unit if metric in BY_NAME else ""
    return f"{words} ({unit})" if unit else words


# Importance ----------------------------------------------------------------------------------------


def importance_bars(found: Importance | str, metric: str) -> Any:
    """A bar a swept key. Its label is a percentage; the whole claim is in its tooltip."""
    import plotly.graph_objects as go

    if isinstance(found, str):
        return found
    keys, shares = list(found.shares), list(found.shares.values())
    claims = [Share(share, f"the explained variation of {metric}", "the sweep's trials", found.n) for share in shares]
    bars = go.Bar(
        x=shares,
        y=keys,
        orientation="h",
        marker_color=theme.TRIAL,
        text=[claim.short for claim in claims],
        hovertext=[str(claim) for claim in claims],
        meta={"claims": [facts(claim) for claim in claims]},
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{hovertext}<extra></extra>",
    )
    figure = go.Figure(
        bars, theme.layout(max(400, 110 + 34 * len(keys)), margin={"l": 64, "r": 56, "t": 12, "b": 56}, bargap=0.5)
    )
    figure.update_xaxes(title_text="Share of the explained variation", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    return figure


# Loss curves ---------------------------------------------------------------------------------------


def loss_curves(scene: Scene) -> Any:
    """Validation and training loss of every trial over its steps; stopped ones are dimmed."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    reports = curves(scene.state)
    panels = [name for name in (LOSS, "train/loss") if reports[name].notna().any()]
    if not panels:
        return "No trial has reported a loss yet."
    figure = make_subplots(1, len(panels), horizontal_spacing=0.09)
    groups = dict(list(reports.groupby("trial")))
    named: set[str] = set()
    for trial in scene.champion_last([trial for trial in scene.table.index if trial in groups]):
        kind, line = _curve_style(scene, trial)
        for column, name in enumerate(panels, start=1):
            points = groups[trial].dropna(subset=[name])
            figure.add_trace(
                go.Scatter(
                    x=points["step"].tolist(),
                    y=points[name].tolist(),
                    mode="lines+markers" if len(points) < 2 else "lines",
                    line=line,
                    name=kind,
                    legendgroup=kind,
                    showlegend=kind not in named,
                    hovertemplate="step %{x}: %{y:.4g}<extra>" + scene.name(trial) + "</extra>",
                ),
                row=1,
                col=column,
            )
            named.add(kind)
    figure.update_layout(**theme.layout(400))
    figure.update_xaxes(title_text="Optimizer step")
    for column, name in enumerate(panels, start=1):
        figure.update_yaxes(title_text=axis_title(name), **_axis(reports[name]), row=1, col=column)
    return figure


def _curve_style(scene: Scene, trial: str) -> tuple[str, dict[str, Any]]:
    if trial == scene.choice.champion:
        return "champion", {"color": theme.CHAMPION, "width": 3.5}
    if scene.table.loc[trial, "state"] in (State.STOPPED, State.FAILED, State.PREEMPTED):
        return "stopped or failed", {"color": theme.DIMMED, "width": 1.3}
    return "other trials", {"color": theme.TRIAL, "width": 1.5}


def _axis(values: pd.Series) -> dict[str, Any]:
    """Logarithmic where positive values span more than a factor of eight, so that a diverged trial flattens none."""
    known = values.dropna()
    if len(known) and known.min() > 0 and (span := known.max() / known.min()) > 8:
        return {"type": "log", "dtick": "D2" if span < 200 else 1, "tickformat": ".1~g"}
    return {"type": "linear"}


# Trade-offs ----------------------------------------------------------------------------------------


def latency_metric(scene: Scene) -> str | None:
    """The latency to draw: one that the rule bounds, else the agent's, else the model's; None where few have it."""
    bounded = [c.metric for c in scene.rule.constraints if c.metric.startswith("latency/")]
    for name in (*bounded, *_LATENCIES):
        if name in scene.table and scene.table[[name, scene.rule.metric]].notna().all(axis=1).sum() >= 2:
            return name
    return None


def trade_offs(scene: Scene) -> Any:
    """The objective against cost, and against latency where it was measured, with the Pareto front of each."""
    from plotly.subplots import make_subplots

    metric = scene.rule.metric
    wanted = ["cost/usd", latency_metric(scene)] if metric in scene.table else []
    panels = [
        name
        for name in wanted
        if name and name in scene.table and scene.table[[name, metric]].notna().all(axis=1).any()
    ]
    if not panels:
        return f"No trial has both {metric} and a cost yet."
    figure = make_subplots(1, len(panels), horizontal_spacing=0.09)
    for column, name in enumerate(panels, start=1):
        _scatter(figure, scene, name, metric, column)
        known = scene.table[[name, metric]].dropna()
        best = leaders(candidates(known.to_dict("index"), metric, name, scene.rule.mode))
        _front(figure, [(one.cost, known.loc[one.trial, metric]) for one in best], column)
        figure.update_xaxes(title_text=_x_title(name), rangemode="normal", row=1, col=column)
        figure.update_yaxes(title_text=axis_title(metric), row=1, col=column)
        for constraint in scene.rule.constraints:
            if constraint.metric == name and known[name].max() > 0.5 * constraint.bound:
                figure.add_vline(
                    x=constraint.bound, line={"color": theme.MUTED, "width": 1, "dash": "dot"}, row=1, col=column
                )
    figure.update_layout(**theme.layout(400))
    figure.update_xaxes(exponentformat="e")  # dollars, not µ
    return figure


def _x_title(name: str) -> str:
    return "Cost of the trial, training and evaluation (US$)" if name == "cost/usd" else axis_title(name)


def _scatter(figure: Any, scene: Scene, x: str, y: str, column: int) -> None:
    import plotly.graph_objects as go

    known = scene.table[[x, y, "state"]].dropna(subset=[x, y])
    kinds: dict[str, list[str]] = {}
    for trial in known.index:
        kinds.setdefault(_curve_style(scene, trial)[0], []).append(trial)
    colours = {"champion": theme.CHAMPION, "stopped or failed": theme.DIMMED, "other trials": theme.TRIAL}
    for kind in ("other trials", "stopped or failed", "champion"):
        if trials := kinds.get(kind):
            figure.add_trace(
                go.Scatter(
                    x=known.loc[trials, x].tolist(),
                    y=known.loc[trials, y].tolist(),
                    mode="markers",
                    marker={
                        "color": colours[kind],
                        "size": 14 if kind == "champion" else 9,
                        "symbol": "star" if kind == "champion" else "circle",
                        "line": {"color": "white", "width": 1},
                    },
                    name=kind,
                    legendgroup=kind,
                    showlegend=column == 1,
                    text=[scene.name(trial) for trial in trials],
                    hovertemplate=f"%{{text}}<br>{x} %{{x:.4g}}<br>{y} %{{y:.4g}}<extra></extra>",
                ),
                row=1,
                col=column,
            )


def _front(figure: Any, front: list[tuple[float, float]], column: int) -> None:
    import plotly.graph_objects as go

    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in front],
            y=[y for _, y in front],
            mode="lines",
            line={"color": theme.INK, "width": 1.2, "dash": "dash", "shape": "hv"},
            name="Pareto front",
            legendgroup="Pareto front",
            showlegend=column == 1,
            hoverinfo="skip",
        ),
        row=1,
        col=column,
    )


def rank_agreement(scene: Scene) -> Any:
    """Quality against validation loss, one point a trial."""
    from plotly.subplots import make_subplots

    metric = scene.rule.metric if scene.rule.metric != LOSS else SCORE
    if LOSS not in scene.table or metric not in scene.table or scene.table[[LOSS, metric]].dropna().empty:
        return f"No trial has both {LOSS} and {metric}."
    figure = make_subplots(1, 1)
    _scatter(figure, scene, LOSS, metric, 1)
    figure.update_layout(**theme.layout(400))
    figure.update_xaxes(title_text=axis_title(LOSS), **_axis(scene.table[LOSS]))
    figure.update_yaxes(title_text=axis_title(metric))
    return figure
