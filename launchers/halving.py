"""Early stopping behind Ray Tune: a scheduler that asks a rule, and remembers the trials of earlier sessions.

It also ends trials that can no longer keep a constraint of the champion, see ``sweeps.constraints``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from launchers.search import DistinctSearch
from sweeps.constraints import broken_for_good, spared
from sweeps.fields import Mode
from sweeps.schema import Constraint, StopEarly
from sweeps.stopping import first_rung, stops
from sweeps.sweep import Sweep
from sweeps.trial import num_steps

BEHIND = "its loss was not among the best"


class Rule(Protocol):
    """Decides by what trials have reported, in the order in which they did; knows them by our ids."""

    def take(self, trial: str, step: int, loss: float) -> bool:
        """Take a report in, less being better; returns whether the trial ends here."""


class Continuous:
    """Continuous successive halving, see ``sweeps.stopping``."""

    def __init__(self, first: int, reduction: float) -> None:
        self._first, self._reduction = first, reduction
        self._curves: dict[str, dict[int, float]] = {}

    def take(self, trial: str, step: int, loss: float) -> bool:
        self._curves.setdefault(trial, {})[step] = loss
        return stops(self._curves, trial, self._first, self._reduction)


class Asha:
    """Ray's asynchronous successive halving."""

    def __init__(self, first: int, reduction: float, max_steps: int) -> None:
        self._ray = AsyncHyperBandScheduler(
            time_attr="step",
            metric="loss",
            mode="min",
            max_t=max_steps + 1,  # a trial ends by itself; at max_t the scheduler would count it as stopped
            grace_period=first,
            reduction_factor=reduction,
        )

    def take(self, trial: str, step: int, loss: float) -> bool:
        its = SimpleNamespace(trial_id=trial)
        self._ray.on_trial_add(None, its)
        return bool(self._ray.on_trial_result(None, its, {"step": step, "loss": loss}) == TrialScheduler.STOP)


Cost = Callable[[Any, dict[str, Any]], Mapping[str, float]]
"""What one of Tune's trials has cost with a result of its, by metric."""


class Halving(FIFOScheduler):  # type: ignore[misc]
    """Stops the trials that its rule stops. Tune gives a trial another id in each session, so the rule is told ours.

    Args:
        rule: None where no trial is stopped for falling behind.
        constraints: A trial that has broken one of these for good is stopped.
        cost: What trials have cost so far.
        spared: The id of a trial that is not stopped, though others are compared with it: the recipe's own values,
            which the champion must beat fully trained.

    Attributes:
        reasons: By our id, why a trial was stopped.
    """

    def __init__(
        self,
        search: DistinctSearch,
        rule: Rule | None,
        metric: str,
        mode: Mode,
        spared: str | None = None,
        constraints: Sequence[Constraint] = (),
        cost: Cost = lambda trial, result: {},
    ) -> None:
        super().__init__()
        self._search, self._rule, self._metric, self._spared = search, rule, metric, spared
        self._sign = 1.0 if mode == "min" else -1.0
        self._constraints, self._cost = constraints, cost
        self.reasons: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its scheduler into snapshots, which we never restore: the ledger is the truth

    def recall(self, trial: str, reports: Iterable[Mapping[str, Any]]) -> None:
        """Tell the rule what a trial reported in an earlier session, where it was decided what became of it."""
        for report in reports:
            self._take(trial, report)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        ours = self._search.trials[trial.trial_id]
        behind = self._take(ours.id, result)
        reason = broken_for_good(self._constraints, self._cost(trial, result)) or (BEHIND if behind else None)
        if reason is None or ours.id == self._spared:
            return str(TrialScheduler.CONTINUE)
        self.reasons[ours.id] = reason
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._take(self._search.trials[trial.trial_id].id, result)

    def _take(self, trial: str, report: Mapping[str, Any]) -> bool:
        if self._rule is None or report.get("step") is None or report.get(self._metric) is None:  # it failed
            return False
        return self._rule.take(trial, report["step"], self._sign * report[self._metric])


def make_rule(early: StopEarly, max_steps: int) -> Rule:
    """The rule of a ``stop_early`` block, for trials of so many steps."""
    first = first_rung(early.grace, max_steps)
    if early.algorithm == "continuous":
        return Continuous(first, early.reduction)
    return Asha(first, early.reduction, max_steps)


def make_scheduler(sweep: Sweep, search: DistinctSearch, cost: Cost) -> TrialScheduler:
    """What stops trials early, as ``stop_early`` says; ``cost`` tells what trials have cost so far."""
    block, early = sweep.spec.stop_early, sweep.spec.early_stopping
    if block is None or (early is None and not sweep.spec.enforced):
        return FIFOScheduler()
    max_steps = num_steps(sweep.settings, sweep.facts.train_rows)
    rule = make_rule(early, max_steps) if early is not None else None
    return Halving(search, rule, block.metric, block.direction, spared(sweep), sweep.spec.enforced, cost)
