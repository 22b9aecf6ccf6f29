"""Metrics of one answer: the built-in ones, and a user's own from ``file.py:function``."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.data.jsonl import strict_json
from sweeps.errors import InvalidInput, Problem, nearest
from tracking.meters.functions import OwnFunction

BUILT_IN = ("exact_match", "json_schema", "field_f1", "shopping")


@dataclass(frozen=True)
class Item:
    """One row to be answered: the conversation up to the answer, the right answer's text, the data row behind it."""

    id: str
    messages: list[dict[str, Any]]
    reference: str
    row: dict[str, Any] = field(default_factory=dict)


Metric = Callable[[Item, str], dict[str, float]]


class NotJsonError(ValueError):
    """The text is no JSON."""


def parse_json(text: str) -> Any:
    """The value of a JSON text, by the letter; see :func:`recipes.data.jsonl.strict_json`.

    Raises:
        NotJsonError: It cannot be parsed, or is nested too deeply to be.
    """
    try:
        return strict_json(text)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error)) from None


def canonical(value: Any) -> str:
    """One text for equal JSON values: keys sorted, no spaces, 1.0 written as 1; true is not 1."""
    return json.dumps(_plain_numbers(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _plain_numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(inner) for inner in value]
    return value


def exact_match(item: Item, answer: str) -> dict[str, float]:
    """``quality/exact_match``: 1 where answer and reference are the same JSON value, or where one is none, text."""
    try:
        same = canonical(parse_json(answer)) == canonical(parse_json(item.reference))
    except NotJsonError:
        same = answer.strip() == item.reference.strip()
    return {"quality/exact_match": float(same)}


def json_schema(schema: dict[str, Any]) -> Metric:
    """A metric ``quality/json_valid``: 1 where the answer is JSON that the schema allows.

    Raises:
        InvalidInput: The schema is none.
    """
    valid = validator(schema)

    def metric(item: Item, answer: str) -> dict[str, float]:
        try:
            return {"quality/json_valid": float(valid(parse_json(answer)))}
        except NotJsonError:
            return {"quality/json_valid": 0.0}

    return metric


def validator(schema: dict[str, Any]) -> Callable[[Any], bool]:
    """Says whether a value is allowed by a JSON schema, of the draft that its ``$schema`` names (2020-12 without one).

    Raises:
        InvalidInput: The schema is none.
    """
    import jsonschema

    if not isinstance(schema, dict | bool):
        rule = f"not a JSON schema: {json.dumps(schema)[:40]} is no object"
        raise InvalidInput(Problem("evaluate.schema", rule))
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        rule = f"not a JSON schema: {error.message} at {error.json_path}"
        raise InvalidInput(Problem("evaluate.schema", rule)) from None
    checker = kind(schema)
    return lambda value: bool(checker.is_valid(value))


def field_f1(item: Item, answer: str) -> dict[str, float]:
    """``quality/field_f1``: F1 over the fields of the JSON answer against those of the reference.

    A field is a path without list indices and the value there, counted as often as it occurs, so the order in a list
    does not matter. 0 where the answer is no JSON.

    Raises:
        InvalidInput: The reference is no JSON.
    """
    try:
        expected = Counter(_fields(parse_json(item.reference)))
    except NotJsonError as error:
        rule = f"field_f1 compares JSON, but the right answer of row {item.id!r} is none: {error}"
        raise InvalidInput(Problem("evaluate.metrics", rule, "use exact_match for plain text")) from None
    try:
        given = Counter(_fields(parse_json(answer)))
    except NotJsonError:
        return {"quality/field_f1": 0.0}
    return {"quality/field_f1": 2 * (given & expected).total() / (given.total() + expected.total())}


def _fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _fields(inner, (*path, key))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _fields(inner, (*path, "[]"))
    else:
        yield path, canonical(value)


def load_metric(
    text: str, base_dir: Path, schema: dict[str, Any] | None = None, where: str = "evaluate.metrics"
) -> Metric:
    """The metric that an entry of ``evaluate.metrics`` names.

    A built-in's name, or ``file.py:function`` with the file relative to ``base_dir``. A user's function has the
    signature ``(row: dict, answer: str) -> dict[str, float]``; ``row`` is what :func:`row_of` makes of an item. A name
    without a slash becomes ``quality/<name>``. Loading the file runs it.

    Args:
        where: The key of the sweep that names it, for messages.

    Raises:
        InvalidInput: No such built-in, file or function, the file fails to load, or ``json_schema`` has no schema. From
            the metric itself: the function raises, or returns something else than numbers by name.
    """
    if ":" in text:
        return _own(OwnFunction(text, base_dir, where))
    if text == "exact_match":
        return exact_match
    if text == "field_f1":
        return field_f1
    if text == "shopping":
        from tracking.meters.shopping import shopping

        return shopping
    if text == "json_schema":
        if schema is None:
            raise InvalidInput(Problem(where, "json_schema needs a schema, and none is given", "set evaluate.schema"))
        return json_schema(schema)
    hint = "write file.py:function" if text.endswith(".py") else f"{nearest(text, BUILT_IN)}, or file.py:function"
    raise InvalidInput(Problem(where, f'no metric is called "{text}"', hint))


def row_of(item: Item) -> dict[str, Any]:
    """An item as functions of the user's own see it.

    The data row, with ``id``, ``messages`` (up to the answer) and ``reference`` (the right answer's text) added where
    the row has no such key.
    """
    return {"id": item.id, "messages": item.messages, "reference": item.reference, **item.row}


def _own(function: OwnFunction) -> Metric:
    def metric(item: Item, answer: str) -> dict[str, float]:
        row = row_of(item)
        returned = function(row, answer)
        try:
            return _checked(returned)
        except ValueError as error:
            raise function.wrong(row, str(error)) from None

    return metric


def _checked(returned: Any) -> dict[str, float]:
    if not isinstance(returned, dict):
        kind = type(returned).__name__
        raise ValueError(f"a metric returns a dict of numbers by name, but got {kind}: {returned!r:.80}")
    values: dict[str, float] = {}
    for key, value in returned.items():
        number = isinstance(value, int | float) and abs(value) <= sys.float_info.max  # one NaN would spoil the mean
        if not isinstance(key, str) or not number:
            raise ValueError(f"a metric returns a dict of finite numbers by name, but got {key!r}: {value!r:.80}")
        values[key if "/" in key else f"quality/{key}"] = float(value)
    return values
