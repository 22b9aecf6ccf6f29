"""Evaluation tasks on Ray, started from the driver; their results go to the ledger."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.arms import Arms
from launchers.cluster import check_alive
from launchers.evaluation import EvaluationJob, evaluate, keep_samples, measure, read_instrument
from launchers.failures import EVALUATION, Failures
from launchers.packs import Packs
from launchers.pools import selector
from launchers.served import evaluate_served, measure_served
from launchers.slots import Slots
from sweeps.facts import Pool
from sweeps.latency import Latency, of_requests
from tracking.ledger import Ledger, State, TrialState
from tracking.meters.cost import Kind, charge, cost_of
from tracking.state import DEFECTS

RETRIES = 1  # of an evaluation whose process died


@dataclass(frozen=True)
class _Call:
    """Evaluations that were started together, when, and on which pack; None for a Ray task of its own."""

    jobs: list[EvaluationJob]
    started: float
    pack: int | None

    @property
    def holds_slot(self) -> bool:
        """Whether it takes the place of a trial."""
        return self.pack is None and self.jobs[0].needs_machine


class Evaluators:
    """Starts evaluations and collects what they return. Used by the driver's thread alone.

    With packs the adapters that wait are answered for together, by a pack that holds their base; else each is a Ray
    task of its own.

    Args:
        slots: Such a task holds a trial's slot, so that trials do not starve it.
        told: Called with a trial's id and metrics when its evaluation is there, or when there will be none.
        failures: Told of evaluations of trials.
        hopeless: Of a trial that cannot win, whatever it answers; it is not evaluated.
    """

    def __init__(
        self,
        ledger: Ledger,
        arms: Arms,
        slots: Slots,
        told: Callable[[str, Mapping[str, float | None]], None],
        failures: Failures,
        packs: Packs | None = None,
        hopeless: Callable[[TrialState], bool] = lambda trial: False,
    ) -> None:
        self._ledger, self._arms, self._slots, self._told, self._failures = ledger, arms, slots, told, failures
        self._packs, self._hopeless = packs, hopeless
        self._pool: Pool = arms.pool
        self._waiting: list[EvaluationJob] = []
        self._running: dict[Any, _Call] = {}
        self._instrument_read = False
        self._later: set[str] = set()  # jobs that ``run`` was given
        self._lost: Counter[str] = Counter()  # by job: how often its process died

    @property
    def pending(self) -> int:
        """Evaluations that have not come back."""
        return len(self._waiting) + sum(len(call.jobs) for call in self._running.values())

    def start(self, trial: str) -> None:
        """Evaluate a trial's adapter on dev; a trial that is not to be evaluated has its end at once."""
        state = self._ledger.read().trials[trial]
        stopped = state.step < state.max_steps
        if not self._arms.measurable or (stopped and not self._arms.evaluate_stopped) or self._hopeless(state):
            self._told(trial, {})
            self._finish(trial)
            return
        assert state.adapter is not None
        self._read_instrument()
        done = self._arms.evaluation_of(state)
        if done is None:
            self._waiting.append(self._arms.trial_job(trial, "dev"))
            self._fill_slots()
        else:
            self._told(trial, done.metrics)
            self._finish(trial)

    def _read_instrument(self) -> None:
        """With the first evaluation of a session, have the instrument read that it scores with, if it was not yet."""
        if self._instrument_read:
            return
        self._instrument_read = True
        job = self._arms.readings()
        self._waiting += self.missing([job]) if job is not None else []

    def run(self, jobs: list[EvaluationJob], look: Callable[[], None]) -> None:
        """Do these, as many at once as there are slots, and wait for them all; ``look`` is called meanwhile."""
        self._waiting += jobs
        self._later |= {job.id for job in jobs}
        while self.pending:
            self.collect(wait_s=1.0)
            look()

    def _fill_slots(self) -> None:
        for job in [job for job in self._waiting if not job.needs_machine]:
            self._waiting.remove(job)
            self._start_apart(job)  # at once: no model of ours answers
        if self._packs is not None:
            busy = {call.pack for call in self._running.values()}
            free = [place for place in range(len(self._packs.names)) if place not in busy]
            for number, place in enumerate(free):
                share = -(-len(self._waiting) // (len(free) - number))
                jobs, self._waiting = self._waiting[:share], self._waiting[share:]
                if jobs:
                    self._running[self._packs.evaluate(jobs, place)] = _Call(jobs, time.time(), place)
            return
        while self._waiting and self._slots.free > 0:
            self._start_apart(self._waiting.pop(0))

    def _start_apart(self, job: EvaluationJob) -> None:
        """Start an evaluation as a task of its own."""
        if job.needs_machine:
            task = self._remote(evaluate)
        else:
            task = self._elsewhere(read_instrument if job.arm == DEFECTS else evaluate_served)
        call = _Call([job], time.time(), None)
        self._slots.evaluating += call.holds_slot
        self._running[task.remote(job)] = call

    def missing(
        self, jobs: list[EvaluationJob], name: Callable[[EvaluationJob], str] = lambda job: job.id
    ) -> list[EvaluationJob]:
        """The jobs whose result the ledger has not under the name that they give it."""
        have = {evaluation.id for evaluation in self._ledger.read().evaluations()}
        return [job for job in jobs if name(job) not in have]

    def latency_id(self, job: EvaluationJob, latency: Latency) -> str:
        """Names a measurement of latency: it depends on all that an evaluation does, on the pool, and on the load."""
        load = f"{latency.requests}+{latency.warmup}"
        if job.endpoint is not None and latency.rate is not None:
            limits = (f"{stage}{limit}".replace(" ", "") for stage, limit in of_requests(latency.slo).items())
            load = "-".join([f"{load}@{latency.rate:g}", *limits])
        return f"latency-{self._pool.name}-{load}-{job.id}"

    def measure_latency(self, jobs: list[EvaluationJob], latency: Latency, look: Callable[[], None]) -> None:
        """Measure arms one after the other while nothing else runs, and record the results."""
        import ray

        if all(job.endpoint is not None for job in jobs):
            reference = self._elsewhere(measure_served).remote(jobs, latency)
        elif self._packs is not None:
            reference = self._packs.measure(jobs, latency)
        else:
            reference = self._remote(measure).remote(jobs, latency)
        while not ray.wait([reference], timeout=1.0)[0]:
            check_alive()
            look()
        try:
            results = ray.get(reference)
        except ray.exceptions.RayError as error:
            arms = ", ".join(job.arm for job in jobs)
            self._ledger.append("note", text=f"latency of {arms} could not be measured: {_last_line(error)}")
            return
        for job, result in zip(jobs, results, strict=True):
            self._charge("evaluation", job, result["detail"], "latency")
            self._ledger.append("evaluation", **result, id=self.latency_id(job, latency))

    def collect(self, wait_s: float = 0.0) -> None:
        """Record what has come back."""
        self._fill_slots()
        if not self._running:
            return
        check_alive()
        import ray

        ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=wait_s)
        for reference in ready:
            call = self._running.pop(reference)
            self._slots.evaluating -= call.holds_slot
            try:
                results = ray.get(reference)
            except ray.exceptions.RayError as error:
                self._lose(call, error)
                continue
            for job, result in zip(call.jobs, results if call.pack is not None else [results], strict=True):
                if "error" in result:
                    self._failed(job, (time.time() - call.started) / len(call.jobs), result["message"])
                else:
                    self._record(job, result)

    def _record(self, job: EvaluationJob, result: dict[str, Any]) -> None:
        self._charge("evaluation", job, result["detail"])
        self._ledger.append("evaluation", **result, items=f"evaluations/{job.arm}-{job.split}.jsonl")
        if self._awaited(job):
            keep_samples(Path(job.out), self._ledger.folder / "trials" / job.arm)
            self._told(job.arm, result["metrics"])
            self._finish(job.arm)
            self._failures.succeeded(EVALUATION)

    def _awaited(self, job: EvaluationJob) -> bool:
        """Whether a trial's end waits for it. What is measured of the best later on changes no trial's state."""
        return job.split == "dev" and job.of_trial and job.id not in self._later

    def _lose(self, call: _Call, error: Exception) -> None:
        """The evaluations' process died, or the task failed; Ray itself retries tasks, not the calls of a pack."""
        import ray

        died = isinstance(error, ray.exceptions.RayActorError)
        seconds = (time.time() - call.started) / len(call.jobs)
        for job in call.jobs:
            self._lost[job.id] += 1
            if died and self._lost[job.id] <= RETRIES:
                self._charge("retried", job, {"seconds": seconds})
                self._waiting.append(job)
            else:
                self._failed(job, seconds, _last_line(error))

    def abandon(self) -> None:
        """Cancel what has not come back. Its trials stay to be evaluated: the next session does it."""
        import ray

        for reference, call in self._running.items():
            if call.pack is None:
                ray.cancel(reference, force=True)
            self._slots.evaluating -= call.holds_slot
            for job in call.jobs:
                self._charge("retried", job, {"seconds": (time.time() - call.started) / len(call.jobs)})
        self._running.clear()
        self._waiting.clear()

    def _remote(self, function: Any) -> Any:
        import ray

        if self._pool.device == "cpu":
            # Tune keeps the cores of a finished trial for the next one, in an actor that it reuses. ``Slots`` keeps
            # them free for the evaluation, so Ray must not count them a second time.
            return ray.remote(num_cpus=0, max_retries=1)(function)
        return ray.remote(num_cpus=1, num_gpus=1, max_retries=1, label_selector=selector(self._arms.pools))(function)

    def _elsewhere(self, function: Any) -> Any:
        """A task that waits for an answer from elsewhere, and needs nothing of this machine."""
        import ray

        return ray.remote(num_cpus=0, max_retries=1)(function)

    def _finish(self, trial: str) -> None:
        state = self._ledger.read().trials[trial]
        stopped = state.step < state.max_steps
        self._ledger.append("state", trial=trial, state=State.STOPPED if stopped else State.DONE)

    def _failed(self, job: EvaluationJob, seconds: float, message: str) -> None:
        self._charge("failed", job, {"seconds": seconds})
        if self._awaited(job):
            error = f"its evaluation failed: {message}"
            self._ledger.append("state", trial=job.arm, state=State.FAILED, error=error)
            self._told(job.arm, {})
            self._failures.failed(EVALUATION, error)
        else:
            self._ledger.append("note", text=f"evaluating {job.arm} on {job.split} failed: {message}")

    def _charge(self, kind: Kind, job: EvaluationJob, used: Mapping[str, Any], what: str | None = None) -> None:
        """Charge the ``seconds`` of an evaluation, or its ``machine_s`` where no machine was held for all of them."""
        if not job.needs_machine:
            return
        seconds = used.get("machine_s", used["seconds"])
        charge(self._ledger, cost_of(kind, self._pool, seconds, job.arm, what or job.split, used.get("energy_j")))


def _last_line(error: Exception) -> str:
    """What a task's error says, without Ray's traceback."""
    cause = getattr(error, "cause", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
