"""Where a sweep's money went: shares that add up to what was held, each arm's part, and what a point of score cost."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from analysis.champion import Choice, default_trial
from analysis.comparison import comparison, standing
from analysis.pairwise import read_pairwise
from analysis.rule import QUALITY
from sweeps.errors import InvalidInput, Problem
from sweeps.facts import Pool
from sweeps.pricing import Price
from tracking.ledger import CostEntry, SweepState
from tracking.meters.cost import (
    JudgeTokens,
    Kind,
    Share,
    allocation,
    arms_of,
    evaluations_of,
    every_evaluation,
    judge_tokens,
    kind_of,
    shares,
)
from tracking.state import BASE, BASE_SCHEMA, DEFECTS, INCUMBENT

_CALLED = {BASE: "base", BASE_SCHEMA: "base in the schema", INCUMBENT: "incumbent", DEFECTS: "planted defects"}
POINT = "what the sweep and the stages before it spent, machines and judge, over the points gained on the same items"


@dataclass(frozen=True)
class Part:
    """What one arm took, in US$; its idle part is by the machine time that it used.

    Attributes:
        shares: By kind. ``judge_usd`` is None where verdicts were paid for and their price is not known.
        usd: All of it; what is not known of the judge is not in it.
        unit_s: Machine time, idle left out.
    """

    arm: str
    label: str
    shares: dict[Kind, float]
    judge_usd: float | None
    usd: float
    unit_s: float


@dataclass(frozen=True)
class Point:
    """What a point of score cost against one arm; ``usd_per_point`` is None where ``why`` says why."""

    against: str
    metric: str
    split: str
    n: int
    champion: float | None
    other: float | None
    usd: float
    usd_per_point: float | None
    why: str | None = None


@dataclass(frozen=True)
class Spending:
    """A sweep's money.

    Attributes:
        allocation: Unit-seconds held, by pool; ``pools`` what was used of each, by kind.
        shares: Of all pools; ``closer`` in US$ by what each was spent on.
        machine_usd: Sum of the shares; ``usd`` with the judge's tokens, as far as their price is known.
        covered: The shares' unit-seconds over the allocation; None where nothing was held.
        energy_j: Of all that was measured; ``energy_of`` the share of the working unit-seconds that it covers.
        pairwise: What ``podium judge compare`` paid for; it is in ``judge``.
    """

    allocation: dict[str, float]
    pools: dict[str, dict[Kind, Share]]
    shares: dict[Kind, Share]
    closer: dict[Kind, dict[str, float]]
    judge: JudgeTokens
    pairwise: JudgeTokens
    machine_usd: float
    usd: float
    covered: float | None
    energy_j: float | None
    energy_of: float
    parts: tuple[Part, ...]
    points: tuple[Point, ...]
    foretold: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "point": POINT}


def spending(state: SweepState, choice: Choice, before: float = 0.0) -> Spending:
    """Add up what a sweep's ledger has of its cost.

    Args:
        before: US$ that the stages before it have cost, without which its champion's points were not to be had.
    """
    found = shares(state)
    pools = {name: shares(state, lambda entry, name=name: entry.pool == name) for name in _pools(state)}  # type: ignore[misc]
    pairwise = _compared(state)
    judge = judge_tokens(every_evaluation(state)) + pairwise
    machine_usd = math.fsum(share.usd for share in found.values())
    usd = machine_usd + (judge.usd or 0.0)
    held = allocation(state)
    unit_s = math.fsum(share.unit_s for share in found.values())
    working = [entry for entry in state.costs if entry.kind != "idle"]
    metered = Share.of(entry for entry in working if entry.energy_j is not None)
    worked = math.fsum(entry.unit_s for entry in working)
    return Spending(
        held,
        pools,
        found,
        _closer(state),
        judge,
        pairwise,
        machine_usd,
        usd,
        unit_s / math.fsum(held.values()) if any(held.values()) else None,
        metered.energy_j,
        metered.unit_s / worked if worked else 0.0,
        tuple(_parts(state, pairwise)),
        tuple(_points(state, choice, usd + before)),
        state.facts.get("plan"),
    )


def repriced(state: SweepState, prices: Mapping[str, Price]) -> SweepState:
    """The same sweep at other prices of its pools. What tokens cost stays.

    Raises:
        InvalidInput: The list has none of the pools.
    """
    pools = {name: Pool.model_validate(pool) for name, pool in state.facts.get("pools", {}).items()}
    if not pools.keys() & prices.keys():
        hint = f"entries it has: {', '.join(prices)}"
        raise InvalidInput(
            Problem(
                "--prices",
                f"has no entry for {' or '.join(pools)}, the sweep's pool{'s' if len(pools) > 1 else ''}",
                hint,
            )
        )
    pools = {name: pool.model_copy(update={"price": prices.get(name, pool.price)}) for name, pool in pools.items()}
    costs = [
        replace(one, usd=one.unit_s / 3600 * pools[one.pool].price.usd_per_hour) if one.pool in pools else one
        for one in state.costs
    ]
    # What was foretold was so at the prices of then.
    facts = {key: value for key, value in state.facts.items() if key != "plan"}
    facts["pools"] = {name: pool.model_dump(mode="json") for name, pool in pools.items()}
    return replace(state, costs=costs, facts=facts)


def _pools(state: SweepState) -> list[str]:
    return list(dict.fromkeys([*state.facts.get("pools", {}), *(entry.pool for entry in state.costs)]))


def _closer(state: SweepState) -> dict[Kind, dict[str, float]]:
    """By kind, then by what the ledger calls it, the dearest first; trials' own work has no further name."""
    found: dict[Kind, dict[str, float]] = {}
    for entry in state.costs:
        of = found.setdefault(kind_of(state, entry), {})
        name = entry.what or "trials"
        of[name] = of.get(name, 0.0) + entry.usd
    return {kind: dict(sorted(of.items(), key=lambda one: -one[1])) for kind, of in found.items()}


