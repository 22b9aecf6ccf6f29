"""A sweep that can be run: what is written, held against its recipe and its pools."""

from dataclasses import dataclass
from typing import Any

from sweeps.facts import Pool, RecipeFacts
from sweeps.schema import SweepSpec
from sweeps.space import Space


@dataclass(frozen=True)
class Sweep:
    """Everything that decides which trials there are.

    Attributes:
        spec: The sweep as it is written.
        facts: The recipe.
        pools: In the order of the sweep.
        space: The swept keys.
        settings: The recipe's nested settings with ``set`` applied.
    """

    spec: SweepSpec
    facts: RecipeFacts
    pools: tuple[Pool, ...]
    space: Space
    settings: dict[str, Any]
