"""Who wins: constraints first, then the objective on dev, then what the sealed challenge set says of the best.

Until that is read, the choice is by dev alone. Ties are shown, and "none" is an answer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from analysis.frame import frame, trial_metrics
from analysis.rule import LOSS, SCORE, Mode, Rule, effective_rule, failure, losses_compare, tie_break
from tracking.ledger import State, SweepState, TrialState

FINISHED = (State.DONE, State.STOPPED)  # a stopped trial left an adapter that may be evaluated, and may win by it


@dataclass(frozen=True)
class Verdict:
    """What the rule says of one trial."""

    trial: str
    number: int
    objective: float | None
    failures: tuple[str, ...]  # empty when it qualifies
    label: str = ""  # what people call the trial, where that is not its number

    @property
    def qualified(self) -> bool:
        """Whether the trial may be champion."""
        return not self.failures

    @property
    def named(self) -> str:
        """What people call the trial."""
        return self.label or f"trial {self.number}"


@dataclass(frozen=True)
class Choice:
    """The outcome of a sweep.

    Attributes:
        champion: The trial's id; None when none qualifies, or none is shown to be better than what there was before.
        ties: Every trial that is not told apart from the champion, itself first: by their scores on the challenge set
            where that was read, else those with the same objective, by the order of the tie-break.
        ranking: Every qualified trial, best first.
        rule: The rule that was applied.
        verdicts: Of every trial, by its id.
        why: Sentences for people.
        outcome: What the challenge set said, as ``Outcome.to_dict`` gives it; None while it is not read.
    """

    champion: str | None
    ties: tuple[str, ...]
    ranking: tuple[str, ...]
    rule: Rule
    verdicts: Mapping[str, Verdict]
    why: tuple[str, ...]
    outcome: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """``champion``, ``tie`` or ``none``."""
        if self.champion is None:
            return "none"
        return "tie" if len(self.ties) > 1 else "champion"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": self.kind,
            "champion": self.champion,
            "ties": list(self.ties),
            "ranking": list(self.ranking),
            "rule": self.rule.to_dict(),
            "why": list(self.why),
            "not_qualified": {
                key: list(verdict.failures) for key, verdict in self.verdicts.items() if verdict.failures
            },
            "outcome": self.outcome,
        }


def judge(state: SweepState, rule: Rule) -> dict[str, Verdict]:
    """The verdict on every trial under a rule, in the order of trial numbers."""
    return {
        trial.id: _verdict(state, trial, rule)
        for trial in sorted(state.trials.values(), key=lambda trial: trial.number)
    }


def _verdict(state: SweepState, trial: TrialState, rule: Rule) -> Verdict:
    metrics = trial_metrics(state, trial)
    objective = metrics.get(rule.metric)
    failures = []
    if trial.state not in FINISHED:
        failures.append(f"is {trial.state}")
    elif trial.adapter is None:
        failures.append(f"is {trial.state} and left no adapter")
    timed = next((one for one in trial.evaluations if one.split == "latency"), None)
    missing = timed.detail.get("missing") if timed else None
    failures += [text for constraint in rule.constraints if (text := failure(constraint, metrics, missing))]
    if objective is None:
        failures.append(f"{rule.metric} is not measured")
    return Verdict(trial.id, trial.number, objective, tuple(dict.fromkeys(failures)), trial.label)


def order(state: SweepState, rule: Rule, verdicts: Mapping[str, Verdict]) -> list[str]:
    """All trials, best first: qualified, then by objective (unmeasured last), loss (see ``tie_break``), cost, number.

    What a stage starts from stays before its trials that are no better.
    Where the best were judged on more items, those that came farthest are first: what luck gave the others on few
    items was taken from these by the further ones.
    """
    in_rounds = bool((state.spec.get("champion") or {}).get("contenders"))

    name, side, _ = tie_break(state)

    def key(verdict: Verdict) -> tuple[bool, int, float, bool, float, float, int]:
        trial = state.trials[verdict.trial]
        metrics = trial_metrics(state, trial)
        badness = math.inf if verdict.objective is None else -rule.goodness(verdict.objective)
        cost, loss = metrics.get("cost/usd", math.inf), math.inf
        if name in metrics:
            loss = metrics[name] if side == "min" else -metrics[name]
        num_items = _num_dev_items(trial) if in_rounds else 0
        return not verdict.qualified, -num_items, badness, trial.stage is None, loss, cost, verdict.number

    return [verdict.trial for verdict in sorted(verdicts.values(), key=key)]


def choose(state: SweepState, rule: Rule | None = None) -> Choice:
    """Apply the sweep's rule (or another one) to what the ledger knows now.

    The challenge set has the last word, as long as dev still names the candidate that it was read for.
    """
    return with_origin(state, _choose(state, rule))


def _choose(state: SweepState, rule: Rule | None) -> Choice:
    choice = choose_on_dev(state, rule)
    recorded = state.champion or {}
    outcome = recorded.get("outcome")
    if recorded.get("blocked") and recorded["rule"] == choice.rule.to_dict():
        return replace(choice, champion=None, ties=(), why=tuple(recorded["why"]))
    if not outcome or recorded["rule"] != choice.rule.to_dict() or outcome["rule"]["contenders"][0] != choice.champion:
        return choice
    return confirmed(choice, outcome)


def with_origin(state: SweepState, choice: Choice) -> Choice:
    """A choice in a stage that starts from another one, with a sentence on what the stage has added to its start."""
    start, stage = next(iter(state.starts.values()), None), (state.facts.get("stage") or {}).get("name")
    champion = state.trials.get(str(choice.champion))
    if start is None or champion is None:
        return choice
    if champion.stage is not None:
        said = f"{champion.title}, from which {stage} started, stays champion: no trial of {stage} is chosen over it."
    elif start.id in choice.ties:
        said = f"{champion.title} of {stage} is not told apart from {start.label}, from which {stage} started."
    else:
        said = f"{champion.title} of {stage} is chosen over {start.label}, from which {stage} started."
    return replace(choice, why=(said, *choice.why))


def confirmed(choice: Choice, outcome: Mapping[str, Any]) -> Choice:
    """A choice on dev with what the challenge set says of it.

    Args:
        outcome: As ``Outcome.to_dict`` gives it.
    """
    pick, unbeaten = outcome["pick"], outcome["unbeaten"]
    ties = (pick, *(trial for trial in unbeaten if trial != pick)) if pick else ()
    return replace(choice, champion=pick, ties=ties, why=(*outcome["why"], *choice.why), outcome=outcome)


def choose_on_dev(state: SweepState, rule: Rule | None = None) -> Choice:
    """Who is best on dev: the candidate.

    It is a finished trial with an adapter that keeps every constraint and has the best objective. Between equal
    objectives (to 12 decimals) the lower validation loss is picked (where trials have losses of different scales, the
    likelier chosen answers), then the lower cost, then the lower number.
    """
    rule, note = effective_rule(state, rule)
    verdicts = judge(state, rule)
    ranking = tuple(trial for trial in order(state, rule, verdicts) if verdicts[trial].qualified)
    notes = (note,) if note else ()
    if not ranking:
        return Choice(None, (), (), rule, verdicts, (*notes, *_why_none(rule, verdicts)))
    best = _goodness(rule, verdicts[ranking[0]])
    ties = tuple(trial for trial in ranking if _goodness(rule, verdicts[trial]) == best)
    return Choice(ranking[0], ties, ranking, rule, verdicts, (*notes, *_why(state, rule, verdicts, ranking, ties)))


def _goodness(rule: Rule, verdict: Verdict) -> float:
    assert verdict.objective is not None, "only measured trials are compared"
    return rule.goodness(verdict.objective)


def _why(
    state: SweepState, rule: Rule, verdicts: Mapping[str, Verdict], ranking: tuple[str, ...], ties: tuple[str, ...]
) -> list[str]:
    champion = verdicts[ranking[0]]
    word = "highest" if rule.mode == "max" else "lowest"
    starts = f", {len(state.starts)} of them of an earlier stage" if state.starts else ""
    among = f"{len(ranking)} of {len(verdicts)} trials qualify{starts}"
    name = champion.named[0].upper() + champion.named[1:]
    on = _num_dev_items(state.trials[champion.trial])
    if any(_goodness(rule, verdicts[trial]) > _goodness(rule, champion) for trial in ranking):
        # Rounds of contenders: who was judged on fewer items was left behind on those, whatever it had there.
        said = f"{name} came farthest, with {rule.metric} {champion.objective:.6g} on {on} dev items"
    else:
        said = f"{name} has the {word} {rule.metric}, {champion.objective:.6g}"
    sentences = [f"{said}; {among}."]
    if rule.constraints:
        metrics = trial_metrics(state, state.trials[champion.trial])
        kept = [f"{constraint}, being {metrics[constraint.metric]:.6g}" for constraint in rule.constraints]
        sentences.append(f"It keeps {'; '.join(kept)}.")
    if len(ties) > 1:
        others = ", ".join(verdicts[trial].named.removeprefix("trial ") for trial in ties[1:])
        sentences.append(f"It ties with trial {others}; {_tie_break(state, ties)}.")
    elif len(ranking) > 1:
        second = verdicts[ranking[1]]
        fewer = _num_dev_items(state.trials[second.trial])
        its = f" on {fewer} dev items" if fewer != on else ""
        sentences.append(f"The runner-up is {second.named} with {second.objective:.6g}{its}.")
    return sentences


def _num_dev_items(trial: TrialState) -> int:
    return max((one.n for one in trial.evaluations if one.split == "dev"), default=0)


def _tie_break(state: SweepState, ties: tuple[str, ...]) -> str:
    if state.trials[ties[0]].stage is not None:
        return "it was there before, so it stays"
    first, second = (trial_metrics(state, state.trials[trial]) for trial in ties[:2])
    name, _, words = tie_break(state)
    for metric, what in ((name, words), ("cost/usd", "the lower cost")):
        mine, other = first.get(metric, math.inf), second.get(metric, math.inf)
        if mine != other:
            return f"{what} decides ({mine:.6g} against {other:.6g})"
    return "loss and cost are equal too, so the lower number decides"


def _why_none(rule: Rule, verdicts: Mapping[str, Verdict]) -> list[str]:
    if not verdicts:
        return ["No trial qualifies: there are none yet."]
    reasons = [f"T{verdict.named[1:]}: {'; '.join(verdict.failures)}." for verdict in verdicts.values()]
    return [f"No trial qualifies for the {rule}.", *reasons]


def shortlist(state: SweepState, top: int, rule: Rule | None = None) -> list[str]:
    """The best ``top`` trials that break no *measured* constraint: the ones still worth measuring."""
    rule, _ = effective_rule(state, rule)
    verdicts = {}
    for trial in state.trials.values():
        metrics = trial_metrics(state, trial)
        measured = tuple(constraint for constraint in rule.constraints if constraint.metric in metrics)
        verdicts[trial.id] = _verdict(state, trial, Rule(rule.metric, rule.mode, measured))
    return [trial for trial in order(state, rule, verdicts) if verdicts[trial].qualified][:top]


def agreement(state: SweepState, metric: str = SCORE, mode: Mode = "max") -> dict[str, float | int | None]:
    """Spearman's rank correlation of validation loss and quality over the trials that have both.

    Returns:
        ``spearman``: +1 when a lower loss always means a better ``metric``; None with fewer than three trials or when
        one of the two never varies, or where the losses cannot be compared. ``n``: the number of trials.
    """
    table = frame(state)
    if LOSS not in table or metric not in table or not losses_compare(state):
        return {"spearman": None, "n": 0}
    both = table[[LOSS, metric]].dropna()
    n = len(both)
    if n < 3 or both[LOSS].nunique() < 2 or both[metric].nunique() < 2:
        return {"spearman": None, "n": n}
    rho = float(both[LOSS].rank().corr(both[metric].rank()))  # Pearson's on ranks, ties at their mean rank
    return {"spearman": -rho if mode == "max" else rho, "n": n}


def median_trial(state: SweepState, rule: Rule | None = None) -> str | None:
    """The trial in the middle by its objective (the worse of the two middle ones); None when none has one."""
    rule, _ = effective_rule(state, rule)
    verdicts = judge(state, rule)
    measured = [verdicts[trial] for trial in state.drawn if verdicts[trial].objective is not None]
    ranked = sorted(measured, key=lambda verdict: (_goodness(rule, verdict), -verdict.number))
    return ranked[(len(ranked) - 1) // 2].trial if ranked else None


def default_trial(state: SweepState) -> str | None:
    """The trial that ran the recipe's own values; None where the sweep does not start there, or has not yet."""
    default = state.facts.get("default_trial")
    return default if default in state.drawn else None
