"""``podium cost``: where a sweep's money went, and what serving its champion would cost."""

import datetime
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from launchers import home
from launchers.bar import Part, bar
from launchers.commands.options import Output, SweepName
from launchers.commands.serving_cost import show_serving
from launchers.output import Format, money, say, short, show_csv, show_json, show_table
from tracking.ledger import SweepState
from tracking.meters.cost import Kind, summary

if TYPE_CHECKING:
    from analysis.spending import Point, Spending
    from sweeps.pricing import Price

_GLYPHS: dict[Kind, str] = {"training": "█", "evaluation": "▓", "retried": "▚", "failed": "▞", "idle": "░"}
_STYLES = {"training": "blue", "evaluation": "green", "retried": "yellow", "failed": "red", "idle": "dim"}
_MOST = 10  # arms in the table; JSON has all
_WIDTH = 72


def cost(
    sweep: SweepName = None,
    serving: Annotated[bool, typer.Option("--serving", help="What a month of serving costs, in its place.")] = False,
    traffic: Annotated[
        list[str] | None,
        typer.Option("--traffic", help="With --serving, another traffic, e.g. peak_rps=50.", metavar="KEY=VALUE"),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="Another price list, with entries called like the pools.")
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show where a sweep's money went, down to the arm, and what a point of score cost.

    [dim]podium cost
    podium cost commerce-sft -o json
    podium cost commerce-sft --prices our-contract.yaml
    podium cost commerce-sft --serving --traffic peak_rps=50 --traffic mean_rps=20[/]
    """
    from analysis.champion import choose
    from analysis.frame import open_sweep
    from analysis.spending import repriced, spending
    from launchers.prices import read_prices

    state = open_sweep(sweep, home.home())
    if serving or traffic:
        show_serving(state, traffic or [], read_prices(prices) if prices else {}, output)
        return
    choice = choose(state)  # before other prices: they change the dollars and nothing else
    listed = read_prices(prices) if prices else {}
    state = repriced(state, listed) if prices else state
    before = _before(state, listed)
    others = {} if sweep is not None and "/" in sweep else before  # a stage that is named is shown by itself
    found = spending(state, choice, sum(before.values()))
    rows = _shares(found)
    if output is Format.JSON:
        totals = {"cost/usd": found.usd, "cost/judge_usd": found.judge.usd}  # with comparisons
        told = {**summary(state), **totals, **_content(found), "prices": state.facts.get("pools", {})}
        show_json({**told, "stages": {**others, state.name: found.usd}} if others else told)
    elif output is Format.CSV:
        show_csv(rows, ["kind", "unit_s", "usd", "share", "energy_j"])
    else:
        _print(state, found, rows)
        for name, usd in others.items():
            print(f"the stage before, {name}: US$ {money(usd)} (podium cost {name})")
        if others:
            print(f"all stages: US$ {money(sum(others.values()) + found.usd)}")


def _before(state: SweepState, prices: "Mapping[str, Price]") -> dict[str, float]:
    """What the stages before this one have cost, by name, at these prices where they have their pools."""
    from analysis.spending import repriced
    from analysis.stages import stages_of

    found: dict[str, float] = {}
    for stage in stages_of(state):
        if stage.state is None or stage.state.name == state.name:
            break
        has_price = prices.keys() & stage.state.facts.get("pools", {}).keys()
        priced = repriced(stage.state, prices) if has_price else stage.state
        found[priced.name] = float(summary(priced)["cost/usd"] or 0.0)
    return found


def _content(found: "Spending") -> dict[str, Any]:
    from analysis.plain import plain

    content: dict[str, Any] = plain(found.to_dict())
    return content


def _shares(found: "Spending") -> list[dict[str, Any]]:
    """A row for each share, for the machines and for all."""
    held = sum(share.unit_s for share in found.shares.values())
    rows: list[dict[str, Any]] = [
        {
            "kind": kind,
            "unit_s": share.unit_s,
            "usd": share.usd,
            "share": share.unit_s / held if held else None,
            "energy_j": share.energy_j,
        }
        for kind, share in found.shares.items()
    ]
    rows.append({"kind": "machines", "unit_s": held, "usd": found.machine_usd, "share": 1.0 if held else None})
    rows.append({"kind": "judge tokens", "usd": found.judge.usd})
    return [*rows, {"kind": "total", "unit_s": held, "usd": found.usd}]


def _print(state: SweepState, found: "Spending", rows: list[dict[str, Any]]) -> None:
    columns = {"kind": "share", "unit_s": "unit-seconds", "usd": "US$", "share": "of the machines"}
    for row in rows:
        row["share"] = "" if row.get("share") is None else f"{row['share']:.1%}"
        row["unit_s"] = Decimal(f"{row['unit_s']:.1f}") if "unit_s" in row else ""
        row["usd"] = None if row["usd"] is None else money(row["usd"])
        if row["kind"] in ("machines", "total"):
            row["_style"] = "bold"
    show_table(f"{state.name}: where the money went", rows, columns)
    parts = [Part(_GLYPHS[kind], _STYLES[kind], kind, share.usd) for kind, share in found.shares.items()]
    if found.machine_usd:
        Console(highlight=False).print(bar(parts, _WIDTH, _usd), soft_wrap=True)
        print()
    _print_arms(found)
    for line in _lines(state, found):
        print(line)


def _print_arms(found: "Spending") -> None:
    kinds = [kind for kind in _GLYPHS if any(part.shares.get(kind) for part in found.parts)]
    shown = [(part.label, [part]) for part in found.parts[:_MOST]]
    if rest := found.parts[_MOST:]:
        shown.append((f"{len(rest)} more", list(rest)))
    rows = []
    for label, parts in shown:
        judge = [part.judge_usd for part in parts]
        row: dict[str, Any] = {"label": label, "usd": money(sum(part.usd for part in parts))}
        row |= {str(kind): money(sum(part.shares.get(kind, 0.0) for part in parts)) for kind in kinds}
        row["judge"] = None if None in judge else money(sum(usd or 0.0 for usd in judge))
        rows.append(row)
    columns = {"label": "US$ of", **{str(kind): str(kind) for kind in kinds}}
    if found.judge.evaluations:
        columns["judge"] = "judge"
    if rows:
        idle = "idle time is shared out by the machine time that each used"
        show_table("", rows, {**columns, "usd": "all"}, idle)


def _lines(state: SweepState, found: "Spending") -> Iterator[str]:
    yield from _allocation(state, found)
    for kind, of in found.closer.items():
        if len(of) > 1:
            yield f"{kind}: {', '.join(f'{name} {money(usd):,}' for name, usd in of.items())}"
    yield from _judge(found)
    for point in found.points:
        yield _point(point)
    if any(point.usd_per_point is not None for point in found.points):
        from analysis.spending import POINT

        unknown = "; the judge's tokens have no known price, and are left out" if found.judge.usd is None else ""
        yield f"  a point: {POINT}{unknown}"
    champion = (state.champion or {}).get("champion")
    for part in found.parts:
        if part.arm == champion:
            yield f"the champion, {part.label}, cost {_usd(part.usd)} of it, its part of the idle time included"
    yield _energy(found)
    if found.foretold:
        yield from _foretold(found, found.foretold)
    today = datetime.date.today()
    for pool in state.pools:
        unit = "core" if pool.device == "cpu" else "GPU"
        yield f"price of {pool.name}: {pool.price.in_words(unit)}"
        if note := pool.price.age_note(pool.name, today):
            say(note)


def _allocation(state: SweepState, found: "Spending") -> Iterator[str]:
    many = f"{len(state.sessions)} session{'s' if len(state.sessions) > 1 else ''}"
    for name, held in found.allocation.items():
        used = sum(share.unit_s for kind, share in found.pools[name].items() if kind != "idle")
        working = f", {used / held:.1%} of it at work" if held else ""
        yield f"{name}: {held:,.0f} unit-seconds were held over {many}{working}"
    if found.covered is None:
        yield "what was held is not in the ledger, so that nobody knows whether the shares add up to it"
    else:
        goes_on = ", of which the idle time is not charged yet" if state.ended is None else ""
        yield f"the shares add up to {found.covered:.1%} of what was held{goes_on}"


def _judge(found: "Spending") -> Iterator[str]:
    judge = found.judge
    if not judge.evaluations:
        return
    tokens = "an unknown number of" if judge.tokens is None else f"{judge.tokens:,}"
    paid = "at no known price: give the judge a price to have dollars" if judge.usd is None else _usd(judge.usd)
    saved = f"; verdicts from the cache saved {_usd(judge.saved_usd)}" if judge.saved_usd else ""
    yield f"judge: {tokens} tokens in {judge.evaluations} evaluations, {paid}{saved}"


def _point(point: "Point") -> str:
    what = f"{point.metric} against {point.against[0].lower()}{point.against[1:]}"
    if point.usd_per_point is None:
        return f"a point of {what}: no price, {point.why}"
    gained = f"{short(point.other)} → {short(point.champion)} on {point.split}, n = {point.n}"
    return f"a point of {what} cost {_usd(point.usd_per_point)} ({gained})"


def _energy(found: "Spending") -> str:
    if found.energy_j is None:
        return "energy: not measured (NVML tells it on NVIDIA GPUs; idle time is not metered)"
    return f"energy: {found.energy_j / 3.6e6:.4g} kWh, of {found.energy_of:.1%} of the time at work"


def _foretold(found: "Spending", plan: dict[str, Any]) -> Iterator[str]:
    """What `podium plan` said, beside what it came to."""
    spent = sum(share.usd for kind, share in found.shares.items() if kind in ("training", "retried", "failed"))
    yield f"foretold for training: {_usd(plan['expected_usd'])}, at most {_usd(plan['usd'])}; it came to {_usd(spent)}"
    if plan.get("judge") is not None:
        said, paid = plan["judge"]["usd"], found.judge.usd
        foretold = "no price" if said is None else f"at most {_usd(said)}"
        yield f"foretold for the judge: {foretold}; it came to {'no known price' if paid is None else _usd(paid)}"


def _usd(value: float) -> str:
    return f"US$ {money(value):,}"
