"""The schema of a sweep YAML. Every block is frozen and refuses keys that it does not know."""

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from sweeps.errors import nearest
from sweeps.grammar import quote
from sweeps.metrics import find_metric

BUILT_IN_METRICS = ("exact_match", "json_schema", "field_f1", "shopping")
BUILT_IN_GATES = (*BUILT_IN_METRICS, "no_gift_card", "safety")
BUILT_IN_DEFECTS = (
    "swapped_gender",
    "gift_card",
    "missing_category",
    "invented_product",
    "broken_json",
    "missing_element",
    "padding",
    "truncation",
)
MAX_TRIALS = 100_000

Mode = Literal["min", "max"]


def broken_rule(rule: str, hint: str = "") -> PydanticCustomError:
    """An error of our own in pydantic's form; ``sweeps.loading`` turns it into a Problem as it is."""
    return PydanticCustomError("podium", "{rule}", {"rule": rule, "hint": hint})


def _empty_block(value: Any) -> Any:
    """A block that is named but left empty has its defaults."""
    return {} if value is None else value


def _as_tuple(value: Any) -> Any:
    """One name is a list of one; lists are held as tuples."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _folder_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        shape = "letters, digits, '-', '_' and '.', at most 64, beginning with a letter or a digit"
        raise broken_rule(f"must be a folder name, but got {quote(value)}", f"use {shape}")
    return value


_UNIT_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}


def _duration_s(value: Any) -> Any:
    """``6h``, ``1h30m``, ``90m``, ``45s`` or a number of seconds, in seconds."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])\s*", value)
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", value):
        raise broken_rule(f"must be a time, but got {quote(value)}", "write 6h, 1h30m, 90m, 45s or a number of seconds")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def _entry(kind: str, built_in: tuple[str, ...]) -> Callable[[str], str]:
    """One of the built-in names, or ``file.py:function``."""

    def check(value: str) -> str:
        path, colon, function = value.rpartition(":")
        if value in built_in or (colon and path.endswith(".py") and function.isidentifier()):
            return value
        hint = nearest(value, built_in) + " or write file.py:function"
        raise broken_rule(f"unknown {kind} {quote(value)}", hint)

    return check


def short_name(entry: str) -> str:
    """What a built-in or a ``file.py:function`` is called in names of metrics: ``gate/polite``."""
    return entry.rpartition(":")[2]


def _unlike(values: tuple[str, ...]) -> tuple[str, ...]:
    """Entries whose short names differ."""
    named: dict[str, str] = {}
    for value in values:
        other = named.setdefault(short_name(value), value)
        if other != value:
            rule = (
                f"must have different names, but {quote(other)} and {quote(value)} are both called {short_name(value)}"
            )
            raise broken_rule(rule, "rename one of the functions")
    return values


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise broken_rule(f"must be a regular expression, but got {quote(value)}: {error}") from None
    return value


def _planted(value: Any) -> Any:
    """A list of defects, or one, is a block that plants them; an empty one plants none."""
    if isinstance(value, str | list):
        return {"plant": value} if value else None
    return value


def _url(value: str) -> str:
    if not re.match(r"https?://[^\s/]+", value):
        raise broken_rule(f"must be a URL, but got {quote(value)}", "for example http://localhost:8000/v1")
    return value


def _day(value: Any) -> Any:
    """YAML reads 2026-11-25 as a date."""
    return value.isoformat() if isinstance(value, datetime.date) else value


def _date(value: str) -> str:
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        raise broken_rule(f"must be a date, but got {quote(value)}", "write it like 2026-11-25") from None
    return value


LEVELS = tuple(str(level) for level in range(6))


def _rubric(value: Any) -> Any:
    """A rubric as text, also where it was written as a task and what each level means."""
    if isinstance(value, Mapping):
        unknown = [str(key) for key in value if key not in ("task", "levels")]
        if unknown:
            raise broken_rule(f"unknown key {quote(unknown[0])}", nearest(unknown[0], ("task", "levels")))
        levels = value.get("levels")
        told = {str(key): text for key, text in levels.items()} if isinstance(levels, Mapping) else {}
        for key in told:
            if key not in LEVELS:
                raise broken_rule(f"levels are from 0 to 5, but got {quote(key)}")
        missing = [key for key in LEVELS if not isinstance(told.get(key), str) or not told[key].strip()]
        if missing:
            which = f"level {missing[0]} is" if len(missing) == 1 else f"levels {', '.join(missing)} are"
            raise broken_rule(f"{which} not described", "say in words what each level from 0 to 5 is")
        task = value.get("task")
        if not isinstance(task, str) or not task.strip():
            raise broken_rule("has levels, but no task", "write task: and what the answers are judged for")
        value = "\n".join([task.strip(), *(f"{key}: {told[key].strip()}" for key in reversed(LEVELS))])
    if isinstance(value, str) and "{{" in value:
        raise broken_rule("a rubric is plain text without {{ }}")  # they would be filled in
    return value


