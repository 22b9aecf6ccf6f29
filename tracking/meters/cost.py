"""Unit-seconds (of a GPU; on a CPU pool, of a core), what they cost, and what they were spent on.

What a sweep holds is its allocation: the units of its pools times the wall clock of its sessions. Every unit-second of
it belongs to one share, so that the shares add up to it; idle is what is left. A judge's tokens come on top of it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sweeps.facts import Pool
from tracking.ledger import CostEntry, Evaluation, Ledger, State, SweepState, TrialState

Kind = Literal["training", "evaluation", "retried", "failed", "idle"]
KINDS: tuple[Kind, ...] = ("training", "evaluation", "retried", "failed", "idle")
DECIDING = ("latency", "challenge", "cross-check", "export")
"""What only those go through who may win: work by what it was done for, and evaluations by their split."""


@dataclass(frozen=True)
class Share:
    """A part of what was spent on machines; ``energy_j`` in joules, None where some of it was not measured."""

    unit_s: float
    usd: float
    energy_j: float | None = None

    @classmethod
    def of(cls, entries: Iterable[CostEntry]) -> "Share":
        """What these come to."""
        found = list(entries)
        joules = [entry.energy_j for entry in found]
        known = math.fsum(one for one in joules if one is not None) if found and None not in joules else None
        return cls(math.fsum(one.unit_s for one in found), math.fsum(one.usd for one in found), known)


@dataclass(frozen=True)
class JudgeTokens:
    """What a judge was paid for.

    Attributes:
        tokens: Of all its replies; None where a server did not tell.
        usd: Their price; None also where none is given.
        saved_usd: What the verdicts from the cache had cost before; likewise.
        evaluations: How many it was asked in.
    """

    tokens: int | None = 0
    usd: float | None = 0.0
    saved_usd: float | None = 0.0
    evaluations: int = 0

    def __add__(self, other: "JudgeTokens") -> "JudgeTokens":
        def both(one: Any, another: Any) -> Any:
            return None if one is None or another is None else one + another

        return JudgeTokens(
            both(self.tokens, other.tokens),
            both(self.usd, other.usd),
            both(self.saved_usd, other.saved_usd),
            self.evaluations + other.evaluations,
        )


def cost_of(
    kind: Kind,
    pool: Pool,
    unit_s: float,
    trial: str | None = None,
    what: str | None = None,
    energy_j: float | None = None,
) -> CostEntry:
    """``unit_s`` unit-seconds of ``pool`` at its price. Eight GPUs for a second are eight unit-seconds."""
    return CostEntry(kind, pool.name, unit_s, unit_s / 3600 * pool.price.usd_per_hour, trial, what, energy_j)


def charge(ledger: Ledger, entry: CostEntry, session: int = 0) -> None:
    """Write an entry, for a session of the past where one is given; nothing where nothing was used."""
    if entry.unit_s > 0:
        fields = {key: value for key, value in vars(entry).items() if value is not None and key != "session"}
        ledger.append("cost", **fields, **({"session": session} if session else {}))


def idle_seconds(capacity_units: int, wall_s: float, busy_s: float) -> float:
    """Unit-seconds that were held and did nothing: units × wall-clock seconds, less the unit-seconds in use.

    Never below zero: the clocks of many processes do not add up exactly.
    """
    return max(0.0, capacity_units * wall_s - busy_s)


def kind_of(state: SweepState, entry: CostEntry) -> Kind:
    """The share that an entry belongs to, now that it is known what became of its trial.

    All that was spent on a trial that ended FAILED is failed. Training that had failed, and was done again by
    ``podium retry``, is retried.
    """
    trial = _trial(state, entry.trial)
    if trial is not None and trial.state is State.FAILED:
        return "failed"
    if entry.kind == "failed" and entry.what is None and trial is not None:
        return "retried"
    assert entry.kind in KINDS, entry.kind
    return entry.kind  # type: ignore[return-value]


def shares(state: SweepState, of: Callable[[CostEntry], bool] = lambda entry: True) -> dict[Kind, Share]:
    """Each share of a sweep's costs; with ``of``, of those entries alone."""
    entries: dict[Kind, list[CostEntry]] = {kind: [] for kind in KINDS}
    for entry in state.costs:
        if of(entry):
            entries[kind_of(state, entry)].append(entry)
    return {kind: Share.of(found) for kind, found in entries.items()}


