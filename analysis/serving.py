"""A month of serving the arms of a sweep at a stated traffic: base, incumbent, champion, and who else was timed."""

from dataclasses import dataclass

from analysis.champion import Choice
from analysis.claims import Claim
from analysis.comparison import baseline, standing
from analysis.measured import DATA_OF, change
from sweeps.facts import Pool
from sweeps.pricing import TokenPrice, Traffic
from tracking.ledger import SweepState
from tracking.meters.serving_cost import MONTHLY, SPLIT, ServingCost, serving_cost
from tracking.state import BASE_SCHEMA, INCUMBENT

DATA = DATA_OF[SPLIT]


@dataclass(frozen=True)
class Served:
    """One arm. ``change`` is its month against the baseline's, in words with both figures; None for the baseline."""

    arm: str
    label: str
    cost: ServingCost
    change: str | None


def serving_costs(state: SweepState, choice: Choice, traffic: Traffic, pool: Pool) -> list[Served]:
    """What serving costs: the base, the incumbent and the champion first, then the other trials that were timed.

    One that was not measured has no dollars, and says why.
    """
    labels = {arm: label for arm, label in standing(state).items() if arm != BASE_SCHEMA}
    if choice.champion is not None:
        labels[choice.champion] = f"Champion, {state.trials[choice.champion].label}"
    for trial in state.trials.values():
        if any(one.split == "latency" for one in trial.evaluations):
            labels.setdefault(trial.id, trial.title)
    costs = {arm: _cost(state, arm, traffic, pool) for arm in labels}
    against = baseline(state)
    return [Served(arm, labels[arm], costs[arm], _change(arm, against, costs)) for arm in labels]


def _cost(state: SweepState, arm: str, traffic: Traffic, pool: Pool) -> ServingCost:
    written = ((state.spec.get("evaluate") or {}).get("incumbent") or {}).get("price") if arm == INCUMBENT else None
    price = TokenPrice.model_validate(written) if written else None
    return serving_cost(traffic, pool, state.evaluations_of(arm), price)


def _change(arm: str, against: str, costs: dict[str, ServingCost]) -> str | None:
    """A month of one arm against the baseline's: the traffic is the same, and n the requests that each rests on."""
    ours, theirs = _claim(arm, costs[arm]), _claim(against, costs[against])
    if arm == against or ours is None or theirs is None:
        return None
    found, why = change(ours, theirs)
    return str(found) if found else why


def _claim(name: str, cost: ServingCost) -> Claim | None:
    return Claim(MONTHLY, name, cost.monthly_usd, DATA, cost.n) if cost.monthly_usd is not None else None
