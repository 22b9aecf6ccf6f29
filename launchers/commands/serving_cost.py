"""``podium cost --serving``: a month of serving, for a stated traffic."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launchers.output import Format, money, say, show
from launchers.pools import pools_beside
from launchers.problems import in_words
from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.facts import Pool
from sweeps.grammar import GrammarError, parse_value
from sweeps.pricing import Price, Traffic
from tracking.ledger import SweepState
from tracking.meters.serving_cost import HOURS_A_MONTH


def show_serving(state: SweepState, changes: Sequence[str], prices: Mapping[str, Price], output: Format) -> None:
    """Print it.

    Args:
        changes: ``key=value`` texts over the sweep's ``traffic``.
        prices: Of the user's own, by pool.

    Raises:
        InvalidInput: No traffic is stated, or not as it must be.
    """
    from analysis.champion import choose
    from analysis.serving import serving_costs

    traffic = _traffic(state, changes)
    pool = _pool(state, traffic, prices)
    served = serving_costs(state, choose(state), traffic, pool)
    rows: list[dict[str, Any]] = [
        {"arm": one.arm, "label": one.label, **one.cost.to_dict(), "change": one.change} for one in served
    ]
    unit = "core" if pool.device == "cpu" else "GPU"
    if output is Format.TABLE:
        for row in rows:
            for key in ("monthly_usd", "usd_per_1k_requests"):
                row[key] = None if row[key] is None else money(row[key])
            row["rests on"] = row["why"] or row["by"]
            row["utilisation"] = "" if row["utilisation"] is None else f"{row['utilisation']:.0%}"
    columns = {
        "label": "arm",
        "replicas": "replicas",
        "monthly_usd": "US$ a month",
        "usd_per_1k_requests": "US$ per 1,000 requests",
        "utilisation": "mean load",
    }
    columns |= (
        {"rests on": "rests on"} if output is Format.TABLE else {key: key for key in ("by", "n", "why", "change")}
    )
    content = {"traffic": traffic.model_dump(mode="json"), "pool": pool.model_dump(mode="json"), "arms": rows}
    caption = _assumed(traffic, pool, unit, next(iter(state.facts.get("pools", {})), pool.name))
    show(content, rows, columns, output, f"{state.name}: a month of serving", caption)
    if output is not Format.TABLE:
        return
    for one in served:
        if one.change:
            print(f"{one.label}: {one.change}")
    print(f"price of {pool.name}: {pool.price.in_words(unit)}")
    if note := pool.price.age_note(pool.name, datetime.date.today()):
        say(note)


def _assumed(traffic: Traffic, pool: Pool, unit: str, measured: str) -> str:
    """What the dollars rest on; ``measured`` is the pool that the arms were timed on."""
    least = f", at least {traffic.min_replicas}" if traffic.min_replicas > 1 else ""
    units = f"{traffic.gpus_per_replica} {unit}{'s' if traffic.gpus_per_replica > 1 else ''} of {pool.name}"
    return (
        f"peak {traffic.peak_rps:g} requests/s with {traffic.headroom:.0%} head room{least}; {units} a replica; "
        f"{HOURS_A_MONTH} hours a month; a thousand requests at a mean of {traffic.mean_rps:g} requests/s"
        + (f"; measured on {measured}, and taken for as fast on {pool.name}" if measured != pool.name else "")
    )


def _traffic(state: SweepState, changes: Sequence[str]) -> Traffic:
    values: dict[str, Any] = dict(state.spec.get("traffic") or {})
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or key not in Traffic.model_fields:
            rule = f"must be a key of traffic and its value, but got {change!r}"
            raise InvalidInput(Problem("--traffic", rule, nearest(key, tuple(Traffic.model_fields))))
        try:
            values[key] = parse_value(text)
        except GrammarError as error:
            raise InvalidInput(Problem(f"--traffic {key}", error.rule, error.hint)) from None
    if not values:
        way_out = "say --traffic peak_rps=50 --traffic mean_rps=20, or write traffic: in the sweep's YAML"
        raise InvalidInput(Problem("--serving", "the sweep states no traffic", way_out))
    try:
        return Traffic.model_validate(values)
    except ValidationError as error:
        found = [in_words(detail, Traffic, "--traffic") for detail in error.errors(include_url=False)]
        raise InvalidInput(found) from None


def _beside(state: SweepState) -> dict[str, Pool]:
    return pools_beside(Path(state.facts.get("base_dir", ".")), state.spec.get("prices"))


def _pool(state: SweepState, traffic: Traffic, prices: Mapping[str, Price]) -> Pool:
    """The pool to serve on as the sweep knew it, else as its file says now."""
    told = [*state.facts.get("pools", {}).values(), *filter(None, [state.facts.get("serving")])]
    known = {pool["name"]: Pool.model_validate(pool) for pool in told}
    name = traffic.pool or next(iter(known), "cpu")
    known = known if name in known else _beside(state)
    if name not in known:
        raise InvalidInput(Problem("--traffic", f'unknown pool "{name}"', nearest(name, tuple(known))))
    if prices and name not in prices:
        rule = f"has no entry for {name}, the pool to serve on"
        raise InvalidInput(Problem("--prices", rule, f"entries it has: {', '.join(prices)}"))
    return known[name].model_copy(update={"price": prices[name]}) if prices else known[name]
