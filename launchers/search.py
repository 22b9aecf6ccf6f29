"""What to try next: the planned points first, then what Optuna suggests, never the same trial twice.

A Tune searcher over an Optuna study. Ray's own ``OptunaSearch`` can neither draw again where a suggestion is a trial
that the sweep already has, nor wait for a metric that is known only after the evaluation, nor hold back while
evaluations need the machine; all three are done here. With several metrics it is Optuna's NSGA-II that suggests, and
what is measured of the champion's constraints goes in as Optuna's.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray.tune.search import Searcher

from launchers.agenda import Known
from launchers.slots import Slots
from sweeps.constraints import violation
from sweeps.distributions import Choice, Distribution, Fixed, IntRange, LogUniform, QUniform, Uniform
from sweeps.fields import Mode
from sweeps.schema import Constraint
from sweeps.space import Space
from sweeps.trial import Trial

Metrics = Mapping[str, float | None]

MAX_REDRAWS = 50  # duplicates in a row after which the space counts as exhausted
TRAINING_PREFIXES = ("train/", "val/")
POPULATIONS = 4  # of NSGA-II in a sweep: each is so large that it is renewed this often, the first being the design
MAX_POPULATION = 50  # Optuna's own


class DistinctSearch(Searcher):  # type: ignore[misc]
    """Suggests distinct trials, as the configs that :class:`launchers.trainable.TrialRunner` takes.

    Args:
        planned: The design, most of it unknown in a new sweep, all of it known in one that was extended.
        num_trials: Distinct trials of the sweep, those of earlier sessions among them.
        known: Trials of earlier sessions, in the order in which they were drawn. Optuna is told of them.
        unfinished: Of these, the ones to go on with before anything new is drawn.
        next_number: Of the next new trial.
        objectives: What the search goes by, with the better side of each.
        constraints: Those of the champion; with several objectives the searcher is told how far trials are from them.
        begin: Called with a new trial before it is handed out. None where it is to be trained; else what is known of
            it: the sweep has its result already, or its settings alone break a constraint.
    """

    def __init__(
        self,
        space: Space,
        planned: Sequence[Trial],
        num_trials: int,
        make_trial: Callable[[int, dict[str, Any], int], Trial],
        make_config: Callable[[Trial], dict[str, Any]],
        slots: Slots,
        *,
        objectives: Mapping[str, Mode],
        seed: int,
        algorithm: str = "tpe",
        constraints: Sequence[Constraint] = (),
        repeats: int = 1,
        known: Sequence[Known] = (),
        unfinished: Sequence[Trial] = (),
        next_number: int = 0,
        begin: Callable[[Trial], Metrics | None] = lambda trial: None,
    ) -> None:
        import optuna

        super().__init__(metric=list(objectives), mode=list(objectives.values()))
        self._objectives, self._constraints = tuple(objectives), constraints if len(objectives) > 1 else ()
        # One metric of training is known when the trial ends. Anything else comes with the evaluation or after it.
        self._waits = len(objectives) > 1 or not self._objectives[0].startswith(TRAINING_PREFIXES)
        self._space, self._num_trials = space, num_trials
        self._make_trial, self._make_config, self._slots = make_trial, make_config, slots
        self._repeats = repeats  # how often each point is trained, each time with a seed of its own
        self._begin, self._unfinished, self._next_number = begin, list(unfinished), next_number
        self._trials: dict[str, Trial] = {}  # by Tune's id
        # Everything below is by our own id.
        self._drawn: set[str] = set()
        self._counted = 0  # of these, how many count as trials that were asked for
        self._asked: dict[str, Any] = {}  # Optuna's trial
        self._scores: dict[str, Metrics] = {}
        self._waiting: set[str] = set()  # finished, the search's metrics come with the evaluation
        self._closed = False
        # Called before each suggestion: Tune waits inside ``suggest`` while no trial runs, so this is then the only
        # chance to see that an evaluation has ended or that the sweep is to stop.
        self.tick: Callable[[], None] = lambda: None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        # A session that goes on must not draw the numbers of the one before it again.
        seed += len(known)
        # The planned points are the start-up design, so the sampler needs no random start of its own. The constant liar
        # keeps trials that run side by side apart.
        population = min(MAX_POPULATION, max(4, num_trials // POPULATIONS))
        sampler = (
            optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
            if algorithm == "nsga2"
            else optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True
            )
        )
        sides = ["minimize" if mode == "min" else "maximize" for mode in objectives.values()]
        self._study = optuna.create_study(directions=sides, sampler=sampler)
        for one in known:
            self._recall(one)
        missing = self._missing_repeats(known)
        # Trials of before count as part of the design, whether or not they are points of it.
        left = max(0, len(planned) - self._counted - len(missing))
        repeats_of = {trial.id for trial in missing}
        new = [trial for trial in planned if trial.id not in self._drawn | repeats_of]
        self._planned = [*missing, *new[:left]]

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher into snapshots, which we never restore: the ledger is the truth

    @property
    def trials(self) -> Mapping[str, Trial]:
        """Every trial handed out in this session, by Tune's id."""
        return self._trials

    @property
    def has_work(self) -> bool:
        """Whether there is a trial to train."""
        return bool(self._unfinished) or self._counted < self._num_trials

    def close(self) -> None:
        """Suggest nothing more: the sweep ends."""
        self._closed = True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config; None while there is no room; FINISHED at the end."""
        self.tick()
        if self._closed or not self.has_work:
            return str(Searcher.FINISHED)
        if self._slots.free <= 0:
            return None
        if self._unfinished:
            return self._hand_out(trial_id, self._unfinished.pop(0))
        redraws = 0
        while self.has_work and redraws < MAX_REDRAWS:
            trial, asked = self._draw()
            if trial.id in self._drawn:  # Optuna is told its result, and asked again
                self._tell(asked, self._scores.get(trial.id))
                redraws += 1
                continue
            redraws = 0
            self._count(trial)
            self._asked[trial.id] = asked
            self._next_number += 1
            known = self._begin(trial)
            if known is None:
                return self._hand_out(trial_id, trial)
            self._score(trial.id, known)
        self._closed = True
        return str(Searcher.FINISHED)

    def _hand_out(self, tune_id: str, trial: Trial) -> dict[str, Any]:
        self._trials[tune_id] = trial
        self._slots.running.add(tune_id)
        return self._make_config(trial)

    def _draw(self) -> tuple[Trial, Any]:
        """The next planned trial, or one that Optuna suggests, with Optuna's side of it."""
        number = self._next_number
        if self._planned:
            trial = replace(self._planned.pop(0), number=number)
            return trial, self._ask_for(trial)
        asked = self._study.ask()
        values = suggest_values(self._space, asked)
        self._planned += [self._make_trial(number + k, values, k) for k in range(1, self._repeats)]
        return self._make_trial(number, values, 0), asked

    def _ask_for(self, trial: Trial) -> Any:
        """Optuna's side of a trial whose values are known.

        The recipe's defaults may lie outside the space: such a trial runs, but Optuna cannot be told of it (None).
        """
        dimensions = self._space.dimensions
        if not all(dimensions[key].distribution.contains(value) for key, value in _active(self._space, trial.values)):
            return None
        self._study.enqueue_trial(_encode(self._space, trial.values))
        asked = self._study.ask()
        suggest_values(self._space, asked)
        return asked

    def _recall(self, known: Known) -> None:
        """Put a trial of an earlier session where it stood."""
        key = known.trial.id
        self._count(known.trial)
        self._asked[key] = self._ask_for(known.trial)
        if known.open:
            self._waiting.add(key)
        else:
            self._score(key, known.metrics)

    def _count(self, trial: Trial) -> None:
        self._drawn.add(trial.id)
        self._counted += trial.repeat < self._repeats  # more repeats than are asked for are no points

    def _missing_repeats(self, known: Sequence[Known]) -> list[Trial]:
        """Of every point of before, the repeats that it lacks."""
        points = [one.trial for one in known if one.trial.repeat == 0]
        repeats = [self._make_trial(0, point.values, k) for point in points for k in range(1, self._repeats)]
        return [trial for trial in repeats if trial.id not in self._drawn]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: Tune's scheduler stops trials, Optuna prunes none."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna, or wait where what the search goes by is known only after the evaluation."""
        self._slots.running.discard(trial_id)
        if trial_id not in self._trials:
            return
        key = self._trials[trial_id].id
        self._waiting.discard(key)
        if error or result is None or result.get("failed"):
            self._score(key, None)
        elif self._waits:
            self._waiting.add(key)
        else:
            self._score(key, result)

    def ended(self, trial: str, metrics: Metrics | None) -> None:
        """This trial (our id) is evaluated, or will not be; all that is known of it, or None where that failed."""
        if trial in self._waiting:
            self._waiting.discard(trial)
            self._score(trial, metrics)

    def _score(self, trial: str, metrics: Metrics | None) -> None:
        if metrics is not None:
            self._scores[trial] = metrics
        self._tell(self._asked[trial], metrics)

    def _tell(self, asked: Any, metrics: Metrics | None) -> None:
        """Tell Optuna of a trial; one that lacks what the search goes by was pruned, one without metrics has failed."""
        from optuna.trial import TrialState

        if asked is None:
            return
        values = [None if metrics is None else metrics.get(name) for name in self._objectives]
        if metrics is None:
            self._study.tell(asked, state=TrialState.FAIL)
        elif any(value is None for value in values):
            self._study.tell(asked, state=TrialState.PRUNED)
        else:
            for constraint in self._constraints:
                # What nobody measures before the end, such as latency, keeps no trial from being a parent.
                value = metrics.get(constraint.metric)
                asked.set_constraint(str(constraint), 0.0 if value is None else violation(constraint, value))
            self._study.tell(asked, values)

    def save(self, checkpoint_path: str) -> None:
        """Nothing of its own: the ledger knows every trial."""

    def restore(self, checkpoint_path: str) -> None:
        """See :meth:`save`."""


