"""The place of a sweep among the stages of a whole: what it starts from, and what it shares with the others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.data.splits import SplitRows
from sweeps.spec import Budget


@dataclass(frozen=True)
class StartTrial:
    """A trial of an earlier stage that a later one starts from: its stage, that stage's run folder, and its id."""

    stage: str
    folder: Path
    trial: str


@dataclass(frozen=True)
class Place:
    """The place of a sweep among the stages of a whole.

    Attributes:
        sweep: The name of the whole.
        name: Of the stage.
        names: Of all stages, in their order.
        budget: Of all of them together.
        data: The ``data`` block of the first stage, on whose dev and challenge rows all of them are judged; None in
            that stage itself, as are its ``rows``.
        source: The stage that it starts from; None in the first one.
        starts: The trials that it starts from, best first; none while they are not decided.
    """

    sweep: str
    name: str
    names: tuple[str, ...]
    budget: Budget
    data: dict[str, Any] | None = None
    rows: SplitRows | None = None
    source: str | None = None
    starts: tuple[StartTrial, ...] = ()

    @property
    def number(self) -> int:
        """From 0."""
        return self.names.index(self.name)

    @property
    def is_last(self) -> bool:
        """Whether its champion is that of the whole."""
        return self.name == self.names[-1]
