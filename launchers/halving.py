"""Early stopping: Ray's asynchronous successive halving, with rungs that remember the trials of earlier sessions."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from launchers.search import DistinctSearch
from sweeps.sweep import Sweep


class Halving(AsyncHyperBandScheduler):  # type: ignore[misc]
    """ASHA that knows trials by our ids: Tune gives a trial another id in each session."""

    def __init__(self, search: DistinctSearch, **options: Any) -> None:
        super().__init__(**options)
        self._search = search

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its scheduler into snapshots, which we never restore: the ledger is the truth

    def recall(self, trial: str, reports: Iterable[Mapping[str, Any]]) -> None:
        """Put what a trial reported in an earlier session into the rungs that it reached."""
        for report in reports:
            if report.get(self._metric) is not None:
                value = self._metric_op * report[self._metric]
                self._brackets[0].on_result(SimpleNamespace(trial_id=trial), report["step"], value)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, self._ours(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(super().on_trial_result(tune_controller, self._ours(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        super().on_trial_complete(tune_controller, self._ours(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_remove(tune_controller, self._ours(trial))

    def _ours(self, trial: Any) -> Any:
        return SimpleNamespace(trial_id=self._search.trials[trial.trial_id].id)


def make_scheduler(sweep: Sweep, search: DistinctSearch) -> TrialScheduler:
    """What stops trials early, as ``stop_early`` says."""
    early = sweep.spec.early_stopping
    if early is None:
        return FIFOScheduler()
    max_steps = int(sweep.settings["train"]["max_steps"])
    return Halving(
        search,
        time_attr="step",
        metric=early.metric,
        mode=early.direction,
        max_t=max_steps + 1,  # a trial ends by itself; at max_t the scheduler would count it as stopped
        grace_period=max(1, round(early.grace * max_steps)),
        reduction_factor=early.reduction,
    )
