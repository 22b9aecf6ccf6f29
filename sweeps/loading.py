"""From a sweep YAML to a :class:`~sweeps.schema.SweepSpec`, with everything that is wrong told at once and in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.evaluating import BUILT_IN_METRICS
from sweeps.grammar import format_value, quote
from sweeps.metrics import BY_NAME, NAMES, SERVING, find_metric, unmeasured
from sweeps.schema import SweepSpec
from sweeps.source import Source, place, read_source
from sweeps.space import read_entry
from sweeps.values import canonical

_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class LoadedSpec:
    """A sweep YAML that was read, with whatever is wrong in it so far.

    Attributes:
        source: The text, its values and their lines.
        problems: Everything that can be seen without knowing the recipe and the pools.
        spec: None where ``problems`` are of the schema.
    """

    source: Source
    problems: tuple[Problem, ...]
    spec: SweepSpec | None

    @property
    def recipe(self) -> str | None:
        """The recipe's name, also where other parts of the sweep are wrong."""
        name = self.source.values.get("recipe")
        return name if isinstance(name, str) and name else None

    @property
    def set(self) -> dict[str, Any]:
        """The ``set`` block as it is written."""
        return self.source.block("set")

    def problem(self, parts: Sequence[str | int], rule: str, hint: str = "") -> Problem:
        """A problem at a path of this sweep, with its line."""
        return self.source.problem(parts, rule, hint)

    def error(self, *more: Problem) -> InvalidInput:
        """All problems, with some that the caller found, as one error to raise."""
        problems = sorted((*self.problems, *more), key=lambda problem: problem.line or 0)
        return InvalidInput(dict.fromkeys(problems), source=self.source.name)


def load_spec(path: Path, overrides: Sequence[str] = ()) -> LoadedSpec:
    """Read a sweep YAML that must be right.

    Args:
        path: The YAML file.
        overrides: ``key=value`` texts that are put on top of it.

    Raises:
        InvalidInput: With every problem that can be seen without the recipe.
    """
    loaded = read_spec(path, overrides)
    if loaded.problems:
        raise loaded.error()
    return loaded


def read_spec(path: Path, overrides: Sequence[str] = ()) -> LoadedSpec:
    """Read a sweep YAML and keep what is wrong, so that :func:`~sweeps.spec.resolve` can tell it with the rest.

    Raises:
        InvalidInput: The file cannot be read at all.
    """
    return check_source(read_source(path, overrides))


def check_source(source: Source) -> LoadedSpec:
    """Hold a source against the schema, the grammar of the space and the names of the metrics."""
    problems = list(source.problems)
    spec: SweepSpec | None = None
    try:
        spec = SweepSpec.model_validate(source.values, context={"of_stage": bool(source.within)})
    except ValidationError as error:
        problems += explain(error, source)

    def report(path: _Path, rule: str, hint: str = "") -> None:
        problems.append(source.problem(path, rule, hint))

    for key, value in source.block("space").items():
        read_entry(key, value, report)
    problems += _check_metrics(source)
    if spec is not None:
        problems += _check_bounds(spec, source)
        problems += _check_serving(spec, source)
        problems += _check_search(spec, source)
    return LoadedSpec(source, tuple(dict.fromkeys(problems)), spec)


# Metric names, which depend on the sweep's own functions --------------------------------------------------------------


def _check_metrics(source: Source) -> Iterator[Problem]:
    evaluate = source.block("evaluate")
    entries, gates = _texts(evaluate.get("metrics")), _texts(evaluate.get("gates"))
    functions = [entry for entry in entries if entry not in BUILT_IN_METRICS]
    if "json_schema" in entries and not evaluate.get("schema"):
        yield source.problem(("evaluate", "metrics"), "json_schema needs a schema", "add schema: <path> under evaluate")
    for path, name, mode in _metrics_written(source):
        metric = find_metric(name, functions, gates)
        if metric is None:
            yield source.problem(path, f"unknown metric {quote(name)}", nearest(name, NAMES))
        elif path[0] == "stop_early" and not metric.while_training:
            rule = f"must be measured while a trial trains, but {quote(name)} is measured afterwards"
            yield source.problem(path, rule, "valid: val/loss, train/loss")
        elif path[-1] in ("maximize", "minimize") and metric.direction not in (None, mode):
            other = "minimize" if mode == "max" else "maximize"
            better = "lower" if metric.direction == "min" else "higher"
            yield source.problem(path, f"{name} is better when {better}", f"write {other}: {name}")
        elif path[0] in ("search", "stop_early") and mode is not None and metric.direction not in (None, mode):
            better = "lower" if metric.direction == "min" else "higher"
            one = path[-1] == "metric"
            rule = f'{"mode " if one else ""}"{mode}" is the worse side of {name}: {better} is better'
            way = f"write {'mode' if one else name}: {metric.direction}"
            yield source.problem((path[0], "mode") if one else path, rule, way)


