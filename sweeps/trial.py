"""One trial: the values it trains with, and an id that two trials share exactly if they train the same."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.facts import RecipeFacts, StartFacts
from sweeps.sweep import Sweep
from sweeps.values import canonical, flat, lookup, same, with_values

_IDENTIFIED_GROUPS = ("base", "data")  # known by the hashes of their contents, not by their paths


@dataclass(frozen=True)
class Trial:
    """A frozen trial.

    Attributes:
        number: Its place in the sweep; no part of the id.
        values: The value of every swept key by its path, completed (see :meth:`sweeps.space.Space.complete`).
        settings: The recipe's nested settings with the values and the seed applied.
        seed: ``train.seed`` plus the repeat.
        id: Twelve hexadecimal digits.
        max_steps: Optimizer steps.
        repeat: Which repetition of its point this is.
    """

    number: int
    values: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    id: str
    max_steps: int
    repeat: int = 0


def make_trial(sweep: Sweep, number: int, values: Mapping[str, Any], repeat: int = 0) -> Trial:
    """The trial at a point of the sweep's space.

    Args:
        sweep: The sweep.
        number: Its place in the sweep.
        values: Values of swept keys; those that are missing or whose condition is false are filled in.
        repeat: Which repetition of the point this is; each has a seed of its own.

    Raises:
        KeyError: A value is given for a key that is not swept.
    """
    completed = sweep.space.complete(values)
    settings = trial_settings(sweep.settings, completed, repeat, sweep.facts.starts)
    seed = settings["train"]["seed"]
    max_steps = num_steps(settings, sweep.facts.train_rows)
    return Trial(number, completed, settings, seed, trial_id(sweep.facts, settings, max_steps), max_steps, repeat)


def trial_settings(
    recipe: Mapping[str, Any], values: Mapping[str, Any], repeat: int, starts: Mapping[str, StartFacts]
) -> dict[str, Any]:
    """A recipe's settings at a point of the space: with its values, the repeat's seed, and what its start decides."""
    settings = with_values(recipe, values)
    settings["train"]["seed"] = int(settings["train"].get("seed") or 0) + repeat
    if goes_on(settings):
        settings["lora"] |= starts[settings["start"]["adapter"]].lora
    return settings


def goes_on(settings: Mapping[str, Any]) -> bool:
    """Whether a trial trains the adapter itself that it starts from, with the rank and the layers that it has."""
    start = settings.get("start") or {}
    return start.get("adapter") is not None and start["mode"] == "continue"


def num_steps(settings: Mapping[str, Any], train_rows: int) -> int:
    """Optimizer steps: ``train.max_steps``, else ``train.epochs`` times the batches of an epoch, the last one short."""
    train = settings["train"]
    if train.get("max_steps") is not None:
        return int(train["max_steps"])
    batches = math.ceil(train_rows / int(train["batch_size"]))
    return max(1, math.ceil(float(train.get("epochs") or 1) * batches))


def trial_id(facts: RecipeFacts, settings: Mapping[str, Any], max_steps: int) -> str:
    """The hash of what a trial learns from.

    SHA-256 over the canonical JSON of the identities of base, start adapter and data, the engine, and the settings that
    change training. Not of pool, resources, search, evaluation or number.
    """
    training = {group: settings[group] for group in facts.training_groups if group in settings}
    contents = {
        "base": facts.base_identity,
        "start": _start(facts, settings),
        "data": facts.data_identity,
        "engine": settings.get("engine", facts.engine),
        "settings": _effective(training, max_steps),
        "seed": settings["train"]["seed"],
        "other_contents": _other_contents(facts, settings),
    }
    if settings.get("method", "sft") != "sft":
        contents |= {"method": settings["method"], "preference": _effective_preference(settings["preference"])}
    text = json.dumps(canonical(contents), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _start(facts: RecipeFacts, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The adapter that a trial starts from, by its contents, and how."""
    start = settings.get("start") or {}
    if start.get("adapter") is None:
        return None
    return {"adapter": facts.starts[start["adapter"]].identity, "mode": start["mode"]}


def _effective_preference(preference: Mapping[str, Any]) -> dict[str, Any]:
    """The preference settings with different ways to write the same training made one: IPO smooths no labels."""
    return {**preference, "label_smoothing": 0.0} if preference["loss"] == "ipo" else dict(preference)


def _effective(training: Mapping[str, Any], max_steps: int) -> dict[str, Any]:
    """The training settings with different ways to write the same training made one."""
    result = {group: dict(keys) if isinstance(keys, Mapping) else keys for group, keys in training.items()}
    optimizer = result.get("optimizer")
    # AdamW differs from Adam in how it applies weight decay, and in nothing else.
    if isinstance(optimizer, dict) and optimizer.get("name") in ("adam", "adamw") and not optimizer.get("weight_decay"):
        optimizer |= {"name": "adam", "weight_decay": 0}
    train = result.get("train")
    if isinstance(train, dict):
        train.pop("epochs", None)
        train |= {"max_steps": max_steps}
        train.pop("seed", None)  # stands at the top, whether or not it is a training group
    return result


def _other_contents(facts: RecipeFacts, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Keys by which a trial has another base, start adapter, data or order than ``facts`` and the groups say.

    A quantised base is one: the files are the same, but the weights that are adapted are not.
    """
    changed = {}
    for path in facts.training_keys:
        group, _, key = path.partition(".")
        if value := settings.get(group, {}).get(key):  # as if it were not there otherwise, as in earlier versions
            changed[path] = value
    for group in _IDENTIFIED_GROUPS:
        if group in facts.training_groups or not isinstance(settings.get(group), Mapping):
            continue
        for path, value in flat(settings[group], f"{group}."):
            try:
                default = lookup(facts.settings, path)
            except KeyError:
                default = None
            if not same(value, default):
                changed[path] = value
    return changed
