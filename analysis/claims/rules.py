"""What makes a claim one that can be believed, as checks of typed claims."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from analysis.claims.model import AnyClaim, Claim, Interval, Limit, Op, Relative, Share
from analysis.scales import number
from sweeps.errors import Problem
from sweeps.metrics import BY_NAME

_HALF_A_DIGIT = 0.05 + 1e-9  # percentages are told with one decimal


class Rule(StrEnum):
    """The rules, each as a sentence with its way out."""

    BASELINE = "a relative figure names its baseline (write: against WHAT)"
    DATA = "a percentage names the data it was measured on (write: on WHICH SPLIT)"
    N = "a percentage names how many items stand behind it (write: n = HOW MANY)"
    ARITHMETIC = "a relative figure follows from its absolute values (state both values, or correct it)"
    COMPARABLE = "figures are compared only for the same metric on the same items (measure both arms alike)"
    MIXED = "percentages against different baselines do not stand side by side (one baseline a column, list, sentence)"
    MOVED = "a baseline has one value on a page (two values are two baselines: name them apart)"
    OF_PERCENT = "a percentage is not taken of a percentage (state both shares, or their difference in points)"
    DIRECTION = "words and sign say the same (up is +, down is −; a latency that fell is not up)"
    LIMIT = "a limit is claimed with the absolute figure, and the figure keeps it (write: 1.83 s, below 2 s)"
    UNMARKED = "a figure of a generated page comes from a claim (make it with analysis.claims)"
    MARKER = "a claim's words are those of its facts (let analysis.claims write it)"


@dataclass(frozen=True)
class Violation:
    """A rule that is broken, where, and by which words."""

    rule: Rule
    quote: str
    line: int | None = None

    def __str__(self) -> str:
        return str(self.problem())

    def problem(self) -> Problem:
        """As the error that a user reads."""
        sentence, _, hint = self.rule.partition(" (")
        return Problem(f"“{self.quote}”", sentence, hint.removesuffix(")"), self.line)


def relative(claim: Claim, baseline: Claim, interval: Interval | None = None) -> Relative | None:
    """A figure against a baseline's; None where the baseline is 0, because nothing is a percentage of that.

    Args:
        claim: The figure.
        baseline: The same metric of another arm, on the same rows.
        interval: Of the change, in percent.

    Raises:
        AssertionError: The two cannot be compared, and our code did.
    """
    if baseline.value == 0:
        return None
    made = Relative(claim, baseline, 100 * (claim.value / baseline.value - 1), interval)
    wrong = check([made])
    assert not wrong, "; ".join(str(violation) for violation in wrong)
    return made


def limit(claim: Claim, op: Op, bound: float) -> Limit:
    """Whether a figure keeps a limit, said as it is."""
    made = Limit(claim, op, bound)
    return replace(made, kept=made.holds)


def check(claims: Iterable[AnyClaim]) -> list[Violation]:
    """Every rule that claims which stand side by side break, in a sentence, a list or a column."""
    claims = list(claims)
    found = [violation for claim in claims for violation in check_one(claim)]
    return [*found, *side_by_side(claims), *one_value(claims)]


def check_one(claim: AnyClaim) -> list[Violation]:
    """The rules that a claim breaks by itself."""
    broken: list[Rule] = []
    held = claim if isinstance(claim, Claim | Share) else claim.claim
    if not held.data:
        broken.append(Rule.DATA)
    if held.n is None or held.n < 1:
        broken.append(Rule.N)
    if isinstance(claim, Relative):
        broken += _relative(claim)
    if isinstance(claim, Share) and not 0 <= claim.value <= 1:
        broken.append(Rule.ARITHMETIC)
    if isinstance(claim, Limit) and claim.kept is not claim.holds:
        broken.append(Rule.LIMIT)
    return [Violation(rule, str(claim)) for rule in broken]


def _relative(claim: Relative) -> list[Rule]:
    value, baseline = claim.claim, claim.baseline
    if baseline is None or not baseline.arm:
        return [Rule.BASELINE]
    broken = []
    if BY_NAME.get(value.metric) is not None and BY_NAME[value.metric].unit in ("share", "0–1"):
        broken.append(Rule.OF_PERCENT)
    same = (baseline.metric, baseline.data, baseline.sha256, baseline.n)
    if same != (value.metric, value.data, value.sha256, value.n):
        broken.append(Rule.COMPARABLE)
    follows = 100 * (value.value / baseline.value - 1) if baseline.value else math.nan
    if not abs(claim.percent - follows) <= _HALF_A_DIGIT:
        broken.append(Rule.ARITHMETIC)
    if claim.interval is not None and not claim.interval[0] <= claim.percent <= claim.interval[1]:
        broken.append(Rule.ARITHMETIC)
    return broken


def side_by_side(claims: Sequence[AnyClaim]) -> list[Violation]:
    """Relative claims that stand together have one baseline, and those of one metric one set of rows."""
    found = [claim for claim in claims if isinstance(claim, Relative) and claim.baseline is not None]
    arms: dict[str, Relative] = {}
    rows: dict[tuple[str, str | None, str | None], Relative] = {}
    for claim in found:
        assert claim.baseline is not None
        arms.setdefault(claim.baseline.arm, claim)
        rows.setdefault((claim.claim.metric, claim.claim.data, claim.claim.sha256), claim)
    several = len({metric for metric, *_ in rows}) < len(rows)
    if len(arms) < 2 and not several:
        return []
    differing = arms if len(arms) > 1 else rows
    return [Violation(Rule.MIXED, " | ".join(str(claim) for claim in differing.values()))]


def one_value(claims: Iterable[AnyClaim]) -> list[Violation]:
    """A baseline of one name, metric and set of rows has one value."""
    values: dict[tuple[str | None, ...], Relative] = {}
    found = []
    for claim in claims:
        if not isinstance(claim, Relative) or claim.baseline is None:
            continue
        baseline = claim.baseline
        first = values.setdefault((baseline.arm, baseline.metric, baseline.data, baseline.sha256), claim)
        assert first.baseline is not None
        if not math.isclose(first.baseline.value, baseline.value, rel_tol=1e-9):
            quote = f"{baseline.arm}: {baseline.metric} {number(first.baseline.value)} and {number(baseline.value)}"
            found.append(Violation(Rule.MOVED, quote))
    return found


def at(violations: Iterable[Violation], line: int | None) -> list[Violation]:
    """The same violations with the line where they stand."""
    return [replace(violation, line=line) for violation in violations]