def allocation(state: SweepState) -> dict[str, float]:
    """Unit-seconds that the sweep's sessions have held, by pool: units × wall clock, from their begin to their end."""
    held: dict[str, float] = {}
    for session in state.sessions:
        for pool, units in session.units.items():
            held[pool] = held.get(pool, 0.0) + units * session.seconds
    return held


def judge_tokens(evaluations: Iterable[Evaluation]) -> JudgeTokens:
    """What these evaluations' verdicts took. What an earlier stage has paid for is told there."""
    total = JudgeTokens()
    for one in evaluations:
        if "judge/tokens" in one.metrics and one.stage is None:
            tokens = one.metrics["judge/tokens"]
            paid = JudgeTokens(
                None if tokens is None else int(tokens),
                one.metrics.get("judge/usd"),
                one.metrics.get("judge/usd_saved"),
                1,
            )
            total += paid
    return total


def evaluations_of(state: SweepState, arm: str) -> Iterator[Evaluation]:
    """All evaluations of an arm, those that a later one of the same split replaced among them."""
    trial = _trial(state, arm)
    if trial is not None:
        yield from (*trial.evaluations, *trial.superseded)
    else:
        yield from (*state.arms.get(arm, ()), *state.superseded.get(arm, ()))


def arms_of(state: SweepState) -> list[str]:
    """Every arm: the trials of all versions, and those that are no trials, measured or only paid for."""
    paid = [entry.trial for entry in state.costs if entry.trial]
    return list(dict.fromkeys([*state.every_trial, *state.arms, *state.superseded, *paid]))


def every_evaluation(state: SweepState) -> Iterator[Evaluation]:
    """All evaluations of all arms that were ever made."""
    for arm in arms_of(state):
        yield from evaluations_of(state, arm)


def summary(state: SweepState) -> dict[str, Any]:
    """A sweep's costs: a share (``{"unit_s", "usd"}``) for each kind, and the totals over all of them.

    Totals are by the design's names: ``cost/gpu_s`` (unit-seconds), ``cost/usd`` (with the judge's tokens, as far as
    their price is known), ``cost/idle_usd`` and ``cost/judge_usd``, which ``cost/usd`` contains.
    """
    found = shares(state)
    judge = judge_tokens(every_evaluation(state))
    return {
        **{kind: {"unit_s": share.unit_s, "usd": share.usd} for kind, share in found.items()},
        "cost/gpu_s": math.fsum(share.unit_s for share in found.values()),
        "cost/usd": math.fsum(share.usd for share in found.values()) + (judge.usd or 0.0),
        "cost/idle_usd": found["idle"].usd,
        "cost/judge_usd": judge.usd,
    }


def trial_cost(state: SweepState, trial_id: str) -> dict[str, float]:
    """What it took to train a trial and to score it on dev, its verdicts too. Empty where nothing is recorded.

    Every trial goes through that. What only those go through who may win (:data:`DECIDING`) is not counted: trials are
    compared by this, and the best would look dear for having been looked at closely. Of a trial that an earlier stage
    has trained it is what it had cost there.
    """
    one = state.trials.get(trial_id)
    if one is not None and one.stage is not None:
        return dict(one.spent)
    entries = [entry for entry in state.costs if entry.trial == trial_id and entry.what not in DECIDING]
    judge = judge_tokens(one for one in evaluations_of(state, trial_id) if one.split not in DECIDING).usd or 0.0
    if not entries and not judge:
        return {}
    spent = Share.of(entries)
    return {"cost/gpu_s": spent.unit_s, "cost/usd": spent.usd + judge}


def _trial(state: SweepState, arm: str | None) -> TrialState | None:
    return state.trials.get(str(arm)) or state.history.get(str(arm))
