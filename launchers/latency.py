"""Whose latency is measured before the sweep decides: the base, the incumbent, and whoever may still win."""

from collections.abc import Callable, Collection

from analysis.champion import shortlist
from launchers.arms import Arms
from launchers.evaluation import EvaluationJob
from launchers.evaluators import Evaluators
from sweeps.latency import Latency
from tracking.ledger import Ledger, SweepState
from tracking.state import BASE, INCUMBENT

Say = Callable[[str], None]
Look = Callable[[], None]


def measure_latency(
    latency: Latency,
    arms: Arms,
    standing: tuple[str, ...],
    evaluators: Evaluators,
    ledger: Ledger,
    say: Say,
    look: Look,
    follow: Callable[[], None],
) -> None:
    """Time the base and the best trials, until nobody can win by a latency that nobody has measured.

    A trial that breaks a constraint on its latency, or on what follows from it, makes room for the next best, which is
    timed in its turn. Each is tried once, so this ends, at the latest when every trial was.

    Args:
        follow: Records what follows from latencies: what serving costs.
    """
    tried: set[str] = set()

    def name(job: EvaluationJob) -> str:
        return evaluators.latency_id(job, latency)

    while best := next_to_time(ledger.read(), latency.top, tried):
        jobs = [] if tried else [arms.job(BASE, "dev")]
        jobs += [arms.trial_job(trial, "dev") for trial in best]
        tried |= set(best)
        if todo := evaluators.missing(jobs, name):
            whom = f"{len(todo)} of the base and the best" if jobs[0].arm == BASE else f"the next {len(todo)} in line"
            say(f"latency, alone on the machine: {whom}, {latency.requests} requests each …")
            evaluators.measure_latency(todo, latency, look)
        follow()
    if not tried:
        return
    jobs = [arms.job(arm, "dev") for arm in standing if arm == INCUMBENT]
    if todo := evaluators.missing(jobs, name):
        say(f"latency of the incumbent, {latency.requests} requests …")  # apart: if it fails, the others have theirs
        evaluators.measure_latency(todo, latency, look)
    follow()


def next_to_time(state: SweepState, top: int, tried: Collection[str]) -> list[str]:
    """The best ``top`` trials that break no constraint as far as it is measured, less those that were tried."""
    return [trial for trial in shortlist(state, top) if trial not in tried]
