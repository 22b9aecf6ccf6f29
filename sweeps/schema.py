"""The schema of a sweep YAML. Every block is frozen and refuses keys that it does not know."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from sweeps.evaluating import Evaluate
from sweeps.fields import Amount, Block, Count, Mode, Names, Text, broken_rule, duration_s, empty_block
from sweeps.grammar import quote
from sweeps.metrics import find_metric
from sweeps.pricing import Traffic
from sweeps.serving import Serving

MAX_TRIALS = 100_000


def _folder_name(value: str, info: ValidationInfo) -> str:
    name = value
    if (info.context or {}).get("of_stage"):  # of an earlier stage: <sweep>/<stage>
        name = value.partition("/")[0]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        shape = "letters, digits, '-', '_' and '.', at most 64, beginning with a letter or a digit"
        raise broken_rule(f"must be a folder name, but got {quote(value)}", f"use {shape}")
    return value


def _better_direction(block: Any) -> Any:
    """A block with the better direction of its metric as ``mode``, where none is written."""
    if not isinstance(block, Mapping) or block.get("mode") is not None:
        return block
    metric = find_metric(str(block.get("metric", "val/loss")))
    direction = metric.direction if metric else "max"  # the user's own metrics are scores
    return {**block, "mode": direction or "min"}


def _directions(value: Any) -> Any:
    """Several metrics to search by, each with its direction."""
    if value == {}:
        return value
    names = list(value) if isinstance(value, list | Mapping) else []
    if isinstance(value, Mapping) and all(mode in ("min", "max") for mode in value.values()):
        if len(names) < 2:
            way = f"write metric: {names[0]}, or name another" if names else "write metric: val/loss"
            raise broken_rule(f"must be two metrics or more, but got {len(names)}", way)
        return dict(value)
    known = [(str(name), find_metric(str(name))) for name in names]
    sides = ", ".join(f"{name}: {(metric and metric.direction) or 'max'}" for name, metric in known)
    wrong = (
        next((name for name in value if value[name] not in ("min", "max")), "") if isinstance(value, Mapping) else ""
    )
    got = f"{quote(value[wrong])} for {wrong}" if wrong else "a list" if names else quote(value)
    way = sides or "quality/score: max, cost/usd: min"
    raise broken_rule(f"must say min or max for each metric, but got {got}", f"write {{{way}}}")


class Search(Block):
    """How points are chosen.

    Attributes:
        trials: Distinct points; each is trained ``seeds`` times.
        start_at: ``default`` makes the recipe's own values trial 0.
        mode: As the metric's better direction where it is not given.
        metrics: Several metrics with their directions, in place of ``metric`` and ``mode``: ``nsga2`` looks for the
            trials that none beats in all of them.
    """

    algorithm: Literal["grid", "random", "tpe", "nsga2"] = "tpe"
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] = 20
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    start_at: Literal["default"] | None = "default"
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    metric: Text = "val/loss"
    mode: Mode = "min"
    metrics: Annotated[dict[str, Mode], BeforeValidator(_directions)] = Field(default_factory=dict)

    _fill_mode = model_validator(mode="before")(_better_direction)

    @model_validator(mode="after")
    def _several_need_nsga2(self) -> Self:
        if self.metrics and self.algorithm != "nsga2":
            way = "write algorithm: nsga2, or one metric"
            raise broken_rule(f"several metrics need algorithm nsga2, but got {self.algorithm}", way)
        return self

    @property
    def num_trials(self) -> int:
        """Trials of as many points as are asked for, each with all its repeats."""
        return self.trials * self.seeds

    @property
    def objectives(self) -> dict[str, Mode]:
        """What the search goes by, with the side that is looked for: several metrics, or one."""
        return dict(self.metrics) or {self.metric: self.mode}


class StopEarly(Block):
    """Successive halving: the further a trial is, the fewer of those that started may be ahead of it.

    Attributes:
        algorithm: ``continuous`` decides at every report from the first rung on, see ``sweeps.stopping``; ``asha``,
            which is Ray's, at rungs a factor ``reduction`` apart.
        grace: The first rung, as a share of a trial's steps.
        reduction: At the first rung the best 1/``reduction`` of the trials go on.
        constraints: Whether trials end that can no longer keep a constraint of the champion, see
            ``sweeps.constraints``.
    """

    algorithm: Literal["continuous", "asha", "none"] = "continuous"
    metric: Text = "val/loss"
    mode: Mode = "min"
    grace: Annotated[float, Field(gt=0, le=1)] = 0.1
    reduction: Annotated[float, Field(gt=1)] = 3
    constraints: bool = True

    _fill_mode = model_validator(mode="before")(_better_direction)

    @property
    def direction(self) -> Mode:
        """The side of the metric that is looked for."""
        return self.mode


class Budget(Block):
    """Where work stops. On CPU pools ``gpu_hours`` are core-hours."""

    gpu_hours: Amount | None = None
    usd: Amount | None = None
    wall_clock: Annotated[Amount | None, BeforeValidator(duration_s)] = None

    @property
    def wall_clock_s(self) -> float | None:
        """The wall-clock limit in seconds."""
        return self.wall_clock


class Bound(Block):
    """One side of a constraint, written ``"< 2.0"``."""

    op: Literal["<", "<=", ">", ">="]
    bound: float

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return value
        match = re.fullmatch(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", str(value))
        if match is None:
            hint = 'write an operator and a number in quotes: "< 2.0", with <, <=, > or >='
            raise broken_rule(f"must be a bound, but got {quote(value)}", hint)
        return {"op": match[1], "bound": float(match[2])}


class Constraint(Block):
    """What a champion must keep to: ``latency/agent_p95_s < 2.0``."""

    metric: str
    op: Literal["<", "<=", ">", ">="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether a measured value keeps to it."""
        match self.op:
            case "<":
                return value < self.bound
            case "<=":
                return value <= self.bound
            case ">":
                return value > self.bound
            case ">=":
                return value >= self.bound

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {self.bound:g}"


