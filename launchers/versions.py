"""Versions of a sweep: what a submitted YAML changes against the run folder, and which trials stay points of it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from sweeps.space import Space
from sweeps.starting import ADAPTER, GIVEN
from sweeps.sweep import Sweep
from sweeps.trial import goes_on, make_trial
from sweeps.values import lookup
from tracking.ledger import SweepState, TrialState

COMPARED_FACTS = (
    "base_identity",
    "starts",
    "data_identity",
    "evaluation_files",
    "incumbent",
    "pools",
    "serving",
)
SHOWN_LENGTH = 60


def changes(state: SweepState, content: Mapping[str, Any]) -> list[str]:
    """What a ``sweep`` event would change against the state's present version, one ``path: old → new`` each.

    Paths on this machine, versions of libraries and the code's commit are no change: they decide no result.
    """
    before, after = _compared(state.spec, state.recipe, state.facts), _compared(**_parts(content))
    differ = [path for path in dict.fromkeys([*before, *after]) if before.get(path) != after.get(path)]
    written = {path.removeprefix("set.") for path in differ if path.startswith("set.")}
    written |= {"incumbent" for path in differ if path.startswith("evaluate.incumbent")}
    return [
        f"{path}: {_shown(before.get(path))} → {_shown(after.get(path))}"
        for path in differ
        if path.removeprefix("recipe.") not in written  # told as it was written
    ]


def kept(state: SweepState, sweep: Sweep) -> dict[str, dict[str, Any]]:
    """The trials of any version that are points of this one, with their values in it: they are not run again.

    Those of an earlier stage are no points of it; they take part anew.
    """
    drawn = (trial for trial in state.every_trial.values() if trial.stage is None)
    found = ((trial, _point_of(state, sweep, trial)) for trial in drawn)
    return {trial.id: values for trial, values in found if values is not None}


def _point_of(state: SweepState, sweep: Sweep, trial: TrialState) -> dict[str, Any] | None:
    path = state.folder / "trials" / trial.id / "trial.yaml"
    if not path.is_file():
        return None
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    starts = [sweep.space.default_values()] if sweep.spec.search.start_at == "default" else []
    for point in [*starts, *_points_at(sweep.space, settings, trial.values)]:
        made = make_trial(sweep, trial.number, point, trial.repeat)
        if made.id == trial.id:
            return made.values
    return None


def _points_at(space: Space, settings: Mapping[str, Any], drawn: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The points of the space that may be these settings' own; the trial's id, made of contents, tells which one is.

    Args:
        drawn: The values that the settings were made from. They stand for what a start decides in the settings, where
            any value of the space makes the same trial.
    """
    given = [f"lora.{key}" for key in GIVEN if f"lora.{key}" in space.dimensions] if goes_on(settings) else []
    try:
        values = {key: lookup(settings, key) for key in space.dimensions if key not in given}
    except KeyError:
        return
    for key in given:
        distribution = space.dimensions[key].distribution
        is_inside = key in drawn and distribution.contains(drawn[key])
        values[key] = drawn[key] if is_inside else distribution.sample(0.5)
    yield from (point for point in _from_any_adapter(space, values) if _is_inside(space, point))


def _from_any_adapter(space: Space, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same values with the adapter as it is written, then with each of the space: it may have moved since."""
    yield values
    if ADAPTER in space.dimensions:
        for adapter in space.dimensions[ADAPTER].distribution.values():
            yield {**values, ADAPTER: adapter}


def _is_inside(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether every value whose condition holds is one of the space."""
    for key, dimension in space.dimensions.items():
        active = dimension.when is None or dimension.when.holds(values, space.defaults)
        if active and not dimension.distribution.contains(values[key]):
            return False
    return True


def _parts(content: Mapping[str, Any]) -> dict[str, Any]:
    # As the ledger would give it back: JSON knows no tuples.
    return {key: json.loads(json.dumps(content[key])) for key in ("spec", "recipe", "facts")}


def _compared(spec: Mapping[str, Any], recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: facts.get(key) for key in COMPARED_FACTS}
    return dict([*_flat(spec, ""), *_flat(recipe, "recipe."), *_flat(told, "")])


def _flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else "–" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…"