def suggest_values(space: Space, asked: Any) -> dict[str, Any]:
    """Ask an Optuna trial for every key whose condition holds; the others keep their default or neutral value."""
    values: dict[str, Any] = {}
    for key in space.order():
        dimension = space.dimensions[key]
        if dimension.when is None or dimension.when.holds(space.complete(values), space.defaults):
            values[key] = _suggest(key, dimension.distribution, asked)
    return values


def _suggest(key: str, distribution: Distribution, asked: Any) -> Any:
    match distribution:
        case Choice():  # as JSON text, since Optuna's categories cannot be lists
            return json.loads(asked.suggest_categorical(key, [json.dumps(value) for value in distribution.values()]))
        case Uniform():
            return asked.suggest_float(key, distribution.low, distribution.high)
        case LogUniform():
            return asked.suggest_float(key, distribution.low, distribution.high, log=True)
        case QUniform():
            return asked.suggest_float(key, distribution.low, distribution.high, step=distribution.q)
        case IntRange():
            return asked.suggest_int(key, distribution.low, distribution.high, step=distribution.step)
        case Fixed():
            return distribution.value


def _encode(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's values as Optuna stores them."""
    return {
        key: json.dumps(value) if isinstance(space.dimensions[key].distribution, Choice) else value
        for key, value in _active(space, values)
        if not isinstance(space.dimensions[key].distribution, Fixed)
    }


def _active(space: Space, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys whose condition holds, with their values."""
    for key, dimension in space.dimensions.items():
        if dimension.when is None or dimension.when.holds(dict(values), space.defaults):
            yield key, values[key]