def _as_panel(value: Any) -> Any:
    """A list of judges is a panel."""
    return {"panel": value} if isinstance(value, list) else value


_OURS = ("messages", "model", "response_format", "stream", "n", "tools", "tool_choice")


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    for key, entry in value.items():
        if key in _OURS:
            raise broken_rule(f"{quote(key)} is not a parameter that a judge may have", "temperature, seed, …")
        if not isinstance(entry, str | int | float | bool | None):
            raise broken_rule(f"{quote(key)} must be a plain value")
    return value


def _several(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(value) == 1:
        raise broken_rule("must be two judges or more, but got 1", "one judge is written without panel")
    return value


def _unless_panel(value: Any, info: ValidationInfo) -> Any:
    """A judge needs a model, an endpoint and a rubric; of a panel each member has its own, or all have the block's."""
    name = info.field_name or ""
    panel = info.data.get("panel")
    if value is None and not panel:
        if panel is not None:  # else the panel itself is wrong, and is told
            raise broken_rule("is missing")
    elif panel and name == "model" and value is not None:
        raise broken_rule("must be one of model and panel, but got both", "write each model under panel")
    elif panel and value is None and name != "model":
        without = [member.model for member in panel if getattr(member, name) is None]
        if without:
            raise broken_rule(f"is missing for {', '.join(map(quote, without))}", f"write {name}: for all, or for each")
    return value


def _variable_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        # The value is not quoted: it may be the key itself.
        raise broken_rule("must be the name of an environment variable", "the key itself does not belong in a sweep")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise broken_rule("must not be empty")
    return value


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise broken_rule(f"must not name anything twice, but {quote(value)} is")
    return values


def _better_direction(block: Any) -> Any:
    """A block with the better direction of its metric as ``mode``, where none is written."""
    if not isinstance(block, Mapping) or block.get("mode") is not None:
        return block
    metric = find_metric(str(block.get("metric", "val/loss")))
    direction = metric.direction if metric else "max"  # the user's own metrics are scores
    return {**block, "mode": direction or "min"}


Text = Annotated[str, AfterValidator(_not_empty)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_as_tuple), AfterValidator(_unique)]
Metrics = Annotated[
    tuple[Annotated[str, AfterValidator(_entry("metric", BUILT_IN_METRICS))], ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_unique),
]
Gates = Annotated[
    tuple[Annotated[str, AfterValidator(_entry("gate", BUILT_IN_GATES))], ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_unique),
    AfterValidator(_unlike),
]
Plants = Annotated[
    tuple[Annotated[str, AfterValidator(_entry("defect", BUILT_IN_DEFECTS))], ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_unique),
    AfterValidator(_unlike),
]
Patterns = Annotated[
    tuple[Annotated[Text, AfterValidator(_pattern)], ...], BeforeValidator(_as_tuple), AfterValidator(_unique)
]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0)]
Url = Annotated[str, AfterValidator(_url)]
VariableName = Annotated[str, AfterValidator(_variable_name)]
Rubric = Annotated[Text, BeforeValidator(_rubric)]
Parameters = Annotated[dict[str, Any], AfterValidator(_parameters)]


class Block(BaseModel):
    """What all blocks have in common: no unknown keys, no silent conversions ("20" is no number, true is not 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
    wall_clock: Annotated[Amount | None, BeforeValidator(_duration_s)] = None

    @property
    def wall_clock_s(self) -> float | None:
        """The wall-clock limit in seconds."""
        return self.wall_clock


class TokenPrice(Block):
    """A dated, sourced price of a model's tokens, in US$ for each million."""

    input_usd_per_1m: Annotated[float, Field(ge=0)]
    output_usd_per_1m: Annotated[float, Field(ge=0)]
    source: Text
    date: Annotated[str, BeforeValidator(_day), AfterValidator(_date)]


class Calibration(Block):
    """What a judge must show against people's labels before its scores promote anything.

    Attributes:
        min_kappa: The least quadratic weighted kappa; None asks for none.
    """

    min_kappa: Annotated[float, Field(ge=-1, le=1)] | None = None


class Panelist(Block):
    """One judge of a panel; what it leaves out is as the block around it says."""

    model: Text
    endpoint: Url | None = None
    rubric: Rubric | None = None
    revision: Text | None = None
    parameters: Parameters | None = None
    api_key_env: VariableName | None = None
    price: TokenPrice | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    timeout: Annotated[Amount | None, BeforeValidator(_duration_s)] = None


