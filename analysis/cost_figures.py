"""The report's figures of money: where the sweep's went, and what a month of serving takes."""

from typing import Any

from analysis import theme
from analysis.figures import Scene
from analysis.serving import serving_costs
from sweeps.facts import Pool
from sweeps.pricing import Traffic
from tracking.meters.cost import KINDS, shares
from tracking.meters.serving_cost import HOURS_A_MONTH


def cost_bars(scene: Scene) -> Any:
    """What was spent on each share, by pool."""
    import plotly.graph_objects as go

    costs = scene.state.costs
    if not costs:
        return "Nothing was spent yet."
    pools = sorted({entry.pool for entry in costs})
    of = [shares(scene.state, lambda entry, pool=pool: entry.pool == pool) for pool in pools]  # type: ignore[misc]
    figure = go.Figure(layout=theme.layout(150 + 46 * len(pools), barmode="stack", bargap=0.45))
    figure.update_layout(legend_traceorder="normal")
    for kind in KINDS:
        if not any(share[kind].usd for share in of):
            continue
        figure.add_trace(
            go.Bar(
                x=[share[kind].usd for share in of],
                y=pools,
                orientation="h",
                name=kind,
                marker_color=theme.KINDS[kind],
                customdata=[share[kind].unit_s / 3600 for share in of],
                hovertemplate="%{y}, " + kind + ": US$ %{x:.3g} for %{customdata:.3g} unit-hours<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="US$", rangemode="tozero")
    figure.update_yaxes(title_text="Pool", ticks="", showgrid=False)
    return figure


def serving_bars(scene: Scene) -> Any:
    """US$ a month by arm; a sentence where nobody was measured, None where the sweep states no traffic."""
    import plotly.graph_objects as go

    stated = _stated(scene)
    if stated is None:
        return None
    served = [one for one in serving_costs(scene.state, scene.choice, *stated) if one.cost.monthly_usd is not None]
    if not served:
        return "Neither a goodput nor a latency was measured, so that nothing is known of replicas."
    colours = [theme.CHAMPION if one.arm == scene.choice.champion else theme.TRIAL for one in served]
    figure = go.Figure(layout=theme.layout(150 + 46 * len(served), bargap=0.45))
    figure.add_trace(
        go.Bar(
            x=[one.cost.monthly_usd for one in served],
            y=[one.label for one in served],
            orientation="h",
            marker_color=colours,
            text=[_label(one.cost.monthly_usd or 0.0, one.cost.replicas) for one in served],
            customdata=[[one.cost.usd_per_1k_requests, one.cost.by] for one in served],
            hovertemplate="%{y}: US$ %{x:,.0f} a month, US$ %{customdata[0]:.3g} a thousand requests<br>"
            "%{customdata[1]}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="US$ a month", rangemode="tozero")
    figure.update_yaxes(ticks="", showgrid=False, autorange="reversed")
    return figure


def serving_how(scene: Scene) -> str:
    """All that the dollars rest on."""
    stated = _stated(scene)
    assert stated is not None, "only a stated traffic is drawn"
    traffic, pool = stated
    unit = "core" if pool.device == "cpu" else "GPU"
    return (
        f"A peak of {traffic.peak_rps:g} requests a second with head room {traffic.headroom:g} of it, at least "
        f"{traffic.min_replicas} replicas of {traffic.gpus_per_replica} {unit}; {HOURS_A_MONTH} hours a month at "
        f"{pool.price.in_words(unit)}. Point at a bar for the goodput that it rests on, and a thousand requests."
    )


def _label(usd: float, replicas: int | None) -> str:
    return f"US$ {usd:,.0f}" + (f", {replicas} replicas" if replicas else "")


def _stated(scene: Scene) -> tuple[Traffic, Pool] | None:
    traffic, pool = scene.state.spec.get("traffic"), scene.state.facts.get("serving")
    if not traffic or not pool:
        return None
    return Traffic.model_validate(traffic), Pool.model_validate(pool)
