"""The choice confirmed on the sealed challenge set: the rule that is frozen before it is read, and what that says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from analysis.decision.decide import decide
from analysis.decision.optimism import corrected
from analysis.decision.outcome import Outcome
from analysis.decision.rule import DecisionRule
from analysis.decision.scores import Scores, read_scores, side_by_side
from analysis.rule import QUALITY, Rule
from sweeps.spec import Confirm
from tracking.ledger import Evaluation, SweepState
from tracking.state import BASE, BASE_SCHEMA, INCUMBENT

Groups = Mapping[str, str]
"""The group of every item: items of one conversation stand or fall together."""


def frozen_rule(
    rule: Rule, ranking: Sequence[str], references: Sequence[str], confirm: Confirm, starts: Sequence[str] = ()
) -> DecisionRule | str:
    """The rule of the decision, or the sentence that says why there is none.

    Args:
        rule: The sweep's.
        ranking: The trials that qualify, best on dev first.
        references: What a champion must beat: the base, the incumbent.
        confirm: How many are read, and how sure one must be.
        starts: The trials of an earlier stage that the others were started from. The best that qualifies is always
            among those that are read: what was added to it must show that it is worth something.
    """
    if confirm.top == 0:
        return "Chosen on dev alone, as champion.confirm.top is 0: the challenge set stays sealed."
    if not rule.metric.startswith(QUALITY):
        return f"{rule.metric} is no score of single answers, so the challenge set confirms nothing."
    if rule.mode == "min":
        return f"{rule.metric} is looked for at its lowest; only scores of which more is better are confirmed."
    contenders = [*ranking[: confirm.top], *[start for start in starts if start in ranking][:1]]
    return DecisionRule(tuple(dict.fromkeys(contenders)), tuple(references), rule.metric, confirm.alpha)


def outcome_of(state: SweepState, rule: DecisionRule, groups: Groups) -> Outcome | str:
    """What the challenge scores in the run folder say under a frozen rule, or the sentence that says why nothing.

    An arm whose challenge evaluation failed is left out, and the outcome says so.

    Raises:
        InvalidInput: A file of scores is damaged.
    """
    scores = challenge_scores(state, rule.metric, rule.arms)
    missing = [arm for arm in rule.arms if arm not in scores]
    if rule.candidate in missing:
        return f"The challenge set has no {rule.metric} of {names(state)[rule.candidate]}: its evaluation failed."
    references = tuple(arm for arm in rule.references if arm in scores)
    if not references:
        return f"The challenge set has no {rule.metric} of {' or '.join(rule.references)}: there is nothing to beat."
    kept = replace(rule, contenders=tuple(arm for arm in rule.contenders if arm in scores), references=references)
    outcome = decide(kept, scores, groups or None, names(state))
    left_out = (f"Left out, since its evaluation on the challenge set failed: {names(state)[arm]}." for arm in missing)
    why = tuple(sentence[0].upper() + sentence[1:] for sentence in outcome.why)  # some begin with an arm's name
    return replace(outcome, why=(*why, *left_out))


def challenge_scores(state: SweepState, metric: str, arms: Sequence[str]) -> dict[str, Scores]:
    """The challenge scores of those of the arms that have them."""
    scores: dict[str, Scores] = {}
    for arm in arms:
        evaluation = _evaluation(state, arm, "challenge")
        if evaluation is not None and evaluation.metrics.get(metric) is not None:
            scores[arm] = read_scores(_items(state, evaluation), metric)
    return scores


def dev_scores(state: SweepState, metric: str) -> dict[str, Scores]:
    """The dev scores of every trial whose items are there: of as many as the ledger counts, the first ones.

    A round of contenders that was killed may have left scores of more items, which the ledger knows nothing of.
    """
    found: dict[str, Scores] = {}
    for trial in state.trials:
        evaluation = _evaluation(state, trial, "dev")
        if evaluation is None or evaluation.metrics.get(metric) is None:
            continue
        if (items := _items(state, evaluation)).is_file():
            found[trial] = dict(islice(read_scores(items, metric).items(), evaluation.n))
    return found


def dev_score(state: SweepState, trial: str, metric: str, groups: Groups) -> dict[str, Any] | None:
    """The dev score of a chosen trial, and the same corrected for having been chosen; None without dev scores."""
    scores = dev_scores(state, metric)
    if trial not in scores:
        return None
    table = side_by_side(scores, groups or None)
    found = corrected(table.values, table.arms.index(trial), table.groups)
    if found is None:
        return None
    n = sum(value is not None for value in scores[trial].values())
    return {"metric": metric, "mean": found.mean, "corrected": found.corrected, "n": n, "best_of": len(scores)}


def names(state: SweepState) -> dict[str, str]:
    """What sentences call the arms."""
    trials = {trial.id: trial.label for trial in state.every_trial.values()}
    return {**trials, BASE: "the base", BASE_SCHEMA: "the base with its schema enforced", INCUMBENT: "the incumbent"}


def _evaluation(state: SweepState, arm: str, split: str) -> Evaluation | None:
    found = state.evaluations_of(arm)
    return next((one for one in found if one.split == split), None)


def _items(state: SweepState, evaluation: Evaluation) -> Path:
    assert evaluation.items is not None, "an evaluation of answers keeps them"
    return state.folder / evaluation.items
