"""The search space: what is tried at each key, and when a key counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeVar

from sweeps.conditions import Condition, Term, parse_condition
from sweeps.distributions import Choice, Distribution, Fixed, IntRange, LogUniform, QUniform, Uniform
from sweeps.errors import nearest
from sweeps.facts import KeyFacts, RecipeFacts
from sweeps.grammar import GrammarError, format_value, quote
from sweeps.syntax import coerce, number_hint, parse_distribution, violation
from sweeps.values import lookup, same

T = TypeVar("T")
Report = Callable[[tuple[str | int, ...], str, str], None]  # path into the sweep, rule, hint

# What a key is worth where its condition is false and nothing else is said: the value that switches its effect off.
NEUTRAL: dict[str, Any] = {
    "optimizer.weight_decay": 0.0,
    "optimizer.momentum": 0.0,
    "lora.dropout": 0.0,
    "schedule.warmup_steps": 0,
    "schedule.min_lr_ratio": 0.0,
    "preference.label_smoothing": 0.0,
    "preference.sft_weight": 0.0,
}

_CONDITIONAL_KEYS = ("when", "value", "otherwise")


@dataclass(frozen=True)
class Dimension:
    """One swept key: its distribution, the condition under which it is swept, and its value where that is false."""

    distribution: Distribution
    when: Condition | None = None
    neutral: Any = None


@dataclass(frozen=True)
class Space:
    """The swept keys in the order they are written, and the settings that everything else is taken from.

    Attributes:
        dimensions: By the key's dotted path.
        defaults: The recipe's nested settings with ``set`` applied.
    """

    dimensions: Mapping[str, Dimension]
    defaults: Mapping[str, Any]

    @property
    def size(self) -> int | None:
        """The number of combinations, conditions not counted; None where a key is continuous."""
        product = 1
        for dimension in self.dimensions.values():
            if dimension.distribution.size is None:
                return None
            product *= dimension.distribution.size
        return product

    def default_values(self) -> dict[str, Any]:
        """The recipe's own value of every swept key."""
        return {key: lookup(self.defaults, key) for key in self.dimensions}

    def sample(self, coordinates: Mapping[str, float]) -> dict[str, Any]:
        """The completed values at a point of the unit cube, given by key."""
        return self.complete({key: self.dimensions[key].distribution.sample(u) for key, u in coordinates.items()})

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every swept key: neutral where its condition is false, the recipe's default where none is given.

        Completing twice changes nothing.

        Raises:
            KeyError: A value is given for a key that is not swept.
        """
        for key in values:
            if key not in self.dimensions:
                raise KeyError(key)
        result: dict[str, Any] = {}
        for key in self.order():
            dimension = self.dimensions[key]
            if dimension.when is None or dimension.when.holds(result, self.defaults):
                result[key] = values[key] if key in values else lookup(self.defaults, key)
            else:
                result[key] = dimension.neutral
        return {key: result[key] for key in self.dimensions}

    def order(self) -> tuple[str, ...]:
        """The keys, each after those that its condition looks at."""
        return _dependency_order(self.dimensions)


def _dependency_order(dimensions: Mapping[str, Dimension]) -> tuple[str, ...]:
    """Raises CycleError where conditions depend on each other."""
    graph = {
        key: [
            other for other in (dimension.when.keys if dimension.when else ()) if other in dimensions and other != key
        ]
        for key, dimension in dimensions.items()
    }
    if not any(graph.values()):
        return tuple(graph)
    return tuple(TopologicalSorter(graph).static_order())


@dataclass(frozen=True)
class Entry:
    """What is written at one key of the space, read but not yet compared with a recipe."""

    distribution: Distribution
    when: Condition | None = None
    otherwise: Any = None
    has_otherwise: bool = False


def read_entry(key: str, raw: Any, report: Report, kind: str = "any") -> Entry | None:
    """Read the value of one key under ``space``; what is wrong is reported, and then there is no entry."""
    path = ("space", key)
    if not (isinstance(raw, Mapping) and ("when" in raw or "otherwise" in raw)):
        distribution = _read(lambda: parse_distribution(raw, kind), path, report)
        return Entry(distribution) if distribution else None
    for name in raw:
        if name not in _CONDITIONAL_KEYS:
            report((*path, name), f'unknown key "{name}"', nearest(name, _CONDITIONAL_KEYS))
    for name in ("when", "value"):
        if name not in raw:
            report(path, f"a conditional key needs {name}", "write {when: <condition>, value: <distribution>}")
    when = _read(lambda: parse_condition(raw["when"]), (*path, "when"), report) if "when" in raw else None
    distribution = (
        _read(lambda: parse_distribution(raw["value"], kind), (*path, "value"), report) if "value" in raw else None
    )
    otherwise, has_otherwise = raw.get("otherwise"), "otherwise" in raw
    if has_otherwise:
        fixed = _read(lambda: parse_distribution(otherwise, kind), (*path, "otherwise"), report)
        match fixed:
            case None:
                return None
            case Fixed(value):
                otherwise = value
            case Choice() if isinstance(otherwise, list):
                pass
            case _:
                report((*path, "otherwise"), f"must be a plain value, but got {quote(otherwise)}", "")
                return None
    if when is None or distribution is None:
        return None
    return Entry(distribution, when, otherwise, has_otherwise)


def _read(parse: Callable[[], T], path: tuple[str | int, ...], report: Report) -> T | None:
    try:
        return parse()
    except GrammarError as error:
        report(path, error.rule, error.hint)
        return None


def build_space(
    raw: Mapping[str, Any], facts: RecipeFacts, settings: Mapping[str, Any], report: Report
) -> Space | None:
    """Compare what is written under ``space`` with a recipe.

    Args:
        raw: The block as it is in the YAML.
        facts: The recipe.
        settings: The recipe's settings with ``set`` applied.
        report: Called with everything that is wrong, except texts that cannot be read:
            :func:`read_entry` reports those.

    Returns:
        The space, or None where anything was reported or could not be read.
    """
    problems = 0

    def count(path: tuple[str | int, ...], rule: str, hint: str = "") -> None:
        nonlocal problems
        problems += 1
        report(path, rule, hint)

    def unreadable(path: tuple[str | int, ...], rule: str, hint: str = "") -> None:
        nonlocal problems
        problems += 1

    dimensions: dict[str, Dimension] = {}
    for key, value in raw.items():
        key_facts = facts.keys.get(key)
        if key_facts is None:
            rule, hint = unknown_key(key, facts)
            count(("space", key), rule, hint)
            continue
        entry = read_entry(key, value, unreadable)
        if entry is None:
            continue
        entry = read_entry(key, value, count, key_facts.kind)  # readable, but perhaps not by a key of this kind
        if entry is None:
            continue
        inner = ("value",) if entry.when is not None else ()
        _check_limits(("space", key, *inner), entry.distribution, key_facts, count)
        neutral = _neutral(key, entry, key_facts, settings)
        if entry.has_otherwise and (rule := violation(neutral, key_facts)):
            count(("space", key, "otherwise"), f"{rule}, but got {quote(neutral)}")
        dimensions[key] = Dimension(entry.distribution, entry.when, neutral)
    for key, dimension in dimensions.items():
        if dimension.when is not None:
            for term in dimension.when.terms:
                _check_term(("space", key, "when"), key, term, raw, dimensions, facts, count)
    try:
        _dependency_order(dimensions)
    except CycleError as error:
        cycle = error.args[1]
        for key in cycle[:1]:
            count(("space", key, "when"), f"conditions must not depend on each other: {' → '.join(reversed(cycle))}")
    return None if problems else Space(dimensions, settings)


def unknown_key(key: str, facts: RecipeFacts) -> tuple[str, str]:
    """Rule and hint for a path that the recipe does not let a sweep set."""
    try:
        inside = lookup(facts.settings, key)
    except KeyError:
        return f'recipe {facts.name} has no key "{key}"', nearest(key, tuple(facts.keys))
    if isinstance(inside, Mapping):
        members = [path for path in facts.keys if path.startswith(f"{key}.")]
        return f'"{key}" is a group of keys in recipe {facts.name}', f"name one of them: {', '.join(members)}"
    return f'recipe {facts.name} does not let a sweep change "{key}"', ""


def _is_leaf(settings: Mapping[str, Any], key: str) -> bool:
    try:
        return not isinstance(lookup(settings, key), Mapping)
    except KeyError:
        return False


def _neutral(key: str, entry: Entry, key_facts: KeyFacts, settings: Mapping[str, Any]) -> Any:
    if entry.has_otherwise:
        return coerce(entry.otherwise, key_facts.kind)
    if entry.when is not None and key in NEUTRAL and not violation(NEUTRAL[key], key_facts):
        return NEUTRAL[key]
    return lookup(settings, key)


def _check_limits(path: tuple[str | int, ...], distribution: Distribution, facts: KeyFacts, report: Report) -> None:
    """Report every value that the distribution allows and the recipe does not; of a range, its ends."""
    match distribution:
        case Fixed(value):
            if rule := violation(value, facts):
                report(path, f"{rule}, but got {quote(value)}", _near(value, facts))
            return
        case Choice(options):
            ends = list(options)
        case IntRange(low, high):
            ends = [low] if low == high else [low, high]
        case Uniform(low, high) | LogUniform(low, high) | QUniform(low, high):
            ends = [low, high]
    for value in ends:
        if rule := violation(value, facts):
            report(path, f"{rule}, but {distribution.describe()} has {quote(value)}", _near(value, facts))


def _near(value: Any, facts: KeyFacts) -> str:
    texts = tuple(choice for choice in facts.choices or () if isinstance(choice, str))
    return nearest(value, texts) if isinstance(value, str) and texts else number_hint(value, violation(value, facts))


def _check_term(
    path: tuple[str | int, ...],
    key: str,
    term: Term,
    raw: Mapping[str, Any],
    dimensions: Mapping[str, Dimension],
    facts: RecipeFacts,
    report: Report,
) -> None:
    """Report a comparison with an unknown key, or with a value that the key never has."""
    if term.key == key:
        report(path, f"a condition must not look at its own key, but got {term.describe()}", "")
        return
    if term.key not in facts.keys:
        if term.key not in raw and not _is_leaf(facts.settings, term.key):  # a swept one was reported where it stands
            report(path, *unknown_key(term.key, facts))
        return
    key_facts = facts.keys[term.key]
    if term.operator not in ("==", "!=", "in"):
        if key_facts.kind in ("str", "bool", "list"):
            report(path, f'{term.operator} needs a number, but "{term.key}" has none', "use ==, != or in")
        return
    for value in term.value if term.operator == "in" else (term.value,):
        rule, known = "", tuple(key_facts.choices or ())
        if term.key in dimensions:
            dimension = dimensions[term.key]
            neutral = dimension.when is not None and same(dimension.neutral, value)
            if not (neutral or dimension.distribution.contains(value)):
                rule = f"{term.key} is never {quote(value)} in {dimension.distribution.describe()}"
                known = dimension.distribution.options if isinstance(dimension.distribution, Choice) else ()
        elif term.key not in raw and (violated := violation(coerce(value, key_facts.kind), key_facts)):
            rule = f"{term.key} {violated}, but got {quote(value)}"
        if rule:
            texts = tuple(option for option in known if isinstance(option, str))
            hint = nearest(value, texts) if isinstance(value, str) and texts else ""
            if not hint and known:
                hint = f"valid: {', '.join(format_value(option) for option in known)}"
            report(path, rule, hint)
