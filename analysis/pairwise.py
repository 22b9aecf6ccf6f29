"""Arms compared in pairs by the sweep's judge: who wins, how strong each is, and how often the order alone decides.

``pairwise.json`` in the run folder keeps what came out, with the judge, the split and the time. It decides nothing: the
champion is chosen by scores (:mod:`analysis.confirmation`). Gates come first here too: an answer that fails one loses
to one that passes, and no judge is paid to say so.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from analysis.answers import Answer, Answers, stored
from analysis.champion import choose
from analysis.confirmation import names
from analysis.decision.bootstrap import estimate
from analysis.decision.preference import Preference, Winner, strengths
from analysis.plain import plain
from recipes.files import write_json
from sweeps.errors import InvalidInput, Problem
from tracking.ledger import SweepState
from tracking.meters.judge import Comparison, JudgeError, Panel, RubricJudge, identity, summary_of_pairs
from tracking.meters.judge.judged import Pair, judge_settings, write_pairs
from tracking.state import BASE

FILE = "pairwise.json"
TOP = 3  # trials that are compared with the base where nothing was decided yet
WIN_RATE = "quality/win_rate"
_SIDES: dict[str, Winner] = {"a": "left", "b": "right", "tie": "tie"}
_POINTS = {"a": 1.0, "tie": 0.5, "b": 0.0}

Judge = RubricJudge | Panel
Say = Callable[[str], None]


@dataclass(frozen=True)
class Contest:
    """Two arms on every item; ``asked`` are the places of the items that a judge compared, not a gate."""

    first: str
    second: str
    comparisons: tuple[Comparison, ...]
    asked: tuple[int, ...]

    @property
    def by_judge(self) -> list[Comparison]:
        """The judge's comparisons alone."""
        return [self.comparisons[at] for at in self.asked]

    def points(self, arm: str) -> list[float]:
        """Of ``arm`` on each item: 1 for a win, a half for a tie, NaN where there is no verdict."""
        found = [math.nan if one.winner is None else _POINTS[one.winner] for one in self.comparisons]
        return found if arm == self.first else [1 - value for value in found]


def usual_split(state: SweepState) -> str:
    """The split that the decision was made on: the challenge set once it was read for one, else dev."""
    return "challenge" if _rule(state) else "dev"


def usual_arms(state: SweepState, split: str) -> tuple[str, ...]:
    """Contenders and references of the decision; before it, the best three on dev and the base.

    Those without stored answers to the split are left out.
    """
    rule = _rule(state)
    arms = [*rule["contenders"], *rule["references"]] if rule else [*choose(state).ranking[:TOP], BASE]
    there = stored(state, split)
    return tuple(arm for arm in arms if arm in there)


def num_to_ask(answers: Answers, judge: Judge) -> int:
    """So many verdicts, in both orders, are not in the cache yet."""
    found = 0
    for first, second in combinations(answers.by_arm, 2):
        at = _ungated(answers, first, second)
        found += judge.num_to_compare(*_texts(answers, first, second, at))
    return found


def compare(state: SweepState, answers: Answers, judge: Judge, say: Say) -> dict[str, Any]:
    """Have the judge compare every two arms on every item; write ``pairwise.json`` and return its contents.

    Args:
        state: The sweep.
        answers: Of the arms.
        judge: The sweep's.
        say: Is told of each pair before it is asked for.

    Raises:
        ServiceUnreachable, JudgeError: The judge gives no verdicts. Those that were paid for are in the cache.
    """
    called = names(state)
    pairs = list(combinations(answers.by_arm, 2))
    contests = []
    for number, (first, second) in enumerate(pairs, 1):
        say(f"{number} of {len(pairs)}: {called[first]} and {called[second]}, {len(answers.items)} items …")
        contests.append(_contest(answers, first, second, judge))
    result: dict[str, Any] = plain(_result(state, answers, contests))
    write_pairs(state.folder, answers.split, [pair for contest in contests for pair in _pairs(answers, contest)])
    write_json(state.folder / FILE, result)
    return result


def read_pairwise(state: SweepState) -> dict[str, Any] | None:
    """What ``pairwise.json`` holds; None where there is none, or where judge or answers are others by now.

    Raises:
        InvalidInput: The file is damaged.
    """
    path = state.folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        there = stored(state, found["split"])
        stands = all(arm["arm"] in there and there[arm["arm"]].id == arm["evaluation"] for arm in found["arms"])
        same_judge = found["judge"] == identity((state.spec.get("evaluate") or {}).get("judge"))
        return dict(found) if stands and same_judge else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        raise InvalidInput(Problem(str(path), "is damaged", "`podium judge compare` writes it again")) from None


def _rule(state: SweepState) -> Mapping[str, Any] | None:
    """The frozen rule of the decision that the ledger holds."""
    outcome = (state.champion or {}).get("outcome")
    return outcome["rule"] if outcome else None


