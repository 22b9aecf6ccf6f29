"""Sweeps of preference trials: by what they can be compared, and keys that mean nothing to trials of another method."""

from collections.abc import Iterator
from dataclasses import replace

from sweeps.fields import Mode
from sweeps.loading import LoadedSpec
from sweeps.metrics import BY_NAME, BY_PAIRS
from sweeps.space import Report
from sweeps.starting import ADAPTER
from sweeps.sweep import Sweep

KEYS = "preference."
ACCURACY = "dpo/reward_accuracy"
"""What trials are compared by whose losses are of different scales: the share of pairs that they have the right way."""


def scaling_keys(sweep: Sweep, metric: str) -> list[str]:
    """The swept keys by which a metric's scale changes from trial to trial."""
    found = BY_NAME.get(metric)
    if sweep.settings.get("method") != "dpo" or found is None:
        return []
    dimensions = sweep.space.dimensions
    return [
        key
        for key in found.scaled_by
        if key in dimensions and not (dimensions[key].distribution.size == 1 and dimensions[key].when is None)
    ]


def check_preferences(loaded: LoadedSpec, sweep: Sweep, report: Report) -> Sweep:
    """Tell what a sweep cannot go by, and give it what it can where it names nothing.

    Trials of one preference loss are compared by ``val/loss``, as any others. Where the keys of the loss are swept,
    search, early stopping and champion go by ``dpo/reward_accuracy`` unless they name something else.
    """
    if sweep.settings.get("method") != "dpo":
        _tell_unused(loaded, sweep, report)
        return sweep
    return _compared(loaded, sweep, report)


def _tell_unused(loaded: LoadedSpec, sweep: Sweep, report: Report) -> None:
    for block in ("set", "space"):
        for key in loaded.source.block(block):
            if str(key).startswith(KEYS):
                rule = f"has no effect on trials of method {sweep.settings.get('method', 'sft')}"
                report((block, key), rule, "set method: dpo, or leave it out")
    for path, name, _ in _goes_by(sweep):
        if name.startswith(BY_PAIRS):
            rule = f"{name} is measured of trials of method dpo alone"
            report(path, rule, "set method: dpo with rows that are pairs, or write val/loss")


def _compared(loaded: LoadedSpec, sweep: Sweep, report: Report) -> Sweep:
    spec, written = sweep.spec, loaded.source.block
    for path, name, is_default in _goes_by(sweep):
        keys = scaling_keys(sweep, name)
        if not keys:
            continue
        usable, block = not scaling_keys(sweep, ACCURACY), path[0]
        is_default = is_default or (block != "champion" and not {"metric", "metrics"} & set(written(str(block))))
        if is_default and usable:
            if block == "search":
                spec = spec.model_copy(update={"search": spec.search.model_copy(update=_BY_ACCURACY)})
            elif block == "stop_early" and spec.stop_early is not None:
                spec = spec.model_copy(update={"stop_early": spec.stop_early.model_copy(update=_BY_ACCURACY)})
            else:
                champion = spec.champion.model_copy(update={"maximize": ACCURACY})
                spec = spec.model_copy(update={"champion": champion})
            continue
        rule = f"{name} has another scale in trials that differ in {' and '.join(keys)}: it cannot compare them"
        way = f"write {ACCURACY}, or a metric" if usable else "name a metric"
        report(path, rule, f"{way} of their answers that is evaluated, as quality/score")
    return replace(sweep, spec=spec)


def scaled_by_starts(sweep: Sweep) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What the sweep goes by and could not, were its trials to start from several adapters: where, and the metric."""
    if sweep.settings.get("method") == "dpo":
        for path, name, _ in _goes_by(sweep):
            if name in BY_NAME and ADAPTER in BY_NAME[name].scaled_by:
                yield path, name


def notes(sweep: Sweep) -> list[str]:
    """What a reader of the plan should know of a sweep of preference trials."""
    if sweep.settings.get("method") != "dpo":
        return []
    if keys := scaling_keys(sweep, "val/loss"):
        names = {" and ".join(sweep.spec.search.objectives): "the search", sweep.spec.objective[0]: "the champion"}
        rule = f"losses of trials that differ in {', '.join(keys)} are of different scales"
        by = ", ".join(f"{who} goes by {name}" for name, who in names.items())
        return [f"{rule}: {'search and champion go by ' + next(iter(names)) if len(names) == 1 else by}"]
    return []


_BY_ACCURACY: dict[str, str] = {"metric": ACCURACY, "mode": "max"}


def _goes_by(sweep: Sweep) -> Iterator[tuple[tuple[str | int, ...], str, bool]]:
    """What the sweep goes by: where it is written, the metric, and whether it is there without having been written."""
    spec = sweep.spec
    for name in spec.search.objectives:
        yield (("search", "metrics", name) if spec.search.metrics else ("search", "metric")), name, False
    if spec.early_stopping is not None:
        yield ("stop_early", "metric"), spec.early_stopping.metric, False
    side: dict[Mode, str] = {"max": "maximize", "min": "minimize"}
    name, mode = spec.objective
    unwritten = spec.champion.maximize is None and spec.champion.minimize is None
    yield ("champion", side[mode]), name, unwritten
