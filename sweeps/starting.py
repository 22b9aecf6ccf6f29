"""Adapters that a sweep's trials start from: which ones it names, and what they leave to sweep."""

from collections.abc import Mapping
from typing import Any

from sweeps.facts import RecipeFacts
from sweeps.grammar import format_value
from sweeps.loading import LoadedSpec
from sweeps.space import Report, Space, read_entry
from sweeps.values import canonical, same

ADAPTER, MODE = "start.adapter", "start.mode"
GIVEN = ("rank", "alpha", "targets")  # of ``lora``: a trial that goes on from an adapter has that adapter's own


def written_starts(loaded: LoadedSpec) -> list[str]:
    """The adapters that a sweep names under ``set`` and ``space``, as they are written."""

    def passed_over(*_: Any) -> None:
        """Whatever cannot be read is told by whoever reads the whole space."""

    named: list[Any] = [loaded.set.get(ADAPTER)]
    entry = read_entry(ADAPTER, loaded.source.block("space").get(ADAPTER), passed_over, "str")
    if entry is not None:
        named += [*_values(entry.distribution), entry.otherwise]
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def check_starts(
    written: Mapping[str, Any], space: Space, facts: RecipeFacts, settings: Mapping[str, Any], report: Report
) -> None:
    """Tell keys of the adapter that a sweep gives and that have no effect, because its trials go on from one.

    Args:
        written: The ``set`` block.
        facts: The recipe, with every adapter that is named.
        settings: The recipe's settings with ``set`` applied.
    """
    modes = _possible(space, settings, MODE)
    if "stack" in modes:
        return  # then the key says how large the new adapter is
    starts = [str(name) for name in _possible(space, settings, ADAPTER) if name is not None]
    if len(starts) < len(_possible(space, settings, ADAPTER)):
        return  # or that of trials that begin afresh
    for key in GIVEN:
        path = f"lora.{key}"
        for name in starts:
            own = canonical(facts.starts[name].lora[key])
            hint = f"leave it out, or set {MODE}: stack to put a new adapter of your own beside it"
            if path in space.dimensions:
                rule = f"trials go on from {name}, whose {key} is {_told(own)}, so that no other can be tried"
                report(("space", path), rule, hint)
                break
            if path in written and not same(canonical(settings["lora"][key]), own):
                rule = f"trials go on from {name}, whose {key} is {_told(own)}, but got {_told(settings['lora'][key])}"
                report(("set", path), rule, hint)
                break


def _possible(space: Space, settings: Mapping[str, Any], key: str) -> list[Any]:
    """The values that trials have at a key of few."""
    dimension = space.dimensions.get(key)
    if dimension is None:
        return [(settings.get("start") or {}).get(key.partition(".")[2])]
    rest = [dimension.neutral] if dimension.when is not None else []
    return [*_values(dimension.distribution), *rest]


def _values(distribution: Any) -> list[Any]:
    return list(distribution.values()) if distribution.size is not None else []


def _told(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list | tuple) else format_value(value)
