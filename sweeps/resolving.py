"""Holding a sweep against its recipe and its pools."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from sweeps.constraints import known_before
from sweeps.design_points import MANY, latin_hypercube, num_distinct
from sweeps.errors import Problem, nearest
from sweeps.facts import Pool, RecipeFacts
from sweeps.grammar import quote
from sweeps.loading import LoadedSpec
from sweeps.metrics import BY_NAME
from sweeps.preferring import check_preferences
from sweeps.space import Report, Space, build_space, unknown_key
from sweeps.starting import check_starts
from sweeps.sweep import Sweep
from sweeps.syntax import coerce, number_hint, violation
from sweeps.trial import make_trial
from sweeps.values import thaw, with_values
from sweeps.work import trial_costs

_SAMPLE = 50  # points from which the cost of very many trials is estimated


def resolve(loaded: LoadedSpec, facts: RecipeFacts, pools: Mapping[str, Pool], *, yes: bool = False) -> Sweep:
    """Make a sweep of what was read, or tell everything that is wrong with it at once.

    Args:
        loaded: From :func:`~sweeps.spec.read_spec` (its problems are told too) or :func:`~sweeps.spec.load_spec`.
        facts: The recipe that the sweep names.
        pools: Every pool there is, by name.
        yes: Whether more than :data:`~sweeps.design_points.MANY` trials are meant.

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
    check_starts(loaded.set, space, facts, settings, report)
    sweep = Sweep(loaded.spec, facts, tuple(pools[name] for name in loaded.spec.pools), space, settings)
    if loaded.spec.search.algorithm == "grid":
        # Of a grid that is too large to be meant its size is told, and not that search.trials is too small for it.
        is_limited = "trials" in loaded.source.block("search") and (yes or (space.size or 0) <= MANY)
        sweep = _whole_grid(sweep, is_limited, report)
    sweep = check_preferences(loaded, sweep, report)
    _check_known(sweep, report)
    if not (problems or yes):
        _check_number(sweep, report)
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
            hint = nearest(value, texts) if isinstance(value, str) and texts else number_hint(value, rule)
            report(("set", key), f"{rule}, but got {quote(value)}", hint)
            continue
        right[key] = thaw(value)
    return with_values(facts.settings, right)


def _check_pools(loaded: LoadedSpec, pools: Mapping[str, Pool], report: Report) -> None:
    written = loaded.source.values.get("pools", ["cpu"])
    for index, name in enumerate(written if isinstance(written, list) else [written]):
        if isinstance(name, str) and name and name not in pools:
            report(("pools", index), f'unknown pool "{name}"', nearest(name, tuple(pools)))
    serving = loaded.source.block("traffic").get("pool")
    if isinstance(serving, str) and serving and serving not in pools:
        report(("traffic", "pool"), f'unknown pool "{serving}"', nearest(serving, tuple(pools)))
    kinds = tuple(dict.fromkeys(pool.accelerator for pool in pools.values() if pool.accelerator))
    for name in loaded.spec.evaluate.latency.accelerators if loaded.spec else ():
        if name not in kinds:
            report(("evaluate", "latency", "accelerators"), f'no pool has accelerator "{name}"', nearest(name, kinds))


def _whole_grid(sweep: Sweep, is_limited: bool, report: Report) -> Sweep:
    """The sweep with as many trials as its grid has points; a number that is written must be enough for them."""
    space, search = sweep.space, sweep.spec.search
    for key, dimension in space.dimensions.items():
        if dimension.distribution.size is None:
            rule = f"a grid needs a finite number of values, but {dimension.distribution.describe()} is continuous"
            report(("space", key), rule, "use choice, range or quniform, or search.algorithm: random")
    if space.size is None:
        return sweep
    # To count the distinct points of a very large one takes too long; its size is enough for them.
    needed = num_distinct(sweep) if space.size <= MANY else space.size
    if not is_limited:
        search = search.model_copy(update={"trials": needed})
    elif needed > search.trials:
        start = ", the recipe's defaults among them" if search.start_at == "default" else ""
        rule = f"the grid needs {needed} trials{start}, but search.trials is {search.trials}"
        report(("search", "trials"), rule, f"write trials: {needed}")
    return replace(sweep, spec=sweep.spec.model_copy(update={"search": search}))


def _check_known(sweep: Sweep, report: Report) -> None:
    """Refuse to go by a metric of the settings where it cannot be told from them."""
    spec, several = sweep.spec, bool(sweep.spec.search.metrics)
    searched = (
        (("search", "metrics", name) if several else ("search", "metric"), name) for name in spec.search.objectives
    )
    bounded = ((("champion", "subject_to", one.metric), one.metric) for one in spec.champion.constraints)
    known = known_before(sweep.settings, sweep.facts)
    for path, name in (*searched, *bounded):
        if name not in BY_NAME or not BY_NAME[name].known_before:
            continue
        if name not in known:
            rule = f"{name} is counted in the base's files, and {sweep.settings['base']['path']} is not local"
            report(path, rule, "download the base and set base.path to its folder")
        elif "base.path" in sweep.space.dimensions:
            report(path, f"{name} is counted for one base, but base.path is swept", "write a sweep for each base")


def _check_number(sweep: Sweep, report: Report) -> None:
    """Refuse more trials than anybody means by accident, with what they would take."""
    search = sweep.spec.search
    number = search.trials * search.seeds
    if number <= MANY:
        return
    is_grid = search.algorithm == "grid"
    points = latin_hypercube(sweep.space, _SAMPLE, Random(0))
    cheapest = [trial_costs(sweep, make_trial(sweep, 0, point))[0] for point in points]
    hours = sum(cost.hours * cost.units for cost in cheapest) / _SAMPLE * number
    usd = sum(cost.usd for cost in cheapest) / _SAMPLE * number
    factors = f" ({_factors(sweep.space)})" if is_grid else ""
    unit = "core" if sweep.pools[0].device == "cpu" else "GPU"
    rule = f"{number:,} trials{factors} would take about {hours:,.0f} {unit}-hours, ${usd:,.0f}"
    way = "use search.algorithm: tpe or random, or say --yes" if is_grid else "say --yes if they are meant"
    report(("space",) if is_grid else ("search", "trials"), rule, way)


def _factors(space: Space) -> str:
    return " × ".join(str(dimension.distribution.size) for dimension in space.dimensions.values())
