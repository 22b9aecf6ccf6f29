"""The figure of retrieval: what each arm finds, from the shopper's own words to the gold attributes."""

from typing import Any

from analysis import theme
from analysis.decision_figures import ROW_PX
from analysis.figures import Scene, axis_title
from analysis.retrieval import METRICS, Arm, measured_arms
from tracking.meters.retrieval import HYDE


def retrieval_arms(scene: Scene) -> Any | None:
    """nDCG@10 and e2e score of every arm with intervals; None where the sweep has no pipeline."""
    if not (scene.state.spec.get("evaluate") or {}).get("pipeline"):
        return None
    for split in ("challenge", "dev"):
        if arms := measured_arms(scene.state, split):
            return _drawn(scene, arms, split)
    return "No answers were evaluated yet, so nothing was retrieved."


def _drawn(scene: Scene, arms: list[Arm], split: str) -> Any:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(1, len(METRICS), horizontal_spacing=0.05, shared_yaxes=True)
    for column, name in enumerate(METRICS, start=1):
        for one in reversed(arms):
            value = one.figures[name]
            if value.mean is None:
                continue
            low, high = (value.mean if end is None else end for end in (value.low, value.high))
            error = {"array": [high - value.mean], "arrayminus": [value.mean - low], "thickness": 2, "width": 5}
            figure.add_trace(
                go.Scatter(
                    x=[value.mean],
                    y=[one.label],
                    mode="markers",
                    marker={"color": _colour(scene, one), "size": 11, "symbol": _symbol(one)},
                    error_x=error,
                    cliponaxis=False,
                    hovertemplate=f"%{{y}}: %{{x:.3f}}, {low:.3f} to {high:.3f}, n = {value.n}<extra></extra>",
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text=f"{axis_title(name)} on the {split} set", rangemode="tozero", row=1, col=column)
    figure.update_layout(**theme.layout(110 + ROW_PX * len(arms), showlegend=False))
    figure.update_yaxes(ticks="", ticklabelstandoff=8, showgrid=False)  # beside markers that lie on the axis
    return figure


def _colour(scene: Scene, arm: Arm) -> str:
    if arm.arm == scene.choice.champion:
        return theme.CHAMPION
    return theme.TRIAL if arm.arm in scene.state.trials else theme.MUTED


def _symbol(arm: Arm) -> str:
    return "circle" if arm.kind == HYDE else "diamond-open"
