"""What a session holds, and what of that did nothing: so that all shares of a sweep's cost add up to what was held."""

import time

from sweeps.facts import Pool
from tracking.ledger import Ledger, State, SweepState
from tracking.meters.cost import Kind, charge, cost_of, idle_seconds

# The parts of a session, by what idle units waited for.
STARTUP, TRIALS, DECISION = "start-up", "trials", "decision"


def hold(ledger: Ledger, units: dict[str, int]) -> None:
    """The session has so many GPUs (or cores) of each pool, and has had them since it began."""
    ledger.append("units", units=units)
    charge_idle(ledger, STARTUP)


def charge_idle(ledger: Ledger, what: str) -> None:
    """Charge what the session has held so far and nothing was charged for."""
    state = ledger.read()
    _charge_rest(ledger, state, len(state.sessions), time.time() - state.sessions[-1].began, what)


def charge_work(ledger: Ledger, kind: Kind, what: str, seconds: float, trial: str, units: int | None = None) -> None:
    """Charge what the end of a sweep does with its first pool: ``units`` of it, or all that the session holds."""
    state = ledger.read()
    pool = state.pools[0]
    held = state.sessions[-1].units.get(pool.name, 0)
    charge(ledger, cost_of(kind, pool, seconds * (held if units is None else units), trial, what))


def charge_lost_session(ledger: Ledger, state: SweepState) -> None:
    """Charge what ran when a driver was killed, up to when it was last heard of.

    A trial is charged from its start: to its last report it was training, and what came after is done again. Trials
    that shared a unit were charged nothing yet, and share it.

    Args:
        ledger: Open for writing.
        state: As that driver left it.
    """
    if not state.sessions or state.sessions[-1].ended is not None:
        return
    session, number = state.sessions[-1], len(state.sessions)
    running = [one for one in state.every_trial.values() if one.state is State.RUNNING and one.running_since]
    for pool in state.pools:
        here = [one for one in running if (one.pool or next(iter(session.units), "")) == pool.name]
        units = state.recipe["parallel"]["gpus"] if pool.device == "gpu" else 1
        seconds = {one.id: max(0.0, session.last - (one.running_since or session.last)) * units for one in here}
        room = idle_seconds(session.units.get(pool.name, 0), session.seconds, _used(state, number, pool))
        scale = min(1.0, room / total) if (total := sum(seconds.values())) else 1.0
        for one in here:
            kept = max((report["t"] - (one.running_since or 0.0) for report in one.reports), default=0.0) * units
            training = min(max(0.0, kept), seconds[one.id])
            charge(ledger, cost_of("training", pool, scale * training, one.id), number)
            charge(ledger, cost_of("retried", pool, scale * (seconds[one.id] - training), one.id), number)
    _charge_rest(ledger, ledger.read(), number, session.seconds, TRIALS)


def _charge_rest(ledger: Ledger, state: SweepState, session: int, wall_s: float, what: str) -> None:
    for pool in state.pools:
        held = state.sessions[session - 1].units.get(pool.name, 0)
        rest = idle_seconds(held, wall_s, _used(state, session, pool))
        charge(ledger, cost_of("idle", pool, rest, what=what), session)


def _used(state: SweepState, session: int, pool: Pool) -> float:
    return sum(one.unit_s for one in state.costs if one.session == session and one.pool == pool.name)
