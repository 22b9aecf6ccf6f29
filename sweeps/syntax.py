"""What a user may write as the value of a swept key, turned into a distribution.

Accepted: a call in Hydra's syntax (``loguniform(1e-5, 1e-3)``), a plain value, a list (a choice between its items), and
a W&B-style mapping (``{distribution: log_uniform_values, min: 1e-5, max: 1e-3}``).
"""

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from sweeps.distributions import Choice, Distribution, Fixed, IntRange, LogUniform, QUniform, Uniform
from sweeps.errors import nearest
from sweeps.facts import KeyFacts
from sweeps.grammar import Call, CommaList, GrammarError, format_value, parse_value, quote
from sweeps.values import is_number, same

MAX_RANGE = 10_000  # values of a range with a fractional step, which is written out as a choice


def parse_distribution(raw: Any, kind: str = "any") -> Distribution:
    """Read what is written at a swept key.

    Args:
        raw: A text, number, list or mapping from the YAML.
        kind: The kind of the recipe's key (see :class:`~sweeps.facts.KeyFacts`). It decides what ``interval(0, 1)``
            means: whole numbers unless the key takes fractions.

    Raises:
        GrammarError: It is none of the accepted forms, or its numbers do not make a distribution.
    """
    try:
        return _fit(_parse(raw, kind), kind)
    except GrammarError:
        raise
    except ValueError as error:
        raise GrammarError(str(error)) from None


def _parse(raw: Any, kind: str) -> Distribution:
    if isinstance(raw, str):
        value = parse_value(raw)
        if isinstance(value, Call):
            return _from_call(value, kind)
        if isinstance(value, CommaList):
            return Choice(tuple(_plain(item) for item in value.values))
        raw = value
    if isinstance(raw, list | tuple):
        return Choice(tuple(_plain(item) for item in raw))
    if isinstance(raw, Mapping):
        return _from_mapping(raw, kind)
    return Fixed(raw)


def _plain(value: Any) -> Any:
    """The value, if it holds no call: distributions do not nest."""
    if isinstance(value, Call):
        raise GrammarError(
            f"distributions cannot be nested, but got {value}", f"put {value.name}(…) in quotes if it is text"
        )
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, str):
        try:
            return _number(float(value), name)
        except ValueError:
            pass
    if not is_number(value):
        raise GrammarError(f"{name} must be a number, but got {quote(value)}")
    return value


def _is_whole(*numbers: float) -> bool:
    return all(isinstance(number, int) for number in numbers)


# Hydra's calls -------------------------------------------------------------------------------------------------------


def _arguments(call: Call, names: tuple[str, ...], num_required: int) -> dict[str, float]:
    """The call's arguments by name, each a number."""
    written = f"{call.name}({', '.join(names)})"
    unknown = [name for name in call.kwargs if name not in names]
    if unknown:
        raise GrammarError(f'{call.name} has no argument "{unknown[0]}"', nearest(unknown[0], names))
    if len(call.args) > len(names):
        raise GrammarError(f"{call.name} takes {len(names)} numbers, but got {call}", f"write {written}")
    bound = dict(zip(names, call.args, strict=False))
    twice = [name for name in call.kwargs if name in bound]
    if twice:
        raise GrammarError(f'{call.name} got "{twice[0]}" twice: {call}', f"write {written}")
    bound |= call.kwargs
    missing = [name for name in names[:num_required] if name not in bound]
    if missing:
        raise GrammarError(f"{call.name} needs {' and '.join(missing)}, but got {call}", f"write {written}")
    return {name: _number(value, name) for name, value in bound.items()}


def _from_call(call: Call, kind: str) -> Distribution:
    if call.name == "tag":
        return _from_tag(call, kind)
    if call.name not in _CALLS:
        raise GrammarError(f'unknown function "{call.name}"', nearest(call.name, (*_CALLS, "tag")))
    return _CALLS[call.name](call, kind)


def _choice(call: Call, kind: str) -> Distribution:
    if call.kwargs:
        raise GrammarError(f"choice takes values without names, but got {call}")
    return Choice(tuple(_plain(item) for item in call.args))


def _uniform(call: Call, kind: str) -> Distribution:
    bound = _arguments(call, ("low", "high"), 2)
    return Uniform(float(bound["low"]), float(bound["high"]))