class Judge(Block):
    """A language model that scores answers by a rubric, behind an OpenAI-compatible endpoint, or a panel of them.

    Attributes:
        rubric: Text; a rubric that was written as a task and its levels is that in words.
        revision: Of the model, where its name does not say it; other revisions give other verdicts.
        parameters: Of each request.
        timeout: Seconds that one request may take; written like ``budget.wall_clock``.
        panel: Two judges or more, in place of ``model``.
    """

    panel: Annotated[tuple[Panelist, ...], BeforeValidator(_as_tuple), AfterValidator(_several)] = ()
    model: Annotated[Text | None, AfterValidator(_unless_panel)] = Field(default=None, validate_default=True)
    endpoint: Annotated[Url | None, AfterValidator(_unless_panel)] = Field(default=None, validate_default=True)
    rubric: Annotated[Rubric | None, AfterValidator(_unless_panel)] = Field(default=None, validate_default=True)
    revision: Text | None = None
    parameters: Parameters = Field(default_factory=lambda: {"temperature": 0.0})
    api_key_env: VariableName | None = None
    price: TokenPrice | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    timeout: Annotated[Amount, BeforeValidator(_duration_s)] = 60.0
    calibration: Annotated[Calibration, BeforeValidator(_empty_block)] = Calibration()


class Defects(Block):
    """Defects that are planted in right answers, to see whether what scores the answers finds them.

    Scores count in levels from 0 to 5; a share from 0 to 1 is taken times five.

    Attributes:
        plant: Built-in names and ``file.py:function`` entries, ``(row, answer) -> str | None``.
        rows: Rows of the dev split that they are planted in. A judge is paid for each, once a sweep.
        drop: How far below the clean answer's score a planted one's must lie to count as found.
        clean: A clean answer with a lower score than this is a false alarm.
        detected: The share of each defect that should be found.
        false_alarms: The most false alarms, as a share, that there should be.
    """

    plant: Annotated[Plants, Field(min_length=1)] = BUILT_IN_DEFECTS
    rows: Count = 100
    drop: Annotated[float, Field(gt=0, le=5)] = 1.0
    clean: Annotated[float, Field(gt=0, le=5)] = 5.0
    detected: Annotated[float, Field(ge=0, le=1)] = 0.95
    false_alarms: Annotated[float, Field(ge=0, le=1)] = 0.02


class Prompt(Block):
    """What an arm is asked with, where that is not what the rows say.

    Attributes:
        system: Takes the place of the rows' system prompt; empty leaves it out.
    """

    system: str