def _texts(written: Any) -> list[str]:
    """The texts of a list, or the one that stands in its place."""
    values = [written] if isinstance(written, str) else written if isinstance(written, list) else []
    return [value for value in values if isinstance(value, str)]


def _check_bounds(spec: SweepSpec, source: Source) -> Iterator[Problem]:
    """Constraints that no trial could keep to, whatever comes out: ``quality/json_valid: ">= 95"``."""
    for constraint in spec.champion.constraints:
        metric = BY_NAME.get(constraint.metric)
        if found := spec.evaluate.latency.never_measured(constraint.metric):
            yield source.problem(
                ("champion", "subject_to", constraint.metric), f"{constraint.metric} {found[0]}", found[1]
            )
        if metric is None or any(map(constraint.holds, metric.range)):
            continue
        low, high = metric.range
        limits = f"is from {low:g} to {high:g}" if high < math.inf else f"is never below {low:g}"
        rule = f"{metric.name} {limits}, so nothing keeps to {constraint.op} {constraint.bound:g}"
        hint = "95 % is written 0.95" if high == 1 else ""
        yield source.problem(("champion", "subject_to", metric.name), rule, hint)


def _check_serving(spec: SweepSpec, source: Source) -> Iterator[Problem]:
    """Dollars of serving that the champion goes by, where the sweep does not say what is to be served."""
    champion = spec.champion
    goes_by: list[tuple[_Path, str | None]]
    goes_by = [(("champion", key), getattr(champion, key)) for key in ("maximize", "minimize")]
    goes_by += [(("champion", "subject_to", one.metric), one.metric) for one in champion.constraints]
    for path, name in goes_by if spec.traffic is None else ():
        if name in SERVING:
            way = "add traffic: {peak_rps: 50, mean_rps: 20} with your own rates"
            yield source.problem(path, f"{name} is of a stated traffic, and the sweep states none", way)


def _check_search(spec: SweepSpec, source: Source) -> Iterator[Problem]:
    """Metrics that the search would wait for in vain, and what several metrics leave open."""
    evaluate, search = spec.evaluate, spec.search
    for key in ("metric", "mode"):
        if search.metrics and key in source.block("search"):
            rule = f"must have one of {key} and metrics, but got both"
            yield source.problem(("search", key), rule, f"leave {key} out")
    others = {"judge": evaluate.judge, "pipeline": evaluate.pipeline}
    measures = [*evaluate.metrics, *(name for name, block in others.items() if block is not None)]
    for name in search.objectives:
        known = find_metric(name, evaluate.functions, evaluate.gates)
        if known is not None and (found := unmeasured(name, measures, evaluate.functions)):
            path = ("search", "metrics", name) if search.metrics else ("search", "metric")
            yield source.problem(path, f"{name} {found[0]}", found[1])
    early = spec.early_stopping
    if search.metrics and early is not None and "metric" not in early.model_fields_set:
        rule = f"with several search.metrics ({', '.join(search.metrics)}) it must say which metric its rungs go by"
        hint = "write metric: val/loss, or algorithm: none to end no trial by its rank"
        yield source.problem(("stop_early",), rule, hint)


def _metrics_written(source: Source) -> Iterator[tuple[_Path, str, str | None]]:
    """Every metric that the sweep names: its path, its name, and the direction that is written with it."""
    for block in ("search", "stop_early"):
        values = source.block(block)
        if isinstance(name := values.get("metric", "val/loss"), str) and name and values:
            mode = values.get("mode")
            yield (block, "metric"), name, mode if mode in ("min", "max") else None
    several = source.block("search").get("metrics")
    for name, mode in several.items() if isinstance(several, Mapping) else ():
        yield ("search", "metrics", name), str(name), mode if mode in ("min", "max") else None
    champion = source.block("champion")
    for key, mode in (("maximize", "max"), ("minimize", "min")):
        if isinstance(name := champion.get(key), str) and name:
            yield ("champion", key), name, mode
    limits = champion.get("subject_to")
    for name in limits if isinstance(limits, Mapping) else ():
        yield ("champion", "subject_to", name), name, None


