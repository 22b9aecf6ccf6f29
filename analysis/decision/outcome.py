"""What a decision says: comparisons with their intervals, and champion, tie set or none."""

from dataclasses import dataclass
from typing import Any, Literal

from analysis.decision.power import Need
from analysis.decision.rule import DecisionRule

Kind = Literal["champion", "tie", "none"]
Verdict = Literal["better", "worse", "undecided", "too few"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """One arm against another on the items that both have.

    Attributes:
        first: The difference is this one's score
        second: less this one's.
        n: Items. ``num_clusters`` are their groups, ``num_missing`` the items that one of the two lacks.
        difference: None without items.
        interval: Of this comparison alone, at 1 - alpha; None where clusters are too few.
        joint_interval: So wide that those of the whole family hold together at 1 - alpha.
        p: Two-sided, of this comparison alone.
        adjusted_p: What the verdict goes by. For a reference it is p, see above; among contenders it is Holm's.
        verdict: On ``first``.
        need: More items that would decide it.
    """

    first: str
    second: str
    n: int
    num_clusters: int
    num_missing: int
    difference: float | None
    interval: Interval | None
    joint_interval: Interval | None
    p: float | None
    adjusted_p: float | None
    verdict: Verdict
    need: Need

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``plain`` makes infinite bounds None."""
        return {
            **{name: getattr(self, name) for name in _COLUMNS},
            "more_items": self.need.items,
            "more_items_is_cap": self.need.beyond,
        }


_COLUMNS = (
    *("first", "second", "n", "num_clusters", "num_missing", "difference", "interval", "joint_interval"),
    *("p", "adjusted_p", "verdict"),
)


@dataclass(frozen=True)
class Mean:
    """An arm's mean over the challenge items that it has, with its interval at 1 - alpha."""

    arm: str
    n: int
    mean: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Outcome:
    """What was decided.

    Attributes:
        kind: ``champion``: one is promoted and beats all others. ``tie``: one is promoted, others are not told apart
            from it. ``none``: nobody is promoted.
        pick: Who is promoted; None if nobody.
        unbeaten: The contenders that no other is shown to be better than: the champion alone, or the tie set.
        means: Of every arm. That of the candidate is unbiased: it was named before these scores were seen.
        promotion: The candidate against each reference.
        contest: All pairs of contenders.
        need: More items that would decide what is open: the promotion, or else the tie. 0 for a champion.
        why: Sentences for people.
    """

    rule: DecisionRule
    kind: Kind
    pick: str | None
    unbeaten: tuple[str, ...]
    means: tuple[Mean, ...]
    promotion: tuple[Comparison, ...]
    contest: tuple[Comparison, ...]
    need: Need
    why: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the ledger and the certificate."""
        return {
            "kind": self.kind,
            "pick": self.pick,
            "unbeaten": list(self.unbeaten),
            "means": [vars(mean) for mean in self.means],
            "promotion": [one.to_dict() for one in self.promotion],
            "contest": [one.to_dict() for one in self.contest],
            "more_items": self.need.items,
            "more_items_is_cap": self.need.beyond,
            "why": list(self.why),
            "rule": self.rule.to_dict(),
        }
