"""The rule of the decision, frozen before the sealed challenge set is read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from analysis.decision.bootstrap import MIN_CLUSTERS, NUM_DRAWS
from sweeps.errors import InvalidInput, Problem


@dataclass(frozen=True)
class DecisionRule:
    """Who is compared with whom, and how.

    Attributes:
        contenders: In the order in which a tie is broken. The first is the candidate, named on dev: the only one that
            is tested for promotion.
        references: What it must beat, each of them: the incumbent, the base.
        metric: The score that is compared; more is better.
        alpha: Familywise, two-sided, of each of the two steps.
        power: Of the answer to how many more items would decide.
        max_items: Its cap.
        num_draws: Of the bootstrap.
        seed: Of the bootstrap.
        min_clusters: With fewer groups of items there is no verdict.
    """

    contenders: tuple[str, ...]
    references: tuple[str, ...]
    metric: str = "quality/score"
    alpha: float = 0.05
    power: float = 0.8
    max_items: int = 10_000
    num_draws: int = NUM_DRAWS
    seed: int = 0
    min_clusters: int = MIN_CLUSTERS

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise InvalidInput(problems)

    @property
    def candidate(self) -> str:
        """Who may be promoted."""
        return self.contenders[0]

    @property
    def arms(self) -> tuple[str, ...]:
        """Everybody who is read on the challenge set."""
        return (*self.contenders, *self.references)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the ledger."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "DecisionRule":
        """The rule as it was frozen."""
        values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in stored.items()}
        return cls(**values)

    def _problems(self) -> list[Problem]:
        problems = []
        if not self.contenders:
            problems.append(Problem("contenders", "must name at least one arm, but is empty"))
        if not self.references:
            hint = "evaluate the untouched base, or name an incumbent"
            problems.append(Problem("references", "must name what is to be beaten, but is empty", hint))
        if twice := sorted({arm for arm in self.arms if self.arms.count(arm) > 1}):
            rule = f"must be contenders or references, each once, but {', '.join(map(repr, twice))} stands there twice"
            problems.append(Problem("arms", rule))
        for name, value in (("alpha", self.alpha), ("power", self.power)):
            if not 0 < value < 1:
                problems.append(Problem(name, f"must be between 0 and 1, but got {value:g}"))
        for name, number, least in (
            ("num_draws", self.num_draws, 199),
            ("min_clusters", self.min_clusters, 2),
            ("max_items", self.max_items, 1),
        ):
            if number < least:
                problems.append(Problem(name, f"must be at least {least}, but got {number}"))
        return problems
