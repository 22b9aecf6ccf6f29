"""What gives preferred answers away: their length, or how many items they list, before a word of them is read.

A preference loss learns whatever tells the two answers apart, and the cheapest sign first. In the example of
NEMO-4-PAYPAL every chosen answer proposes one category and the rejected one three: a model may learn "one" and nothing
of the shopper. So each number that can be read off an answer is held against the preference, in two ways:

- within pairs: in what share of them the chosen answer has more (ties count half). 0.5 says nothing, 1 says all.
- between answers: how often the best rule that sees the number of a single answer names the right one of the two kinds.
  It also finds "chosen have always two, rejected one or three", where no answer is the larger.

Prompts, not pairs, are drawn for the intervals: pairs of one prompt are alike.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recipes.data.answers import as_json
from recipes.data.preferences import pairs
from recipes.data.rows import canonical
from sweeps.errors import Problem

NUM_DRAWS = 400
MAX_AUDITED = 20_000  # pairs; of more, as many drawn at random: files are sorted and joined, so not the first ones
FEW_LEVELS = 12  # a number with no more different values is compared value by value, another by thresholds
Z95 = 1.959964
_Numbers = NDArray[np.float64]
Count = Callable[[str], int]


@dataclass(frozen=True)
class Limits:
    """From where on a number that gives the preference away is told.

    Attributes:
        warn: A share (of pairs, or of answers told right) from which a warning stands.
        error: From which it is an error; None blocks nothing.
        min_prompts: With fewer prompts nothing is told: chance alone reaches such shares.
    """

    warn: float = 0.7
    error: float | None = 0.9
    min_prompts: int = 20


@dataclass(frozen=True)
class Measured:
    """How one number of the answers goes with the preference. Intervals are of 95 %.

    Attributes:
        name: ``characters``, ``tokens`` or ``items``, the length of a JSON answer's top list.
        n: Pairs in which both answers have the number, of ``num_prompts`` prompts.
        chosen: Mean over the chosen answers; ``rejected`` over the others.
        difference: Mean of chosen less rejected, within pairs.
        effect: The same in standard deviations of the differences (Cohen's d_z); None where they do not differ.
        share: Of pairs in which the chosen answer has more, ties counted half.
        told_apart: Share of answers that the best rule over this number alone puts on the right side.
        by_chance: What that rule reaches in 39 of 40 cases where nothing is to be learned: the rule is made for these
            very answers, so it is always above one half.
    """

    name: str
    n: int
    num_prompts: int
    chosen: float
    rejected: float
    difference: float
    difference_interval: tuple[float, float]
    effect: float | None
    share: float
    share_interval: tuple[float, float]
    told_apart: float
    told_apart_interval: tuple[float, float]
    by_chance: float

    @property
    def gives_away(self) -> float:
        """The larger of both ways to read the preference off the number: 0.5 nothing, 1 all."""
        return max(self.share, 1 - self.share, self.told_apart)

    @property
    def is_sure(self) -> bool:
        """Whether chance alone would hardly show as much."""
        low, high = self.share_interval
        return low > 0.5 or high < 0.5 or self.told_apart > self.by_chance

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class PairFinding:
    """Something to know of pairs: how bad it is, the rule, and the way out."""

    level: Literal["error", "warning"]
    name: str
    rule: str
    hint: str


@dataclass(frozen=True)
class PairFindings:
    """What was found in preference rows.

    Attributes:
        num_pairs: Those that break no rule; ``num_broken`` do, of which ``problems`` are the first.
        measured: The numbers of their answers.
        found: What of these numbers is beyond a limit.
    """

    num_pairs: int
    num_broken: int
    problems: tuple[Problem, ...]
    measured: tuple[Measured, ...]
    found: tuple[PairFinding, ...]

    @property
    def is_usable(self) -> bool:
        """Whether nothing is wrong, warnings aside."""
        return not self.num_broken and not any(one.level == "error" for one in self.found)


def check_pairs(
    numbered: Iterable[tuple[int, Any]],
    limits: Limits = Limits(),
    count_tokens: Count | None = None,
    max_problems: int = 20,
) -> PairFindings:
    """Check preference rows, as they are written, by every rule of :mod:`recipes.data.preferences`, and audit them.

    Args:
        numbered: Lines and rows, gone through once.
        limits: Of what the audit tells.
        count_tokens: Counts an answer's tokens; without it they are not looked at.
        max_problems: How many broken rows are kept.
    """
    audit, problems = Audit(count_tokens), list[Problem]()
    num_pairs = num_broken = 0
    for _, pair in pairs(numbered):
        if isinstance(pair, Problem):
            num_broken += 1
            problems += [pair] if len(problems) < max_problems else []
        else:
            num_pairs += 1
            audit.add(pair)
    measured = audit.result()
    return PairFindings(num_pairs, num_broken, tuple(problems), measured, findings(measured, limits))


def findings(measured: Iterable[Measured], limits: Limits) -> tuple[PairFinding, ...]:
    """What of the numbers is beyond a limit, and not by chance."""
    found = []
    for one in measured:
        if one.num_prompts < limits.min_prompts or not one.is_sure or one.gives_away < limits.warn:
            continue
        is_error = limits.error is not None and one.gives_away >= limits.error
        found.append(PairFinding("error" if is_error else "warning", one.name, _told(one), _way_out(one)))
    return tuple(found)


def _told(one: Measured) -> str:
    direction = "more" if one.share >= 0.5 else "fewer"
    share, (low, high) = one.share, one.share_interval
    if direction == "fewer":
        share, low, high = 1 - share, 1 - high, 1 - low
    within = f"the chosen answer has {direction} {one.name} in {share:.0%} of pairs (95 %: {low:.0%} to {high:.0%})"
    means = f"{one.chosen:.4g} against {one.rejected:.4g} on average"
    effect = "" if one.effect is None else f", d = {one.effect:.2f}"
    low, high = one.told_apart_interval
    apart = f"{one.name} alone tell {one.told_apart:.0%} of answers right (95 %: {low:.0%} to {high:.0%})"
    return f"{within}, {means}{effect}; {apart}"


def _way_out(one: Measured) -> str:
    return (
        f"a preference loss may learn the number of {one.name} and nothing else: add pairs in which the rejected "
        "answer is as large, or the other way round"
    )


class Audit:
    """Collects the numbers of pairs, of ``MAX_AUDITED`` at most: of more it draws as many, each as likely as any other.

    Args:
        count_tokens: As :func:`check_pairs` takes it.
    """

    def __init__(self, count_tokens: Count | None = None) -> None:
        self._of: dict[str, Callable[[str], float | None]] = {"characters": lambda text: float(len(text))}
        if count_tokens is not None:
            self._of["tokens"] = lambda text: float(count_tokens(text))
        self._of["items"] = num_items
        self._sample: list[tuple[int, dict[str, tuple[float, float]]]] = []  # prompt, and each number of both answers
        self._random = random.Random(0)
        self._num = 0

    def add(self, pair: Mapping[str, Any]) -> None:
        """Take a pair in the common form."""
        self._num += 1
        place = self._num - 1 if self._num <= MAX_AUDITED else self._random.randrange(self._num)
        if place >= MAX_AUDITED:
            return
        chosen, rejected = pair["messages"][-1]["content"], pair["rejected"]
        numbers = {}
        for name, number in self._of.items():
            first, second = number(chosen), number(rejected)
            if first is not None and second is not None:
                numbers[name] = (first, second)
        self._sample[place : place + 1] = [(hash(canonical(pair["messages"][:-1])), numbers)]

    def result(self) -> tuple[Measured, ...]:
        """Each number that some pair has in both of its answers."""
        prompts = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompt for prompt, _ in self._sample))}
        every = {
            name: [(prompts[prompt], *numbers[name]) for prompt, numbers in self._sample if name in numbers]
            for name in self._of
        }
        return tuple(_measure(name, np.array(rows)) for name, rows in every.items() if rows)


def num_items(text: str) -> float | None:
    """The length of the top list of a JSON answer: of the answer itself, or of the first list in it; None without."""
    value = as_json(text)
    if isinstance(value, dict):
        value = next((inner for inner in value.values() if isinstance(inner, list)), None)
    return float(len(value)) if isinstance(value, list) else None


def _measure(name: str, rows: _Numbers) -> Measured:
    prompts, chosen, rejected = rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 2]
    _, clusters = np.unique(prompts, return_inverse=True)
    num_prompts = int(clusters.max()) + 1
    differences = chosen - rejected
    wins = (np.sign(differences) + 1) / 2
    spread = float(differences.std(ddof=1)) if len(rows) > 1 else 0.0
    mean = float(differences.mean())
    differing, apart, null = _draws(chosen, rejected, clusters, num_prompts)
    return Measured(
        name=name,
        n=len(rows),
        num_prompts=num_prompts,
        chosen=float(chosen.mean()),
        rejected=float(rejected.mean()),
        difference=mean,
        difference_interval=_interval(differing),
        effect=mean / spread if spread > 0 else None,
        share=float(wins.mean()),
        share_interval=wilson(float(wins.mean()), num_prompts),
        told_apart=_told_apart(*_places(chosen, rejected), np.ones(len(rows))),
        told_apart_interval=_interval(apart),
        by_chance=_interval(null)[1],
    )


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which says something at 0 and 1 too."""
    spread = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    middle, scale = share + Z95**2 / (2 * n), 1 + Z95**2 / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _draws(
    chosen: _Numbers, rejected: _Numbers, clusters: NDArray[np.int64], num_prompts: int
) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Difference and share told apart over prompts drawn with replacement, and the latter with prompts turned round."""
    rng = np.random.default_rng(0)
    first, second, num_levels = _places(chosen, rejected)
    differing, apart, null = np.empty(NUM_DRAWS), np.empty(NUM_DRAWS), np.empty(NUM_DRAWS)
    once = np.ones(len(chosen))
    for draw in range(NUM_DRAWS):
        times = np.bincount(rng.integers(num_prompts, size=num_prompts), minlength=num_prompts)[clusters].astype(float)
        differing[draw] = np.average(chosen - rejected, weights=times)
        apart[draw] = _told_apart(first, second, num_levels, times)
        turned = (rng.random(num_prompts) < 0.5)[clusters]
        null[draw] = _told_apart(np.where(turned, second, first), np.where(turned, first, second), num_levels, once)
    return differing, apart, null


def _places(chosen: _Numbers, rejected: _Numbers) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Each number's place among the different numbers that there are, and how many these are."""
    levels, places = np.unique(np.concatenate([chosen, rejected]), return_inverse=True)
    return places[: len(chosen)], places[len(chosen) :], len(levels)


def _told_apart(chosen: NDArray[np.int64], rejected: NDArray[np.int64], num_levels: int, times: _Numbers) -> float:
    """The share of answers that the best rule tells right: half of one and the distance of both distributions.

    Few levels are taken each by itself (total variation). Many would be learned by heart so, and a threshold, below
    which all are of one kind, is what is looked for (Kolmogorov and Smirnov's distance).
    """
    total = times.sum()
    gap = np.bincount(chosen, times, num_levels) - np.bincount(rejected, times, num_levels)
    if num_levels <= FEW_LEVELS:
        return float(0.5 + np.abs(gap).sum() / total / 4)
    return float(0.5 + np.abs(np.cumsum(gap)).max() / total / 2)


def _interval(draws: _Numbers) -> tuple[float, float]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