class Incumbent(Block):
    """What runs in production today: an arm like the base and the trials.

    Attributes:
        name: What people call it.
        endpoint: An OpenAI-compatible endpoint that serves ``model``.
        adapter: A PEFT folder or a bundle, local or ``s3://``, on ``model``; without one, on the sweep's own base.
        model: The model's name at the endpoint; else a folder or an id on the hub, loaded as the sweep's base is.
        revision: Of the model. At an endpoint any word: another one says that another model answers there.
        dtype: Of the weights of ``model``, as in a recipe's ``base``; ``attention`` and ``quantize`` likewise.
        prompt: What production asks with.
        api_key_env: As of a judge; ``concurrency`` and ``timeout`` too.
    """

    name: Text | None = None
    endpoint: Annotated[str, AfterValidator(_url)] | None = None
    adapter: Text | None = None
    model: Text | None = None
    revision: Text | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    quantize: Literal["nf4"] | None = None
    prompt: Prompt | None = None
    api_key_env: Annotated[str, AfterValidator(_variable_name)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    timeout: Annotated[Amount, BeforeValidator(_duration_s)] = 60.0

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.endpoint and self.adapter:
            raise broken_rule(
                "must have one of endpoint and adapter, but got both", "an endpoint needs model beside it"
            )
        if self.endpoint and not self.model:
            raise broken_rule("an endpoint needs the name of the model that it serves", "write model: <name> beside it")
        if not (self.endpoint or self.adapter or self.model):
            raise broken_rule("must have one of endpoint, adapter and model, but got none of them")
        of_endpoint, of_model = ("api_key_env", "concurrency", "timeout"), ("dtype", "attention", "quantize")
        without_model = (*of_endpoint, "revision", *of_model)
        idle: tuple[str, ...] = of_model if self.endpoint else of_endpoint if self.model else without_model
        for key in idle:
            if getattr(self, key) != type(self).model_fields[key].default:
                of = "an endpoint" if key in of_endpoint else "a model that is loaded here"
                raise broken_rule(f"{key} belongs to {of}, and there is none", "leave it out")
        return self


class Evaluate(Block):
    """What is measured of an adapter.

    Attributes:
        dev: Rows of the dev split to use; None for all. ``challenge`` likewise.
        metrics: Built-in names and ``file.py:function`` entries.
        json_schema: Path of a JSON schema; the key in the YAML is ``schema``.
        gates: What an answer must get past before a judge is asked; an answer that does not scores 0.
        forbidden: Regular expressions that the gate ``safety`` looks for.
        defects: What is planted in right answers; None for nothing.
        max_missing: The most of one metric's values, as a share, that may be missing of an arm.
        latency_top: How many of the best trials have their latency measured.
        latency_requests: Requests that are timed for each; a percentile that needs more stays null.
        stopped: Whether trials that were stopped early are evaluated too.
        incumbent: What the trials are compared with, beside their base.
    """

    dev: Count | None = None
    challenge: Count | None = None
    metrics: Metrics = ()
    json_schema: Text | None = Field(default=None, alias="schema")
    judge: Annotated[Judge | None, BeforeValidator(_as_panel)] = None
    gates: Gates = ()
    forbidden: Patterns = ()
    defects: Annotated[Defects | None, BeforeValidator(_planted)] = Defects()
    max_missing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    latency_top: Annotated[int, Field(ge=0)] = 3
    latency_requests: Annotated[int, Field(ge=0)] = 100
    stopped: bool = True
    incumbent: Incumbent | None = None

    @model_validator(mode="after")
    def _incumbent_is_scored(self) -> Self:
        if self.incumbent is not None and not (self.metrics or self.judge):
            way = "name metrics or a judge under evaluate"
            raise broken_rule("an incumbent is compared by its answers, and nothing scores them", way)
        return self

    @model_validator(mode="after")
    def _gates_have_what_they_need(self) -> Self:
        if self.gates and not self.metrics and self.judge is None:
            rule = f"gates come before scores, but nothing scores: got {quote(', '.join(self.gates))} alone"
            raise broken_rule(rule, "add metrics, or a judge")
        if "safety" in self.gates and not self.forbidden:
            raise broken_rule("gate safety needs patterns", "add forbidden: [<regular expression>, …]")
        if self.forbidden and "safety" not in self.gates:
            raise broken_rule("forbidden patterns are looked for by gate safety, which is not there", "add it to gates")
        return self

    @property
    def functions(self) -> tuple[str, ...]:
        """The user's own ``file.py:function`` metrics."""
        return tuple(entry for entry in self.metrics if entry not in BUILT_IN_METRICS)

    @property
    def own_gates(self) -> tuple[str, ...]:
        """The user's own ``file.py:function`` gates."""
        return tuple(entry for entry in self.gates if entry not in BUILT_IN_GATES)

    @property
    def own_defects(self) -> tuple[str, ...]:
        """The user's own ``file.py:function`` defects."""
        return tuple(entry for entry in (self.defects.plant if self.defects else ()) if entry not in BUILT_IN_DEFECTS)


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
    subject_to: Annotated[dict[str, Bound], BeforeValidator(_empty_block)] = Field(default_factory=dict)
    contenders: Contenders | None = None
    confirm: Annotated[Confirm, BeforeValidator(_empty_block)] = Confirm()
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
    """

    name: Annotated[str, AfterValidator(_folder_name)]
    recipe: Text
    set: Annotated[dict[str, Any], BeforeValidator(_empty_block)] = Field(default_factory=dict)
    pools: Annotated[Names, Field(min_length=1)] = ("cpu",)
    space: Annotated[dict[str, Any], Field(min_length=1)]
    search: Annotated[Search, BeforeValidator(_empty_block)] = Search()
    stop_early: StopEarly | None = None
    budget: Annotated[Budget, BeforeValidator(_empty_block)] = Budget()
    evaluate: Annotated[Evaluate, BeforeValidator(_empty_block)] = Evaluate()
    champion: Annotated[Champion, BeforeValidator(_empty_block)] = Champion()
    export: Annotated[Export, BeforeValidator(_empty_block)] = Export()
    retries: Annotated[int, Field(ge=0, le=100)] = 1
    give_up_after: Count = 3
    concurrency: Count | None = None

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
        evaluate = self.evaluate
        if evaluate.judge is not None or "shopping" in evaluate.metrics or evaluate.functions:
            return "quality/score", "max"
        for name in ("field_f1", "exact_match"):
            if name in evaluate.metrics:
                return f"quality/{name}", "max"
        return "val/loss", "min"
