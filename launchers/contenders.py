"""Judging where it can still change the winner: the best on dev are judged on more items, fewer and fewer of them.

Sequential halving (see ``analysis.decision.halving``). The trials were all judged on the first ``evaluate.dev`` items;
``champion.contenders`` says how many of the best go on, and how far. An arm is answered for and scored from the first
item on in each round, so that its evaluation is one of all its items; verdicts that were paid for come from the cache.
"""

from collections.abc import Callable

from analysis.champion import shortlist
from analysis.confirmation import dev_scores
from analysis.decision.halving import next_round
from analysis.decision.scores import Scores
from launchers.arms import Arms
from launchers.evaluation import item_of, read_rows
from launchers.evaluators import Evaluators
from sweeps.fields import Mode
from tracking.ledger import Ledger, SweepState

Look = Callable[[], None]


def judge_contenders(
    arms: Arms, evaluators: Evaluators, ledger: Ledger, say: Callable[[str], None], look: Look
) -> None:
    """Run the rounds that the ledger lacks. Who goes on follows from scores alone, in a resumed sweep as well."""
    state = ledger.read()
    items = [str(item_of(row, number).id) for number, row in enumerate(read_rows(arms.rows("dev"), None))]
    rounds = arms.rounds
    if not rounds or len(items) <= rounds[0].stop:
        return
    running = sorted(shortlist(state, len(state.trials)), key=lambda trial: state.trials[trial].number)
    if len(running) < 2:
        return  # nobody is left to choose among
    while True:
        scores = dev_scores(ledger.read(), arms.metric)
        taking_part = {trial: more_is_better(scores[trial], arms.mode) for trial in running if trial in scores}
        following = next_round(rounds, taking_part, items)
        if following is None:
            return
        stop = min(rounds[following.number].stop, len(items))
        lacking = [trial for trial in following.arms if not set(items[:stop]) <= scores[trial].keys()]
        jobs = [arms.trial_job(trial, "dev", limit=stop) for trial in lacking]
        todo = evaluators.missing(jobs)
        say(f"round {following.number} of {len(rounds) - 1}: the best {len(following.arms)} on {stop} dev items …")
        if not todo:
            return  # an evaluation failed in an earlier session, and would again
        before = _evaluated(ledger.read())
        evaluators.run(todo, look)
        if _evaluated(ledger.read()) == before:
            return  # all of them failed, which the ledger says


def more_is_better(scores: Scores, mode: Mode) -> Scores:
    """Scores as halving takes them: of a metric that is looked for at its lowest, the negatives."""
    if mode == "max":
        return scores
    return {item: None if value is None else -value for item, value in scores.items()}


def _evaluated(state: SweepState) -> int:
    return sum(1 for _ in state.evaluations()) + sum(len(trial.superseded) for trial in state.trials.values())
