"""What a ledger tells of a sweep: its versions and sessions, its trials, their evaluations, and what was spent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from sweeps.facts import Pool

BASE, BASE_SCHEMA, INCUMBENT = "base", "base+schema", "incumbent"  # the arms that are no trials
GUIDED, FREE = "+schema", "+free"  # after an arm's name: answered in another way than it was measured in
DEFECTS = "defects"  # stands where an arm does, for the readings of what scores the arms


class State(StrEnum):
    """Where a trial stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    EVALUATING = "EVALUATING"
    DONE = "DONE"
    STOPPED = "STOPPED"
    PAUSED = "PAUSED"
    FAILED = "FAILED"
    PREEMPTED = "PREEMPTED"


@dataclass
class Evaluation:
    """The result of one evaluation task of one arm on one split."""

    id: str
    arm: str  # a trial's id, or one of those above
    split: str  # "dev", "challenge", "latency", or "serving": what the latency comes to in dollars
    n: int
    metrics: dict[str, float | None]
    items: str | None = None  # JSONL of the answers and their scores, relative to the run folder
    # Judge, data hash, sample sizes: whatever explains the numbers.
    detail: dict[str, Any] = field(default_factory=dict)
    stage: str | None = None  # the earlier one that has made and paid for it; None for what this ledger's sweep made


@dataclass
class TrialState:
    """Everything the ledger knows of one trial."""

    id: str
    number: int
    values: dict[str, Any]  # every swept key by its path
    pool: str
    state: State = State.PENDING
    step: int = 0
    max_steps: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)  # {"step": …, "t": …, "train/loss": …, "val/loss": …}
    adapter: str | None = None  # folder, relative to the run folder
    error: str | None = None
    reason: str | None = None  # why it was stopped
    halted: bool = False  # stopped with the whole sweep, and can go on from its checkpoint
    started: float | None = None  # epoch seconds
    running_since: float | None = None  # of the present attempt, while it runs
    ended: float | None = None
    repeat: int = 0  # of its point, see ``search.seeds``
    version: int = 1  # of the sweep that drew it first
    known: dict[str, float] = field(default_factory=dict)  # metrics that its settings alone decide
    evaluations: list[Evaluation] = field(default_factory=list)  # the latest of each split
    superseded: list[Evaluation] = field(default_factory=list)  # those that a later one of the same split replaced
    stage: str | None = None  # of the sweep, in which it was trained; None for the present one
    stage_number: int = 0  # its number there; here a trial of another stage has one below 0
    spent: dict[str, float] = field(default_factory=dict)  # what it cost there, by the design's names

    @property
    def own_number(self) -> int:
        """Its number in the stage that trained it, which is the one that people are shown."""
        return self.number if self.stage is None else self.stage_number

    @property
    def label(self) -> str:
        """What people call it: ``trial 3``, or ``trial 3 of sft`` where that stage has trained it."""
        return f"trial {self.own_number}" + (f" of {self.stage}" if self.stage is not None else "")

    @property
    def title(self) -> str:
        """Its label at the beginning of a sentence."""
        return self.label[0].upper() + self.label[1:]

    @property
    def metrics(self) -> dict[str, float | None]:
        """What its settings decide, its last reports, its dev evaluation and latency, by the design's names."""
        merged: dict[str, float | None] = {**self.known}
        for report in self.reports:
            merged.update({key: value for key, value in report.items() if "/" in key})
        for evaluation in self.evaluations:
            if evaluation.split != "challenge":
                merged.update(evaluation.metrics)
        return merged


def meant(trials: Iterable[TrialState], word: str) -> list[TrialState]:
    """The trials that people name so: by id, by number, or by the beginning of the id, whatever comes first.

    Numbers are of this stage: a start, which another one has trained, has none here.
    """
    every = list(trials)
    found = [one for one in every if one.id == word]
    found = found or [one for one in every if one.stage is None and str(one.number) == word]
    return found or [one for one in every if word and one.id.startswith(word)]