def _loguniform(call: Call, kind: str) -> Distribution:
    bound = _arguments(call, ("low", "high"), 2)
    return LogUniform(float(bound["low"]), float(bound["high"]))


def _quniform(call: Call, kind: str) -> Distribution:
    bound = _arguments(call, ("low", "high", "q"), 3)
    return _stepped(bound["low"], bound["high"], bound["q"])


def _stepped(low: float, high: float, q: float) -> Distribution:
    return QUniform(float(low), float(high), float(q))


def _interval(call: Call, kind: str) -> Distribution:
    bound = _arguments(call, ("start", "end"), 2)
    return _between(bound["start"], bound["end"], kind)


def _between(low: float, high: float, kind: str) -> Distribution:
    """Whole bounds mean whole numbers, both ends included, unless the key takes fractions."""
    if _is_whole(low, high) and kind != "float":
        return IntRange(int(low), int(high))
    return Uniform(float(low), float(high))


def _range(call: Call, kind: str) -> Distribution:
    bound = _arguments(call, ("start", "stop", "step"), 1)
    start, stop, step = bound["start"], bound.get("stop"), bound.get("step", 1)
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise GrammarError(f"step must not be 0, but got {call}")
    if _is_whole(start, stop, step):
        members = range(int(start), int(stop), int(step))
        if not members:
            raise GrammarError(f"a range needs at least one value, but got {call}", "its stop is excluded")
        return IntRange(min(members), max(members), abs(int(step)))
    first, last, width = (Decimal(repr(number)) for number in (start, stop, step))
    if not (first.is_finite() and last.is_finite() and width.is_finite()) or abs((last - first) / width) > MAX_RANGE:
        raise GrammarError(f"a range has at most {MAX_RANGE} values, but got {call}", "use uniform(low, high)")
    options = []
    while (first < last) if width > 0 else (first > last):
        options.append(float(first))
        first += width
    if not options:
        raise GrammarError(f"a range needs at least one value, but got {call}", "its stop is excluded")
    return Choice(tuple(options))


def _from_tag(call: Call, kind: str) -> Distribution:
    inner = call.args[-1] if call.args and not call.kwargs else None
    tags = call.args[:-1]
    if not isinstance(inner, Call) or tags != ("log",):
        raise GrammarError(f"the only tag is log, but got {call}", "write tag(log, interval(low, high))")
    if inner.name != "interval":
        raise GrammarError(f"tag(log, …) needs an interval, but got {call}", "write tag(log, interval(low, high))")
    bound = _arguments(inner, ("start", "end"), 2)
    return LogUniform(float(bound["start"]), float(bound["end"]))


_CALLS: dict[str, Callable[[Call, str], Distribution]] = {
    "choice": _choice,
    "uniform": _uniform,
    "loguniform": _loguniform,
    "quniform": _quniform,
    "interval": _interval,
    "range": _range,
}


# W&B's mappings ------------------------------------------------------------------------------------------------------

_MAPPING_KEYS: dict[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "uniform": ("min", "max"),
    "int_uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
}
# W&B has these too; named apart, because "did you mean" would lead from normal to uniform.
_UNSUPPORTED = (
    *("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta"),
    *("q_log_uniform", "q_log_uniform_values", "inv_log_uniform", "inv_log_uniform_values"),
)
_NO_DISTRIBUTION = "write value, values, min and max, or distribution"