# pydantic's errors in words -------------------------------------------------------------------------------------------

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "tuple_type": "a list",
    "list_type": "a list",
}
_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def explain(
    error: ValidationError, source: Source, within: _Path = (), block: type[BaseModel] | None = None
) -> Iterator[Problem]:
    """The problems of a block in words.

    Args:
        within: Where the block stands in the source.
        block: Its model, where it is no block of a plain sweep.
    """
    for detail in error.errors(include_url=False):
        path: _Path = (*within, *(part for part in detail["loc"] if part != "[key]"))
        rule, hint = _words(detail, path, source, block)
        if detail["type"] == "missing" and source.overridden.get(place(*path[:-1])):
            rule = f"{path[-1]} {rule}"  # the place that is told is then the override's
        yield source.problem(path, rule, hint)


def _words(detail: ErrorDetails, path: _Path, source: Source, block: type[BaseModel] | None = None) -> tuple[str, str]:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "podium":
        return str(context["rule"]), str(context["hint"])
    if kind == "missing":
        return "is missing", "" if len(path) > 1 else "a sweep needs name, recipe and space"
    if kind == "extra_forbidden":
        return f'unknown key "{path[-1]}"', _near_key(path, source)
    if kind == "literal_error":
        options = _options(path, block)
        text = value if isinstance(value, str) else ""
        hint = nearest(text, options) if text else ""
        return f"must be one of {', '.join(options)}, but got {_shown(value)}", hint if "did you" in hint else ""
    if kind in _KINDS:
        hint = "put it in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
        if kind in ("int_type", "float_type", "bool_type") and isinstance(value, str):
            hint = "write it without quotes" if _is_scalar_text(value, kind) else ""
        return f"must be {_KINDS[kind]}, but got {_shown(value)}", hint
    if kind in _LIMITS:
        word, name = _LIMITS[kind]
        return f"must be {word} {format_value(canonical(context[name]))}, but got {_shown(value)}", ""
    if kind == "too_short":
        hint = "name what to try, for example optimizer.lr: loguniform(1e-5, 1e-3)" if path == ("space",) else ""
        return "must not be empty", hint
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, but got {_shown(value)}", ""


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a block of keys"
    if isinstance(value, list | tuple):
        return "a list"
    text = quote(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _is_scalar_text(value: str, kind: str) -> bool:
    if kind == "bool_type":
        return value.lower() in ("true", "false")
    try:
        float(value)
    except ValueError:
        return False
    return True


def _model_at(path: _Path) -> type[BaseModel] | None:
    """The block that a path leads to."""
    model: type[BaseModel] = SweepSpec
    for part in path:
        if isinstance(part, int):
            continue  # an entry of a list of blocks
        field = next((f for name, f in model.model_fields.items() if (f.alias or name) == part), None)
        inner = _block_in(field.annotation) if field is not None else None
        if inner is None:
            return None
        model = inner
    return model


def _block_in(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _near_key(path: _Path, source: Source) -> str:
    model = _model_at(path[:-1])
    if model is None:
        return ""
    valid = tuple(field.alias or name for name, field in model.model_fields.items())
    hint = nearest(str(path[-1]), valid)
    override = source.overridden.get(next((text for text in source.overridden if text.startswith(f"{path[0]}.")), ""))
    if len(path) == 1 and override is not None and "did you" not in hint:
        return f"a recipe's key is set with set.{override.lstrip('+')}"
    return hint


def _options(path: _Path, block: type[BaseModel] | None = None) -> tuple[str, ...]:
    """The texts that a key with a closed list of values may have."""
    model = block or _model_at(path[:-1])
    field = (
        next((f for name, f in model.model_fields.items() if (f.alias or name) == path[-1]), None) if model else None
    )
    found: list[str] = []

    def collect(annotation: Any) -> None:
        for argument in getattr(annotation, "__args__", ()):
            if isinstance(argument, str):
                found.append(argument)
            elif argument is type(None):
                found.append("null")
            else:
                collect(argument)

    collect(field.annotation if field else None)
    return tuple(found)
