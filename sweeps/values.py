"""The plain values that sweeps are made of: comparing, freezing and addressing them by dotted path."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard


def freeze(value: Any) -> Any:
    """The value with every list turned into a tuple, so that a frozen dataclass may hold it."""
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def thaw(value: Any) -> Any:
    """The inverse of :func:`freeze`: every tuple turned into a list, as recipes are written."""
    return [thaw(item) for item in value] if isinstance(value, list | tuple) else value


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether the value is an int or a float; booleans are not numbers here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(left: Any, right: Any) -> bool:
    """Whether two values mean the same: 1 and 1.0 do, 1 and true do not, a list and a tuple do."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def canonical(value: Any) -> Any:
    """The value in the one form that is hashed: whole floats become ints, tuples lists, mappings plain dicts."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return value


def lookup(settings: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path of nested settings.

    Raises:
        KeyError: There is none.
    """
    node: Any = settings
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            raise KeyError(path)
        node = node[part]
    return node


def with_values(settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of nested settings with each value put at its dotted path.

    Raises:
        KeyError: The group that a path stands in does not exist.
    """
    result: dict[str, Any] = copy.deepcopy(dict(settings))
    for path, value in values.items():
        *groups, last = path.split(".")
        node = lookup(result, ".".join(groups)) if groups else result
        if not isinstance(node, dict):
            raise KeyError(path)
        node[last] = thaw(copy.deepcopy(value))
    return result


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every leaf of nested settings with its dotted path, in order."""
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}.")
        else:
            yield path, value
