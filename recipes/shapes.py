"""A JSON schema read off examples: types, the keys that are always there, and the words of small vocabularies."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

MAX_WORDS = 12  # a field with more distinct texts than this is no vocabulary
USES_PER_WORD = 4  # on average at least, or it may be chance that so few occur
_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


def schema_of(values: Sequence[Any]) -> dict[str, Any]:
    """A schema that allows every one of ``values`` (JSON, at least one), and no other keys than theirs.

    A key that all objects have is required. A text with few values that recur is held to these.
    """
    kinds = {_TYPES.get(type(value), "null") for value in values}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    schema: dict[str, Any] = {"type": kinds.pop() if len(kinds) == 1 else sorted(kinds)}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        counts = Counter(key for one in objects for key in one)
        schema["properties"] = {key: schema_of([one[key] for one in objects if key in one]) for key in counts}
        schema["required"] = [key for key, count in counts.items() if count == len(objects)]
        schema["additionalProperties"] = False
    items = [item for value in values if isinstance(value, list) for item in value]
    if items:
        schema["items"] = schema_of(items)
    if schema["type"] == "string":
        words = Counter(values)
        if len(words) <= MAX_WORDS and len(values) >= USES_PER_WORD * len(words):
            schema["enum"] = sorted(words)
    return schema
