"""Champion, tie set or none: what the scores on the sealed challenge set say under a rule that was frozen before.

Step 1, promotion. The candidate, which dev named, must be better than every reference: the two-sided test of each at
alpha finds it so. All must, so that none of them needs a correction (Berger, Multiparameter hypothesis testing and
acceptance sampling, Technometrics 24, 1982): where the candidate is no better than one of them, it is promoted with a
probability of at most alpha / 2. Otherwise the outcome is none.

Step 2, among contenders. All pairs are compared, corrected by Holm. An arm is beaten when another is shown to be
better. One that beats all others is champion; otherwise those that nobody beat are the tie set. With equal contenders
one of them is called better than any other with a probability of at most alpha.

Step 2 counts only after step 1, so that both together err with a probability of at most alpha (a fixed sequence of
families: Maurer, Hothorn and Lehmacher, 1995).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from analysis.decision.bootstrap import Estimate, estimate, paired
from analysis.decision.holm import adjusted, joint_level
from analysis.decision.outcome import Comparison, Kind, Mean, Outcome, Verdict
from analysis.decision.power import Need, items_needed
from analysis.decision.rule import DecisionRule
from analysis.decision.scores import Scores, Table, side_by_side
from analysis.decision.words import sentences
from sweeps.errors import InvalidInput, Problem


def decide(
    rule: DecisionRule,
    scores: Mapping[str, Scores],
    groups: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
) -> Outcome:
    """Decide by the scores on the challenge set.

    Args:
        rule: As it was frozen.
        scores: Of every arm of the rule; others are not looked at.
        groups: The group of every item: items of one conversation stand or fall together.
        names: What sentences call an arm; its key by default.

    Raises:
        InvalidInput: An arm of the rule is not there, or see ``side_by_side``.
    """
    if lacking := [arm for arm in rule.arms if arm not in scores]:
        there = f"there are {', '.join(scores) or 'none'}"
        raise InvalidInput([Problem(arm, "must have scores on the challenge set", there) for arm in lacking])
    table = side_by_side({arm: scores[arm] for arm in rule.arms}, groups)
    return decide_table(rule, table, names)


def decide_table(rule: DecisionRule, table: Table, names: Mapping[str, str] | None = None) -> Outcome:
    """``decide`` of scores that already lie side by side."""
    means = tuple(_mean(rule, table, arm) for arm in rule.arms)
    against = [(rule.candidate, reference) for reference in rule.references]
    promotion = _compare(rule, table, against, corrected=False)
    contest = _compare(rule, table, list(combinations(rule.contenders, 2)), corrected=True)
    promoted = all(one.verdict == "better" for one in promotion)
    unbeaten = _unbeaten(rule.contenders, contest)
    pick = _pick(rule, contest, unbeaten) if promoted else None
    kind: Kind = "none" if pick is None else "champion" if _beats_all(pick, rule.contenders, contest) else "tie"
    open_ones = promotion if kind == "none" else _against_the_leader(unbeaten, means, contest)
    need = max((one.need for one in open_ones), key=lambda one: one.size, default=Need(0))
    outcome = Outcome(rule, kind, pick, unbeaten, means, promotion, contest, need)
    return replace(outcome, why=sentences(outcome, names or {}))


def _mean(rule: DecisionRule, table: Table, arm: str) -> Mean:
    found = estimate(table.row(arm), table.groups, rule.num_draws, rule.seed, rule.min_clusters)
    return Mean(arm, found.n, found.mean, found.interval(1 - rule.alpha))


def _compare(
    rule: DecisionRule, table: Table, pairs: Sequence[tuple[str, str]], corrected: bool
) -> tuple[Comparison, ...]:
    estimates = [
        paired(table.row(first), table.row(second), table.groups, rule.num_draws, rule.seed, rule.min_clusters)
        for first, second in pairs
    ]
    p_values = [one.p for one in estimates]
    judged = adjusted(p_values) if corrected else p_values
    return tuple(
        _comparison(rule, pair, one, p, corrected, len(pairs))
        for pair, one, p in zip(pairs, estimates, judged, strict=True)
    )


def _comparison(
    rule: DecisionRule, pair: tuple[str, str], found: Estimate, p: float | None, corrected: bool, family: int
) -> Comparison:
    verdict: Verdict = "undecided"
    if p is None:
        verdict = "too few"
    elif p <= rule.alpha:
        assert found.mean is not None
        verdict = "better" if found.mean > 0 else "worse"
    alpha = rule.alpha / family if corrected else rule.alpha
    return Comparison(
        *pair,
        found.n,
        found.num_clusters,
        found.num_missing,
        found.mean,
        found.interval(1 - rule.alpha),
        found.interval(joint_level(1 - rule.alpha, family)),
        found.p,
        p,
        verdict,
        Need(0) if verdict in ("better", "worse") else items_needed(found, alpha, rule),
    )


def _winners(contest: Sequence[Comparison]) -> set[tuple[str, str]]:
    """Pairs of which the first is shown to be better."""
    return {(one.first, one.second) for one in contest if one.verdict == "better"} | {
        (one.second, one.first) for one in contest if one.verdict == "worse"
    }


def _unbeaten(contenders: Sequence[str], contest: Sequence[Comparison]) -> tuple[str, ...]:
    beaten = {loser for _, loser in _winners(contest)}
    return tuple(arm for arm in contenders if arm not in beaten) or tuple(
        contenders
    )  # all beaten, in a circle: none is


def _against_the_leader(
    unbeaten: Sequence[str], means: Sequence[Mean], contest: Sequence[Comparison]
) -> list[Comparison]:
    """What stands between the highest mean of a tie set and its being champion."""
    known = {one.arm: one.mean for one in means if one.mean is not None}
    leader = max(unbeaten, key=lambda arm: known.get(arm, -math.inf))
    return [one for one in contest if leader in (one.first, one.second) and {one.first, one.second} <= set(unbeaten)]


def _beats_all(arm: str, contenders: Sequence[str], contest: Sequence[Comparison]) -> bool:
    winners = _winners(contest)
    return all((arm, other) in winners for other in contenders if other != arm)


def _pick(rule: DecisionRule, contest: Sequence[Comparison], unbeaten: Sequence[str]) -> str:
    """The candidate, where it is unbeaten; else the first that beats it, or beats who does: better than it is shown to
    be, it is better than the references too."""
    above, winners = {rule.candidate}, _winners(contest)
    while further := {first for first, second in winners if second in above} - above:
        above |= further
    return next((arm for arm in unbeaten if arm in above), rule.candidate)
