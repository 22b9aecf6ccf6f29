"""Holding a sweep against its recipe and its pools."""

from collections.abc import Mapping
from typing import Any

from sweeps.design_points import MAX_GRID, num_distinct
from sweeps.errors import Problem, nearest
from sweeps.facts import Pool, RecipeFacts
from sweeps.grammar import quote
from sweeps.loading import LoadedSpec
from sweeps.space import Report, Space, build_space, unknown_key
from sweeps.sweep import Sweep
from sweeps.syntax import coerce, violation
from sweeps.values import thaw, with_values


def resolve(loaded: LoadedSpec, facts: RecipeFacts, pools: Mapping[str, Pool]) -> Sweep:
    """Make a sweep of what was read, or tell everything that is wrong with it at once.

    Args:
        loaded: From :func:`~sweeps.spec.read_spec` (its problems are told too) or :func:`~sweeps.spec.load_spec`.
        facts: The recipe that the sweep names.
        pools: Every pool there is, by name.

    Raises:
        InvalidInput: With all problems of the file, the recipe's keys and the pools.
    """
    problems: list[Problem] = []

    def report(path: tuple[str | int, ...], rule: str, hint: str = "") -> None:
        problems.append(loaded.problem(path, rule, hint))

    settings = _settings(loaded.source.block("set"), facts, report)
    space = build_space(loaded.source.block("space"), facts, settings, report)
    _check_pools(loaded, pools, report)
    if loaded.problems or problems or loaded.spec is None or space is None:
        raise loaded.error(*problems)
    sweep = Sweep(loaded.spec, facts, tuple(pools[name] for name in loaded.spec.pools), space, settings)
    if loaded.spec.search.algorithm == "grid":
        _check_grid(sweep, report)
    if problems:
        raise loaded.error(*problems)
    return sweep


def _settings(written: Mapping[str, Any], facts: RecipeFacts, report: Report) -> dict[str, Any]:
    """The recipe's settings with the ``set`` block applied as far as it is right."""
    right: dict[str, Any] = {}
    for key, value in written.items():
        if key not in facts.keys:
            report(("set", key), *unknown_key(key, facts))
            continue
        value = coerce(value, facts.keys[key].kind)
        if rule := violation(value, facts.keys[key]):
            texts = tuple(choice for choice in facts.keys[key].choices or () if isinstance(choice, str))
            hint = nearest(value, texts) if isinstance(value, str) and texts else ""
            report(("set", key), f"{rule}, but got {quote(value)}", hint)
            continue
        right[key] = thaw(value)
    return with_values(facts.settings, right)


def _check_pools(loaded: LoadedSpec, pools: Mapping[str, Pool], report: Report) -> None:
    written = loaded.source.values.get("pools", ["cpu"])
    for index, name in enumerate(written if isinstance(written, list) else [written]):
        if isinstance(name, str) and name and name not in pools:
            report(("pools", index), f'unknown pool "{name}"', nearest(name, tuple(pools)))


def _check_grid(sweep: Sweep, report: Report) -> None:
    space, search = sweep.space, sweep.spec.search
    for key, dimension in space.dimensions.items():
        if dimension.distribution.size is None:
            rule = f"a grid needs a finite number of values, but {dimension.distribution.describe()} is continuous"
            report(("space", key), rule, "use choice, range or quniform, or search.algorithm: random")
    size = space.size
    if size is None:
        return
    if size > MAX_GRID:
        rule = f"a grid has at most {MAX_GRID:,} points, but this one has {size:,} ({_factors(space)})"
        report(("space",), rule, "use search.algorithm: tpe or random")
        return
    needed = num_distinct(sweep)
    if needed > search.trials:
        start = ", the recipe's defaults among them" if search.start_at == "default" else ""
        rule = f"the grid needs {needed} trials{start}, but search.trials is {search.trials}"
        report(("search", "trials"), rule, f"write trials: {needed}")


def _factors(space: Space) -> str:
    return " × ".join(str(dimension.distribution.size) for dimension in space.dimensions.values())