@dataclass
class CostEntry:
    """Seconds of one unit (a core or a GPU) spent on one thing.

    Attributes:
        kind: One of ``tracking.meters.cost.KINDS``.
        trial: Its id, or the name of another arm; None for idle units.
        what: More closely: the split of an evaluation, "cross-check", the part of a session in which units were idle.
        energy_j: Of the units, in joules; None where it was not measured.
        session: In which it was spent, counted from 1.
    """

    kind: str
    pool: str
    unit_s: float
    usd: float
    trial: str | None = None
    what: str | None = None
    energy_j: float | None = None
    session: int = 0


@dataclass(frozen=True)
class Version:
    """One YAML of a sweep: the first, and each changed one that was submitted under the same name."""

    number: int
    t: float
    changes: tuple[str, ...] = ()  # against the version before, in words


@dataclass
class Session:
    """One driver's time with a sweep, from its start to its end. A driver that was killed left no end."""

    began: float
    version: int
    host: str
    pid: int
    last: float  # when the driver was last heard of
    ended: float | None = None
    status: str | None = None
    reason: str | None = None
    units: dict[str, int] = field(default_factory=dict)  # GPUs or cores that it held, by pool

    @property
    def seconds(self) -> float:
        """Its wall clock, to its end or to when its driver was last heard of."""
        return (self.ended or self.last) - self.began


@dataclass
class SweepState:
    """A sweep as its ledger tells it.

    ``spec``, ``recipe``, ``facts`` are the dictionaries of the present version. ``trials`` are the points of that
    version; ``history`` holds the trials of earlier versions that it has not.
    """

    name: str
    folder: Path
    started: float
    spec: dict[str, Any]
    recipe: dict[str, Any]
    facts: dict[str, Any]
    trials: dict[str, TrialState] = field(default_factory=dict)
    history: dict[str, TrialState] = field(default_factory=dict)
    versions: list[Version] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    arms: dict[str, list[Evaluation]] = field(default_factory=dict)  # those that are no trials, by name
    superseded: dict[str, list[Evaluation]] = field(default_factory=dict)  # of those arms
    costs: list[CostEntry] = field(default_factory=list)
    challenge_reads: list[dict[str, Any]] = field(default_factory=list)  # each with the rule that was frozen before it
    champion: dict[str, Any] | None = None
    cross_checks: dict[str, dict[str, Any]] = field(default_factory=dict)  # by trial: it again on another engine
    exports: list[dict[str, Any]] = field(default_factory=list)
    mlflow: dict[str, Any] = field(default_factory=dict)  # tracking_uri, experiment_id, parent run id
    notes: list[str] = field(default_factory=list)  # what went wrong beside the trials
    status: str = "RUNNING"  # or DONE, STOPPED, BUDGET, PAUSED, INTERRUPTED, FAILED
    reason: str | None = None
    ended: float | None = None
    code: int = 0  # the exit code of the driver that ended it

    @property
    def version(self) -> int:
        """The number of the present version, from 1."""
        return len(self.versions)

    @property
    def drawn(self) -> dict[str, TrialState]:
        """The trials that this sweep has drawn itself, without those of an earlier stage that it starts from."""
        return {key: trial for key, trial in self.trials.items() if trial.stage is None}

    @property
    def starts(self) -> dict[str, TrialState]:
        """The trials of an earlier stage that this one starts from, the best first: they compete with its own."""
        found = [trial for trial in self.trials.values() if trial.stage is not None]
        return {trial.id: trial for trial in sorted(found, key=lambda trial: -trial.number)}

    @property
    def every_trial(self) -> dict[str, TrialState]:
        """The trials of all versions, by id, in the order of their numbers."""
        both = {**self.history, **self.trials}
        return dict(sorted(both.items(), key=lambda entry: entry[1].number))

    @property
    def pools(self) -> list[Pool]:
        """What the sweep runs on, with the prices that it was submitted with."""
        return [Pool.model_validate(pool) for pool in self.facts.get("pools", {}).values()]

    def evaluations_of(self, arm: str) -> list[Evaluation]:
        """The present evaluations of a trial of this version, or of an arm that is none."""
        return self.trials[arm].evaluations if arm in self.trials else self.arms.get(arm, [])

    def evaluations(self) -> Iterator[Evaluation]:
        """Every evaluation: those of trials, then those of the other arms."""
        for trial in self.trials.values():
            yield from trial.evaluations
        for evaluations in self.arms.values():
            yield from evaluations
