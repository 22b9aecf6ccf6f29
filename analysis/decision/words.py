"""The outcome in sentences for people."""

import math
from collections.abc import Mapping, Sequence

from analysis.decision.outcome import Comparison, Interval, Outcome


def sentences(outcome: Outcome, names: Mapping[str, str]) -> tuple[str, ...]:
    """What was decided, by which figures, and what would decide what is open.

    Args:
        names: What to call an arm; its key by default.
    """

    def name(arm: str) -> str:
        return names.get(arm, arm)

    rule = outcome.rule
    subject = outcome.pick or rule.candidate
    found: list[str] = []
    if outcome.kind == "champion":
        found.append(f"{name(subject)} is the champion: {_score(outcome, subject)}.")
    elif outcome.kind == "tie":
        others = _joined([name(arm) for arm in outcome.unbeaten if arm != subject])
        found.append(f"{name(subject)} is promoted, but not told apart from {others}: {_score(outcome, subject)}.")
    else:
        found.append(f"Nobody is promoted. The candidate, {name(rule.candidate)}: {_score(outcome, rule.candidate)}.")
    if subject != rule.candidate:
        found.append(f"It is shown to be better than the candidate that dev named, {name(rule.candidate)}.")
    found += [_against(one, name(one.first), name(one.second), "p") for one in outcome.promotion]
    if outcome.kind != "none":
        word = "Holm-corrected p" if len(outcome.contest) > 1 else "p"
        found += [_against(one, name(one.first), name(one.second), word) for one in outcome.contest]
        if not outcome.contest:
            found.append("There is no other contender.")
    return (*found, *_missing(outcome), *_more(outcome))


def _score(outcome: Outcome, arm: str) -> str:
    mean = next(one for one in outcome.means if one.arm == arm)
    if mean.mean is None:
        return "no score on the challenge set"
    between = f", {_level(outcome)} interval {_interval(mean.interval)}" if mean.interval else ""
    return f"{outcome.rule.metric} {mean.mean:.3f} on the challenge set (n = {mean.n}{between})"


def _against(one: Comparison, first: str, second: str, p_word: str) -> str:
    if one.difference is None:
        return f"{first} and {second} have no item in common: no verdict."
    if one.interval is None or one.adjusted_p is None:
        rule = f"{one.n} items in {one.num_clusters} groups decide nothing"
        return f"{first} − {second}: {one.difference:+.3f}, no verdict: {rule}."
    verdict = {"better": "is better than", "worse": "is worse than"}.get(one.verdict, "is not told apart from")
    figures = f"{one.difference:+.3f}, {_interval(one.interval)}; {p_word} {_p(one.adjusted_p)}; n = {one.n}"
    return f"{first} {verdict} {second} ({figures})."


def _missing(outcome: Outcome) -> list[str]:
    most = max((one.num_missing for one in (*outcome.promotion, *outcome.contest)), default=0)
    return [f"Up to {most} items were left out of a comparison, where one of the two has no score."] if most else []


def _more(outcome: Outcome) -> list[str]:
    if outcome.kind == "champion":
        return []
    compared = outcome.promotion if outcome.kind == "none" else outcome.contest
    if any(one.verdict == "too few" for one in compared):
        return [f"A verdict needs at least {outcome.rule.min_clusters} groups of items."]
    if outcome.need.items == 0:
        return ["It is decided: more items are not expected to change it."]
    return [
        f"If the differences are as observed, a sealed set with {outcome.need} more items would decide it "
        f"(with a probability of {outcome.rule.power:g})."
    ]


def _level(outcome: Outcome) -> str:
    return f"{100 * (1 - outcome.rule.alpha):g} %"


def _interval(interval: Interval | None) -> str:
    if interval is None or not all(map(math.isfinite, interval)):
        return "without bounds"
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
