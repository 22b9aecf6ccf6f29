"""The block of a sweep YAML that says how answers are measured."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sweeps.errors import nearest
from sweeps.fields import (
    Amount,
    Block,
    Count,
    Text,
    _url,
    _variable_name,
    as_tuple,
    broken_rule,
    duration_s,
    empty_block,
    unique,
)
from sweeps.grammar import quote
from sweeps.judging import Judge, as_panel
from sweeps.latency import Latency
from sweeps.pricing import TokenPrice
from sweeps.retrieving import Pipeline, as_pipeline

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


Metrics = Annotated[
    tuple[Annotated[str, AfterValidator(_entry("metric", BUILT_IN_METRICS))], ...],
    BeforeValidator(as_tuple),
    AfterValidator(unique),
]

Gates = Annotated[
    tuple[Annotated[str, AfterValidator(_entry("gate", BUILT_IN_GATES))], ...],
    BeforeValidator(as_tuple),
    AfterValidator(unique),
    AfterValidator(_unlike),
]

Plants = Annotated[
    tuple[Annotated[str, AfterValidator(_entry("defect", BUILT_IN_DEFECTS))], ...],
    BeforeValidator(as_tuple),
    AfterValidator(unique),
    AfterValidator(_unlike),
]

Patterns = Annotated[
    tuple[Annotated[Text, AfterValidator(_pattern)], ...], BeforeValidator(as_tuple), AfterValidator(unique)
]


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
        api_key_env: As of a judge; ``concurrency``, ``timeout`` and ``price`` too.
        guided: Its answers are forced into ``evaluate.schema``; at an endpoint by ``response_format``.
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
    timeout: Annotated[Amount, BeforeValidator(duration_s)] = 60.0
    price: TokenPrice | None = None
    guided: bool = False

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
        of_endpoint, of_model = ("api_key_env", "concurrency", "timeout", "price"), ("dtype", "attention", "quantize")
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
        pipeline: How products are found by an answer, which gives ``retrieval/*`` and ``e2e/*``.
        latency: How latency is measured.
        stopped: Whether trials that were stopped early are evaluated too.
        incumbent: What the trials are compared with, beside their base.
    """

    dev: Count | None = None
    challenge: Count | None = None
    metrics: Metrics = ()
    json_schema: Text | None = Field(default=None, alias="schema")
    judge: Annotated[Judge | None, BeforeValidator(as_panel)] = None
    gates: Gates = ()
    forbidden: Patterns = ()
    defects: Annotated[Defects | None, BeforeValidator(_planted)] = Defects()
    max_missing: Annotated[float, Field(ge=0, lt=1)] = 0.05
    pipeline: Annotated[Pipeline | None, BeforeValidator(as_pipeline)] = None
    latency: Annotated[Latency, BeforeValidator(empty_block)] = Latency()
    stopped: bool = True
    incumbent: Incumbent | None = None

    @model_validator(mode="after")
    def _incumbent_is_scored(self) -> Self:
        if self.incumbent is not None and not self.scores:
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
    def scores(self) -> bool:
        """Whether anything scores answers."""
        return bool(self.metrics or self.judge or self.pipeline)

    @property
    def objective(self) -> str | None:
        """The score that a champion is chosen by where the sweep names none; None where nothing gives one."""
        if self.judge is not None or "shopping" in self.metrics or self.functions:
            return "quality/score"
        for name in ("field_f1", "exact_match"):
            if name in self.metrics:
                return f"quality/{name}"
        return "e2e/score" if self.pipeline is not None else None

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
