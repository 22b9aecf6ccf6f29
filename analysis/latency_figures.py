"""The figure of latency: what each stage takes, arm by arm, how long the slowest wait, and where the SLO lies."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from analysis import theme
from analysis.decision_figures import ROW_PX
from analysis.figures import Scene
from analysis.latency import reported, slo_of, stages
from tracking.meters.latency.stages import AGENT, FORMULATION

ROOM = 3.0  # an SLO that lies farther off than so many times the longest bar would leave nothing to see of the bars


@dataclass(frozen=True)
class _Arm:
    """An arm with its rows of :func:`analysis.latency.stages`, by stage; all times in seconds."""

    name: str
    is_champion: bool
    rows: dict[str, dict[str, Any]]

    @property
    def whole(self) -> str:
        """What a shopper waits for: all stages, or the model alone where there are no others."""
        return AGENT if AGENT in self.rows else FORMULATION

    @property
    def slowest(self) -> float | None:
        """The whole's 95th percentile."""
        return self.rows[self.whole]["p95"] if self.whole in self.rows else None

    def medians(self) -> Iterator[tuple[str, float]]:
        """The stages that are shown, in their order."""
        for stage in theme.STAGES:
            if stage in self.rows and self.rows[stage]["p50"] is not None:
                yield stage, self.rows[stage]["p50"]

    @property
    def length(self) -> float:
        """Of the bar, with what marks the slowest."""
        return max(sum(seconds for _, seconds in self.medians()), self.slowest or 0.0)


def stage_bars(scene: Scene) -> Any | None:
    """Medians of the stages as one bar for each arm; None where no median is known."""
    import plotly.graph_objects as go

    arms = _arms(scene)
    if not arms:
        return None
    figure = go.Figure(layout=theme.layout(140 + ROW_PX * len(arms), barmode="stack", bargap=0.45))
    for stage, colour in theme.STAGES.items():
        having = [(arm, seconds) for arm in arms for name, seconds in arm.medians() if name == stage]
        if having:
            figure.add_trace(
                go.Bar(
                    x=[seconds for _, seconds in having],
                    y=[arm.name for arm, _ in having],
                    orientation="h",
                    name=stage,
                    marker_color=colour,
                    customdata=[[arm.rows[stage]["n"], arm.rows[stage]["load"]] for arm, _ in having],
                    hovertemplate="%{y}, " + stage + ": median %{x:.3g} s, n = %{customdata[0]}, "
                    "%{customdata[1]}<extra></extra>",
                )
            )
    _slowest(figure, arms)
    _limits(figure, scene, arms)
    figure.update_layout(legend_traceorder="normal")
    figure.update_xaxes(title_text="Seconds", rangemode="tozero")
    figure.update_yaxes(
        ticks="", showgrid=False, categoryorder="array", categoryarray=[arm.name for arm in reversed(arms)]
    )
    return figure


def _arms(scene: Scene) -> list[_Arm]:
    """Whoever has a median, as people call them."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in reported(stages(scene.state, scene.choice), scene.state, scene.choice):
        rows.setdefault(row["arm"], {})[row["stage"]] = row
    arms = [_Arm("", arm == scene.choice.champion, by_stage) for arm, by_stage in rows.items()]
    arms = [arm for arm in arms if any(arm.medians())]
    first = [next(iter(arm.rows.values())) for arm in arms]
    several = len({row["load"] for row in first}) > 1  # then they are not to be compared, and each says its own
    found = []
    for arm, row in zip(arms, first, strict=True):
        name = f"<b>{row['label']}</b>" if arm.is_champion else row["label"]
        name += f"<br><span style='font-size:11px'>{row['load']}</span>" if several else ""
        found.append(replace(arm, name=name))
    return found


def _slowest(figure: Any, arms: list[_Arm]) -> None:
    """A whisker from the end of a bar to the whole's 95th percentile, where that is known."""
    import plotly.graph_objects as go

    named = False
    for arm in arms:
        if arm.slowest is None:
            continue
        row, colour = arm.rows[arm.whole], theme.CHAMPION if arm.is_champion else theme.INK
        figure.add_trace(
            go.Scatter(
                x=[sum(seconds for _, seconds in arm.medians()), arm.slowest],
                y=[arm.name, arm.name],
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"symbol": ["line-ns", "line-ns-open"], "size": [0, 14], "color": colour, "line_width": 2},
                name=f"95th percentile of the {arm.whole}",
                legendgroup="p95",
                showlegend=not named,
                hovertemplate=f"%{{y}}: {arm.whole} p95 {arm.slowest:.3g} s, n = {row['n']}<extra></extra>",
            )
        )
        named = True


def _limits(figure: Any, scene: Scene, arms: list[_Arm]) -> None:
    """The SLO's limits on what the bars show whole; where one lies far off, a note at the edge."""
    longest, far = max(arm.length for arm in arms), []
    for name, limit in slo_of(scene.state).items():
        stage, _, percent = name.rpartition("_p")
        if stage not in {arm.whole for arm in arms}:
            continue
        words = f"SLO: {stage} p{percent} {limit}"
        if limit.seconds > ROOM * longest:
            far.append(f"{words} →")
            continue
        figure.add_vline(
            x=limit.seconds,
            line={"color": theme.WORSE, "width": 1.5, "dash": "dash"},
            annotation={"text": words, "font": {"color": theme.WORSE, "size": 12}, "yshift": 4, "showarrow": False},
            annotation_position="top",
        )
    if far:
        figure.add_annotation(
            text="<br>".join(far),
            x=1,
            y=1.02,
            xref="paper",
            yref="paper",
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            font={"color": theme.WORSE, "size": 12},
        )