def _from_mapping(raw: Mapping[str, Any], kind: str) -> Distribution:
    keys = dict(raw)
    name = keys.pop("distribution", None) or _implied(keys)
    if name == "log_uniform":
        raise GrammarError(
            "log_uniform takes exponents in W&B and is not read here", 'did you mean "log_uniform_values"?'
        )
    if name in _UNSUPPORTED:
        raise GrammarError(f"there is no {name} distribution here", f"valid: {', '.join(_MAPPING_KEYS)}")
    if not isinstance(name, str) or name not in _MAPPING_KEYS:
        raise GrammarError(f"unknown distribution {quote(name)}", nearest(str(name), tuple(_MAPPING_KEYS)))
    needed = _MAPPING_KEYS[name]
    for key in keys:
        if key not in needed:
            raise GrammarError(f'{name} has no key "{key}"', nearest(str(key), ("distribution", *needed)))
    optional = {"q"}  # W&B's q is 1 where it is not given
    missing = [key for key in needed if key not in keys and key not in optional]
    if missing:
        raise GrammarError(f"{name} needs {' and '.join(missing)}")
    if name == "constant":
        value = keys["value"]
        return Choice((value,)) if isinstance(value, list | tuple) else Fixed(value)
    if name == "categorical":
        values = keys["values"]
        if not isinstance(values, list | tuple):
            raise GrammarError(f"values must be a list, but got {quote(values)}")
        return Choice(tuple(values))
    low, high = _number(keys["min"], "min"), _number(keys["max"], "max")
    if name == "int_uniform":
        if not _is_whole(low, high):
            raise GrammarError(f"int_uniform needs whole numbers, but got min={low}, max={high}")
        return IntRange(int(low), int(high))
    if name == "log_uniform_values":
        return LogUniform(float(low), float(high))
    if name == "q_uniform":
        return _stepped(low, high, _number(keys.get("q", 1), "q"))
    return Uniform(float(low), float(high))


def _implied(keys: Mapping[str, Any]) -> str:
    """The distribution that W&B takes where none is named."""
    if "values" in keys:
        return "categorical"
    if "value" in keys:
        return "constant"
    if "min" in keys and "max" in keys:
        return "int_uniform" if _is_whole(keys["min"], keys["max"]) else "uniform"
    if not keys:
        raise GrammarError("a distribution is missing", _NO_DISTRIBUTION)
    unknown = next((key for key in keys if key not in ("min", "max", "q")), None)
    if unknown is None:
        raise GrammarError(f"a distribution needs min and max, but got only {', '.join(keys)}", _NO_DISTRIBUTION)
    raise GrammarError(f'unknown key "{unknown}"', nearest(str(unknown), _MAPPING_WORDS))


_MAPPING_WORDS = ("distribution", "value", "values", "min", "max", "q", "when", "otherwise")


# What the key takes --------------------------------------------------------------------------------------------------


def coerce(value: Any, kind: str) -> Any:
    """The value in the key's own type where that changes nothing: 8.0 is 8 for an int, 1 is 1.0 for a float."""
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _fit(distribution: Distribution, kind: str) -> Distribution:
    """The distribution with its values in the key's own type."""
    match distribution:
        case Fixed(value):
            return Fixed(coerce(value, kind))
        case Choice(options):
            return Choice(tuple(coerce(option, kind) for option in options))
        case QUniform(q=q) if kind == "int" and q.is_integer():
            values = distribution.values()
            return IntRange(int(values[0]), int(values[-1]), int(q))
        case Uniform() | LogUniform() | QUniform() if kind == "int":
            way = "range(start, stop, step), interval(1, 9) or choice(…)"
            raise GrammarError(f"must be a whole number, but {distribution.describe()} gives fractions", f"use {way}")
    return distribution


def number_hint(value: Any, rule: str) -> str:
    """The way out where a number is needed and a text was given that would be one, or a call, without its quotes."""
    if not isinstance(value, str) or "number" not in rule:
        return ""
    try:
        float(value)
    except ValueError:
        return "write it without quotes" if re.fullmatch(r"\w+\(.*\)", value) else ""
    return "write it without quotes"


def violation(value: Any, facts: KeyFacts) -> str:
    """The rule of the recipe that a value breaks, in words ("must be at least 1"), or an empty text."""
    if value is None:
        return "" if facts.optional else "must not be null"
    if facts.choices is not None and not any(same(value, choice) for choice in facts.choices):
        return f"must be one of {', '.join(format_value(choice) for choice in facts.choices)}"
    match facts.kind:
        case "int" if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        case "float" if not is_number(value) or not math.isfinite(value):
            return "must be a number"
        case "str" if not isinstance(value, str):
            return "must be text"
        case "bool" if not isinstance(value, bool):
            return "must be true or false"
        case "list" if not isinstance(value, list | tuple):
            return "must be a list"
    if not is_number(value):
        return ""
    if facts.low is not None and (value < facts.low or (facts.exclusive_low and value == facts.low)):
        return f"must be {'above' if facts.exclusive_low else 'at least'} {format_value(facts.low)}"
    if facts.high is not None and value > facts.high:
        return f"must be at most {format_value(facts.high)}" + (f", {facts.high_is}" if facts.high_is else "")
    return ""
