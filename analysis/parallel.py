"""Parallel coordinates of a sweep, drawn as plain lines: plotly's own need WebGL and cannot single out the champion."""

import math
import re
from typing import Any

from analysis import theme
from analysis.figures import Scene
from analysis.frame import swept_keys
from analysis.scales import Scale, label, number, scale_of, shorten


def parallel(scene: Scene) -> Any:
    """One line a trial over every swept key that varies and the objective."""
    import plotly.graph_objects as go

    keys = [key for key in swept_keys(scene.state) if scene.table[key].map(label).nunique() > 1]
    if not keys:
        return "No swept key varies among the trials."
    measured = scene.rule.metric in scene.table and scene.table[scene.rule.metric].notna().any()
    axes = [*keys, scene.rule.metric] if measured else keys
    scales = {key: scale_of(scene.state, key, list(scene.table[key])) for key in axes}
    figure = go.Figure()
    for trial in scene.champion_last(list(scene.table.index)):
        figure.add_trace(_line(scene, trial, axes, scales))
    if measured:
        figure.add_trace(_colour_bar(scene, scales[scene.rule.metric]))
    for place, key in enumerate(axes):
        _draw_axis(figure, place, key, scales[key], small=len(axes) > 7)
    hidden = {"visible": False, "fixedrange": True}
    layout = theme.layout(460, showlegend=False, margin={"l": 70, "r": 30, "t": 84, "b": 24})
    layout["xaxis"] = {**hidden, "range": [-0.25, len(axes) - 0.9]}
    layout["yaxis"] = {**hidden, "range": [-0.06, 1.06]}
    figure.update_layout(**layout)
    return figure


def _line(scene: Scene, trial: str, axes: list[str], scales: dict[str, Scale]) -> Any:
    import plotly.graph_objects as go

    row = scene.table.loc[trial]
    values = [row[key] for key in axes]
    # Trials with the same category would lie on one another: spread them a little around it.
    spread = ((int(row["number"]) * 7) % 11 - 5) / 220
    positions = [
        scales[key].position(value) + (spread if scales[key].kind == "category" else 0.0)
        for key, value in zip(axes, values, strict=True)
    ]
    is_champion = trial == scene.choice.champion
    colour = theme.CHAMPION if is_champion else _shade(scene, row.get(scene.rule.metric, math.nan))
    texts = [f"{key} = {_text(value)}" for key, value in zip(axes, values, strict=True)]
    return go.Scatter(
        x=list(range(len(axes))),
        y=[None if math.isnan(position) else position for position in positions],
        mode="lines+markers",
        line={"color": colour, "width": 4 if is_champion else 1.6},
        marker={"size": 8 if is_champion else 4},
        opacity=1.0 if is_champion else 0.85,
        name=scene.name(trial),
        text=texts,
        hovertemplate="%{text}<extra>" + scene.name(trial) + "</extra>",
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "not measured" if math.isnan(value) else number(value)
    return label(value)


def _shade(scene: Scene, objective: float) -> str:
    """The colour of an objective between the worst and the best of the sweep; very light where there is none."""
    from plotly.colors import find_intermediate_color, hex_to_rgb

    if math.isnan(objective):
        return theme.GRID
    column = scene.table[scene.rule.metric].dropna()
    low, high = float(column.min()), float(column.max())
    share = 1.0 if low == high else (objective - low) / (high - low)
    share = share if scene.rule.mode == "max" else 1 - share
    red, green, blue = find_intermediate_color(hex_to_rgb(theme.WORST), hex_to_rgb(theme.BEST), share)
    return f"rgb({red:.0f},{green:.0f},{blue:.0f})"


def _colour_bar(scene: Scene, scale: Scale) -> Any:
    import plotly.graph_objects as go

    ends = [theme.WORST, theme.BEST] if scene.rule.mode == "max" else [theme.BEST, theme.WORST]
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        hoverinfo="skip",
        marker={
            "color": [0.0],
            "colorscale": ends,
            "cmin": scale.low,
            "cmax": scale.high,
            "showscale": True,
            "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9, "x": 1.02, "tickfont": {"color": theme.MUTED}},
        },
    )


def wrap(name: str, width: int) -> list[str]:
    """A dotted name in lines of at most ``width`` characters where its dots, slashes and underscores allow it."""
    lines = [""]
    for part in re.findall(r"[^._/]+[._/]?", name):
        if lines[-1] and (len(lines[-1] + part) > width or lines[-1][-1] in "./"):
            lines.append("")
        lines[-1] += part
    return lines


def _draw_axis(figure: Any, place: int, key: str, scale: Scale, small: bool) -> None:
    figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": "#9aa7b5", "width": 1}, layer="below")
    title = "<br>".join(wrap(key, 9 if small else 14))
    figure.add_annotation(
        x=place,
        y=1.07,
        text=f"<b>{title}</b>",
        showarrow=False,
        yanchor="bottom",
        yref="paper",
        font={"size": 11 if small else 12.5},
    )
    for position, text in scale.ticks():
        figure.add_annotation(
            x=place,
            y=position,
            text=shorten(text, 10 if small else 16),
            showarrow=False,
            xanchor="right",
            xshift=-8,
            font={"size": 11, "color": theme.MUTED},
            bgcolor="rgba(255,255,255,0.8)",
            borderpad=1,
        )
