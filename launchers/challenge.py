"""The sealed challenge set: the rule is frozen in the ledger, the set is read, and its scores say what they say.

Every read is an event of the ledger with the arms that were read, so that nobody can read it until it agrees.
"""

from collections.abc import Callable, Sequence

from analysis.champion import Choice, default_trial, median_trial
from analysis.confirmation import frozen_rule, outcome_of
from analysis.decision.outcome import Outcome
from launchers.arms import Arms
from launchers.evaluation import read_rows
from launchers.evaluators import Evaluators
from sweeps.spec import Confirm
from tracking.ledger import Ledger
from tracking.state import BASE_SCHEMA

Say = Callable[[str], None]
Look = Callable[[], None]


def read_challenge(
    arms: Arms,
    standing: Sequence[str],
    evaluators: Evaluators,
    ledger: Ledger,
    choice: Choice,
    confirm: Confirm,
    say: Say,
    look: Look,
) -> Outcome | str:
    """Freeze the rule, read the set for those that it has not judged yet, and decide; or the sentence why it cannot.

    Args:
        standing: The arms that were there before the sweep, which a champion must beat.
        choice: By dev; has a champion.
    """
    state = ledger.read()
    rule = frozen_rule(choice.rule, choice.ranking, standing, confirm, tuple(state.starts))
    if confirm.top == 0:
        assert isinstance(rule, str)
        return rule
    # For the table; the rule knows of them the best start alone, where it qualifies.
    shown = [default_trial(state), median_trial(state, choice.rule), *list(state.starts)[:1]]
    top = choice.ranking[: confirm.top]
    trials = dict.fromkeys(trial for trial in (*top, *shown) if trial and state.trials[trial].adapter)
    jobs = [arms.job(arm, "challenge") for arm in standing]
    if arms.schema is not None and BASE_SCHEMA not in standing:
        jobs.append(arms.job(BASE_SCHEMA, "challenge"))
    jobs += [arms.trial_job(trial, "challenge") for trial in trials]
    num_items = len(read_rows(arms.rows("challenge"), jobs[0].limit))
    if todo := evaluators.missing(jobs):
        reads = len(state.challenge_reads)
        frozen = {"rule": None, "why": rule} if isinstance(rule, str) else {"rule": rule.to_dict(), "why": None}
        ledger.append("challenge", read=reads + 1, arms=[job.arm for job in todo], n=num_items, **frozen)
        if reads:
            # After an interruption, or for a champion that came with more trials. The latter weakens the seal: say so.
            say(f"the challenge set is read again (reading {reads + 1}), for {len(todo)} arms that it has not judged …")
        else:
            say(f"the rule is frozen; the sealed challenge set, read once: {len(todo)} arms …")
        evaluators.run(todo, look)
    if isinstance(rule, str):
        return rule
    return outcome_of(ledger.read(), rule, arms.groups("challenge"))