def _compared(state: SweepState) -> JudgeTokens:
    found = read_pairwise(state) or {}
    if "tokens" not in found:
        return JudgeTokens()
    return JudgeTokens(found["tokens"], found["usd"], found["usd_saved"], 1)


def _parts(state: SweepState, pairwise: JudgeTokens) -> Iterator[Part]:
    """Every arm that something was spent on, the dearest first. Their sum is what the sweep spent."""
    working: dict[str, float] = {}
    idle: dict[str, float] = {}
    for entry in state.costs:
        into, value = (idle, entry.usd) if entry.kind == "idle" else (working, entry.unit_s)
        into[entry.pool] = into.get(entry.pool, 0.0) + value
    rate = {pool: idle.get(pool, 0.0) / unit_s for pool, unit_s in working.items() if unit_s}  # US$ a working second
    parts = [_part(state, arm, rate) for arm in arms_of(state)]
    yield from sorted((part for part in parts if part.usd or part.judge_usd is None), key=lambda part: -part.usd)
    alone = math.fsum(usd for pool, usd in idle.items() if pool not in rate)
    if alone:  # a pool that nothing ran on
        yield Part("", "no arm", {"idle": alone}, 0.0, alone, 0.0)
    if pairwise.evaluations:
        yield Part("", "comparisons", {}, pairwise.usd, pairwise.usd or 0.0, 0.0)


def _part(state: SweepState, arm: str, rate: Mapping[str, float]) -> Part:
    mine: list[CostEntry] = [entry for entry in state.costs if entry.trial == arm]
    by_kind: dict[Kind, float] = {}
    for entry in mine:
        kind = kind_of(state, entry)
        by_kind[kind] = by_kind.get(kind, 0.0) + entry.usd
    by_kind["idle"] = math.fsum(entry.unit_s * rate.get(entry.pool, 0.0) for entry in mine)
    judge = judge_tokens(evaluations_of(state, arm)).usd
    trial = state.every_trial.get(arm)
    label = trial.label if trial else _CALLED.get(arm, arm)
    usd = math.fsum(by_kind.values()) + (judge or 0.0)
    return Part(arm, label, by_kind, judge, usd, math.fsum(entry.unit_s for entry in mine))


def _points(state: SweepState, choice: Choice, usd: float) -> Iterator[Point]:
    """Against what there was before, and against the recipe as it ships."""
    metric, split = choice.rule.metric, "challenge" if choice.outcome is not None else "dev"
    if choice.champion is None:
        return
    if not metric.startswith(QUALITY):
        yield Point("what there was", metric, split, 0, None, None, usd, None, "no other arm was measured by it")
        return
    table = comparison(state, choice, split).set_index("role")
    others = {arm: label for arm, label in standing(state).items() if arm != BASE_SCHEMA}
    if default_trial(state) not in (None, choice.champion):
        others["default"] = "Default recipe"
    for role, label in others.items():
        ours, theirs = (_value(table, one, metric) for one in ("champion", role))
        n = int(table.loc["champion"]["n"])
        told = (label, metric, split, n, ours, theirs, usd)
        if ours is None or theirs is None:
            yield Point(*told, None, "not measured on this split")
        elif table.loc[role]["n"] != n:
            yield Point(*told, None, f"measured on n = {int(table.loc[role]['n'])} items")
        elif (gained := ours - theirs) <= 0:
            yield Point(*told, None, "the champion gained nothing")
        else:
            yield Point(*told, usd / gained)


def _value(table: Any, role: str, metric: str) -> float | None:
    if role not in table.index or metric not in table.columns or math.isnan(table.loc[role][metric]):
        return None
    return float(table.loc[role][metric])
