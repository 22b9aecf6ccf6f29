"""Where a budget stops a sweep, over all of its sessions."""

from dataclasses import dataclass

from launchers import home
from launchers.halt import Halt
from launchers.place import Place
from sweeps.schema import Budget
from tracking.ledger import FILE_NAME, SweepState, read

TRIALS_SHARE = 0.9  # of a budget goes to trials; the rest is kept for evaluation and export


@dataclass(frozen=True)
class Spending:
    """What earlier sessions have spent: US$ and unit-seconds of their trials, seconds of wall clock."""

    usd: float
    unit_s: float
    wall_s: float

    @classmethod
    def of(cls, state: SweepState) -> "Spending":
        """Before the session that is just beginning."""
        work = [entry for entry in state.costs if entry.what is None and entry.kind != "idle"]
        wall_s = sum(session.seconds for session in state.sessions[:-1])
        return cls(sum(entry.usd for entry in work), sum(entry.unit_s for entry in work), wall_s)

    def with_others(self, place: Place) -> "Spending":
        """With what the other stages of the whole have spent in all of their sessions, those after this one too."""
        usd, unit_s, wall_s = self.usd, self.unit_s, self.wall_s
        for name in place.names:
            if name == place.name:
                continue
            folder = home.run_folder(place.sweep if name == place.names[-1] else f"{place.sweep}/{name}")
            if (folder / FILE_NAME).is_file():
                state = read(folder)
                one = Spending.of(state)
                usd, unit_s = usd + one.usd, unit_s + one.unit_s
                wall_s += sum(session.seconds for session in state.sessions)
        return Spending(usd, unit_s, wall_s)

    def check(self, budget: Budget, usd: float, unit_s: float, wall_s: float, halt: Halt) -> None:
        """Halt the sweep where, with so much of this session, the trials' share of a limit is spent."""
        for name, spent, limit in (
            ("usd", self.usd + usd, budget.usd),
            ("gpu_hours", (self.unit_s + unit_s) / 3600, budget.gpu_hours),
            ("wall_clock", self.wall_s + wall_s, budget.wall_clock_s),
        ):
            if limit is not None and spent >= TRIALS_SHARE * limit:
                kept = f"{1 - TRIALS_SHARE:.0%} is kept for evaluation and export"
                halt.stop("BUDGET", f"budget.{name}: {spent:.3g} of {limit:g} is spent, {kept}")
