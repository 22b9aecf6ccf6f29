"""How many trials run at once. Apart from the search, which loads Ray Tune: see ``launchers.driver``."""

from dataclasses import dataclass, field


@dataclass
class Slots:
    """How many trials may run at once, and what holds a slot at the moment."""

    capacity: int
    evaluating: int = 0
    running: set[str] = field(default_factory=set)  # Tune's ids

    @property
    def free(self) -> int:
        """Room for another trial. An evaluation takes a trial's room, so that it is not starved by the next trial."""
        return self.capacity - self.evaluating - len(self.running)