class Confirm(Block):
    """How the choice is confirmed on the sealed challenge set.

    Attributes:
        top: So many of the best are read on it; 0 leaves it sealed, and the choice to dev.
        alpha: How often a champion may be named who is none: familywise, two-sided.
    """

    top: Annotated[int, Field(ge=0)] = 3
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Contenders(Block):
    """Sequential halving: the best are judged on more dev items, fewer and fewer of them, before they are confirmed.

    Attributes:
        start: So many of the best go on from the items that all trials are judged on, ``evaluate.dev``.
        items: So many items the last ones are judged on.
    """

    start: Annotated[int, Field(ge=2)] = 8
    items: Count


class Champion(Block):
    """Who wins: the best by one metric among those that keep to every constraint.

    Attributes:
        cross_check: An engine that trains the champion's trial once more; the agreement goes into its certificate.
    """

    maximize: Text | None = None
    minimize: Text | None = None
    subject_to: Annotated[dict[str, Bound], BeforeValidator(empty_block)] = Field(default_factory=dict)
    contenders: Contenders | None = None
    confirm: Annotated[Confirm, BeforeValidator(empty_block)] = Confirm()
    cross_check: Literal["nemo"] | None = None

    @model_validator(mode="after")
    def _one_objective(self) -> Self:
        if self.maximize is not None and self.minimize is not None:
            raise broken_rule("must have one of maximize and minimize, but got both", "constraints go under subject_to")
        return self

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """``subject_to`` as constraints, in the order they are written."""
        return tuple(Constraint(metric=name, op=limit.op, bound=limit.bound) for name, limit in self.subject_to.items())


class Export(Block):
    """Where the champion goes.

    Attributes:
        to: A folder or an s3:// URL; None for ``champions/<sweep>`` in Podium's home.
        merge: Whether the base with the adapter folded in goes along.
        keep: How many of the best trials beside the champion go along, each as a bundle of its own.
    """

    to: Text | None = None
    merge: bool = False
    keep: Annotated[int, Field(ge=0)] = 0


class SweepSpec(Block):
    """A whole sweep as it is written.

    ``set`` and ``space`` hold what the YAML says; :func:`sweeps.spec.resolve` compares them with the recipe.

    Attributes:
        retries: How often a failed trial is tried again, each time from its last checkpoint.
        give_up_after: The sweep stops itself when this many trials in a row fail the same way.
        concurrency: The most trials at once; None for as many as the machines hold.
        prices: A price list of one's own, see ``launchers.prices``.
        traffic: What the champion is to serve; None for no dollars of serving.
    """

    name: Annotated[str, AfterValidator(_folder_name)]
    recipe: Text
    set: Annotated[dict[str, Any], BeforeValidator(empty_block)] = Field(default_factory=dict)
    pools: Annotated[Names, Field(min_length=1)] = ("cpu",)
    space: Annotated[dict[str, Any], Field(min_length=1)]
    search: Annotated[Search, BeforeValidator(empty_block)] = Search()
    stop_early: StopEarly | None = None
    budget: Annotated[Budget, BeforeValidator(empty_block)] = Budget()
    evaluate: Annotated[Evaluate, BeforeValidator(empty_block)] = Evaluate()
    champion: Annotated[Champion, BeforeValidator(empty_block)] = Champion()
    serving: Annotated[Serving, BeforeValidator(empty_block)] = Serving()
    export: Annotated[Export, BeforeValidator(empty_block)] = Export()
    retries: Annotated[int, Field(ge=0, le=100)] = 1
    give_up_after: Count = 3
    concurrency: Count | None = None
    prices: Text | None = None
    traffic: Traffic | None = None

    @property
    def early_stopping(self) -> StopEarly | None:
        """``stop_early``, if it stops trials that fall behind."""
        return self.stop_early if self.stop_early is not None and self.stop_early.algorithm != "none" else None

    @property
    def enforced(self) -> tuple[Constraint, ...]:
        """The champion's constraints, if trials end early that can no longer keep them."""
        return self.champion.constraints if self.stop_early is not None and self.stop_early.constraints else ()

    @property
    def objective(self) -> tuple[str, Mode]:
        """The champion's metric and direction: as written, else what is evaluated, else the validation loss."""
        if self.champion.maximize is not None:
            return self.champion.maximize, "max"
        if self.champion.minimize is not None:
            return self.champion.minimize, "min"
        if self.evaluate.objective is not None:
            return self.evaluate.objective, "max"
        return "val/loss", "min"
