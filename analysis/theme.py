"""Colours and layout that all figures of the report share."""

from typing import Any

CHAMPION = "#d9580d"  # the one accent: the champion, and nothing else
TRIAL = "#4f7396"
DIMMED = "#c5ceda"
WORSE = "#b0545c"  # shown to be worse
GRID = "#e8ebef"
INK = "#1d2733"
MUTED = "#667385"
WORST, BEST = "#d5dde6", "#23527c"  # the objective's colour scale
KINDS = {"training": "#4f7396", "evaluation": "#7fa99b", "retried": "#d3a64f", "failed": "#b0545c", "idle": "#c3cad3"}
STAGES = {"formulation": "#4f7396", "retrieval": "#7fa99b", "ranking": "#d3a64f"}  # of a request, in their order
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def layout(height: int, **more: Any) -> dict[str, Any]:
    """The layout that every figure starts from."""
    axis = {
        "gridcolor": GRID,
        "linecolor": "#cfd6de",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "#cfd6de",
        "automargin": True,
        "title": {"standoff": 12},
    }
    return {
        "height": height,
        "margin": {"l": 64, "r": 24, "t": 40, "b": 56},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": FONT, "size": 13, "color": INK},
        "hoverlabel": {"bgcolor": "white", "bordercolor": "#cfd6de", "font": {"family": FONT, "color": INK}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "xaxis": axis,
        "yaxis": axis,
        "xaxis2": axis,
        "xaxis3": axis,
        "yaxis2": axis,
        **more,
    }