def _contest(answers: Answers, first: str, second: str, judge: Judge) -> Contest:
    at = _ungated(answers, first, second)
    by_judge = dict(zip(at, judge.compare_many(*_texts(answers, first, second, at)), strict=True)) if at else {}
    both = zip(answers.by_arm[first], answers.by_arm[second], strict=True)
    comparisons = tuple(by_judge.get(place) or _by_gate(*pair) for place, pair in enumerate(both))
    return Contest(first, second, comparisons, tuple(at))


def _ungated(answers: Answers, first: str, second: str) -> list[int]:
    """The places of the items on which both answers pass every gate."""
    both = zip(answers.by_arm[first], answers.by_arm[second], strict=True)
    return [place for place, (one, other) in enumerate(both) if one.passes and other.passes]


def _texts(answers: Answers, first: str, second: str, at: Sequence[int]) -> tuple[list[Any], list[str], list[str]]:
    one, other = answers.by_arm[first], answers.by_arm[second]
    return (
        [answers.items[place] for place in at],
        [one[place].text for place in at],
        [other[place].text for place in at],
    )


def _by_gate(one: Answer, other: Answer) -> Comparison:
    if one.passes is None or other.passes is None:
        return Comparison(None, error="a gate gave no answer")
    return Comparison("tie" if one.passes == other.passes else "a" if one.passes else "b")


def _result(state: SweepState, answers: Answers, contests: Sequence[Contest]) -> dict[str, Any]:
    every = [comparison for contest in contests for comparison in contest.comparisons]
    asked = [comparison for contest in contests for comparison in contest.by_judge]
    errors = [one.error or "there is no verdict" for one in every if one.winner is None]
    if len(errors) == len(every):
        raise JudgeError(f"no verdict on any of {len(every)} comparisons: {errors[0]}")
    return {
        "sweep": state.name,
        "split": answers.split,
        "t": round(time.time(), 3),
        "judge": identity(judge_settings(state)),
        "n": len(answers.items),
        "num_clusters": len(set(answers.groups)),
        "num_comparisons": len(every),
        "num_missing": len(errors),
        "first_error": errors[0] if errors else None,
        "flip_rate": None,  # where no judge was asked
        **{name.removeprefix("judge/"): value for name, value in summary_of_pairs(asked).items()},
        "arms": _arms(state, answers, contests),
        "pairs": [_pair(contest) for contest in contests],
    }


def _arms(state: SweepState, answers: Answers, contests: Sequence[Contest]) -> list[dict[str, Any]]:
    """The arms, the strongest first; those without a verdict last."""
    verdicts = [
        Preference(contest.first, contest.second, _SIDES[one.winner], group)
        for contest in contests
        for one, group in zip(contest.comparisons, answers.groups, strict=True)
        if one.winner is not None
    ]
    found = {one.arm: one for one in strengths(verdicts)}
    rows = []
    for arm in [*found, *(arm for arm in answers.by_arm if arm not in found)]:
        one = found.get(arm)
        rows.append(
            {
                "arm": arm,
                "name": names(state)[arm],
                "evaluation": answers.evaluations[arm],
                "num_verdicts": one.num_verdicts if one else 0,
                "wins": one.wins if one else 0.0,
                "strength": one.strength if one else None,
                "interval": _within(one.interval) if one else None,
                WIN_RATE: _win_rate(arm, answers, contests),
            }
        )
    return rows


def _win_rate(arm: str, answers: Answers, contests: Sequence[Contest]) -> dict[str, Any] | None:
    """The share of verdicts that an arm wins against the base, ties counting half; None without the base."""
    against = next(
        (one for one in contests if BASE in (one.first, one.second) and arm in (one.first, one.second)), None
    )
    if against is None or arm == BASE:
        return None
    codes = {group: place for place, group in enumerate(dict.fromkeys(answers.groups))}
    share = estimate(against.points(arm), np.array([codes[group] for group in answers.groups], dtype=np.intp))
    return {"value": share.mean, "interval": _within(share.interval()), "n": share.n, "against": BASE}


def _within(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    """An interval of shares; None where all items say the same, for then what is drawn of them knows no chance."""
    if interval is None or interval[0] == interval[1]:
        return None
    return max(0.0, interval[0]), min(1.0, interval[1])


def _pair(contest: Contest) -> dict[str, Any]:
    winners = [one.winner for one in contest.comparisons]
    return {
        "first": contest.first,
        "second": contest.second,
        "wins": winners.count("a"),
        "losses": winners.count("b"),
        "ties": winners.count("tie"),
        "missing": winners.count(None),
        "flips": sum(one.flipped for one in contest.by_judge),
        "flip_rate": summary_of_pairs(contest.by_judge).get("judge/flip_rate"),
        "identical": sum(one.identical for one in contest.by_judge),
        "by_gate": len(winners) - len(contest.asked),
    }


def _pairs(answers: Answers, contest: Contest) -> list[Pair]:
    """The judge's comparisons with what was compared, for ``podium judge show``."""
    one, other = answers.by_arm[contest.first], answers.by_arm[contest.second]
    return [
        Pair(answers.items[at].id, contest.first, contest.second, one[at].text, other[at].text, contest.comparisons[at])
        for at in contest.asked
    ]
