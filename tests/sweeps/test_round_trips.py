"""Whatever the grammar can say is read as what it says when it is printed: distributions, conditions, whole spaces."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.conditions import Condition, Term, parse_condition
from sweeps.distributions import Choice, Distribution, Fixed, IntRange, LogUniform, QUniform, Uniform
from sweeps.errors import InvalidInput, Problem
from sweeps.space import Space
from sweeps.spec import Sweep
from sweeps.syntax import parse_distribution
from sweeps.values import freeze, thaw
from tests.sweeps.test_syntax import distributions, numbers, plain

Make = Callable[..., Sweep]


def as_mapping(distribution: Distribution) -> dict[str, Any] | None:
    """A distribution in W&B's words; None where W&B has none for it."""
    match distribution:
        case Fixed(value):
            return {"value": value}
        case Choice(options):
            return {"values": thaw(options)}
        case IntRange(low, high, 1):
            return {"distribution": "int_uniform", "min": low, "max": high}
        case Uniform(low, high):
            return {"distribution": "uniform", "min": low, "max": high}
        case LogUniform(low, high):
            return {"distribution": "log_uniform_values", "min": low, "max": high}
        case QUniform(low, high, q):
            return {"distribution": "q_uniform", "min": low, "max": high, "q": q}
    return None


@given(distributions)
def test_a_mapping_in_the_form_of_wandb_is_the_distribution_that_it_names(distribution: Distribution) -> None:
    mapping = as_mapping(distribution)
    if mapping is None:
        assert isinstance(distribution, IntRange)
        assert distribution.step > 1
        return
    read = parse_distribution(mapping)
    assert read == distribution
    assert parse_distribution(read.describe()) == read


keys = st.from_regex(r"[a-z_]{1,6}(\.[a-z_]{1,6}){0,2}", fullmatch=True).filter(lambda key: key not in ("or", "not"))
terms = st.one_of(
    st.builds(Term, keys, st.sampled_from(["==", "!="]), plain.map(freeze)),
    st.builds(Term, keys, st.sampled_from(["<", "<=", ">", ">="]), st.one_of(numbers, st.integers(-99, 99))),
    st.builds(Term, keys, st.just("in"), st.lists(plain, min_size=1, max_size=3).map(freeze)),
)


@settings(max_examples=300)
@given(st.lists(terms, min_size=1, max_size=3).map(lambda found: Condition(tuple(found))))
def test_a_condition_is_read_as_it_describes_itself(condition: Condition) -> None:
    again = parse_condition(condition.describe())
    assert again == condition
    assert again.describe() == condition.describe()


# Whole spaces over the recipe of conftest, written in every form ------------------------------------------------------

ranks = st.integers(1, 1024)
rates = st.floats(1e-9, 10, allow_nan=False)
shares = st.floats(0, 1, allow_nan=False)
words = st.sampled_from(["q_proj", "v_proj", "*_proj", "a b", "1e-5", "true", "", "it's", 'say "x"', "back\\"])


def pairs(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.tuples(values, values).map(sorted).map(tuple).filter(lambda pair: pair[0] < pair[1])  # type: ignore[return-value, arg-type, unused-ignore]


def choices(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Distribution]:
    return st.lists(values, min_size=1, max_size=4, unique_by=str).map(lambda found: Choice(freeze(found)))


WRITTEN: dict[str, st.SearchStrategy[Distribution]] = {
    "optimizer.name": choices(st.sampled_from(["adam", "adamw", "sgd"])),
    "optimizer.lr": st.one_of(
        pairs(rates).map(lambda pair: LogUniform(*pair)),
        pairs(rates).map(lambda pair: Uniform(*pair)),
        choices(rates),
        rates.map(Fixed),
    ),
    "lora.rank": st.one_of(
        choices(ranks), ranks.map(Fixed), pairs(ranks).map(lambda pair: IntRange(*pair)), st.just(IntRange(8, 64, 8))
    ),
    "lora.targets": choices(st.lists(words, min_size=1, max_size=3)),
    "optimizer.weight_decay": st.one_of(choices(shares), st.just(QUniform(0.0, 0.5, 0.1))),
    "schedule.min_lr_ratio": st.one_of(pairs(shares).map(lambda pair: Uniform(*pair)), choices(shares)),
}
CONDITIONAL = ("optimizer.weight_decay", "schedule.min_lr_ratio")


@st.composite
def written_spaces(draw: st.DrawFn) -> dict[str, Any]:
    """A ``space`` block: each key in the form of Hydra, of W&B, or as a plain value or list."""
    block: dict[str, Any] = {}
    drawn: dict[str, Distribution] = {}
    for key in draw(st.lists(st.sampled_from(list(WRITTEN)), min_size=1, unique=True)):
        distribution = drawn[key] = draw(WRITTEN[key])
        forms: list[Any] = [distribution.describe()]
        if (mapping := as_mapping(distribution)) is not None:
            forms.append(mapping)
        if isinstance(distribution, Choice):
            forms.append(thaw(distribution.options))
        block[key] = draw(st.sampled_from(forms))
    names = drawn.get("optimizer.name")
    name = draw(st.sampled_from(names.values() if names else ["adam", "adamw", "sgd"]))
    conditions = [f"optimizer.name == {name}", f"optimizer.name != {name} and lora.rank >= 8", "lora.rank < 16"]
    for key in block.keys() & set(CONDITIONAL):
        if draw(st.booleans()):
            block[key] = {"when": draw(st.sampled_from(conditions)), "value": block[key]}
            if draw(st.booleans()):
                block[key]["otherwise"] = draw(shares)
    return block


def printed(space: Space) -> dict[str, Any]:
    """A space as a block that can be read again."""
    return {
        key: dimension.distribution.describe()
        if dimension.when is None
        else {
            "when": dimension.when.describe(),
            "value": dimension.distribution.describe(),
            "otherwise": dimension.neutral,
        }
        for key, dimension in space.dimensions.items()
    }


@settings(max_examples=200)
@given(block=written_spaces())
def test_any_space_is_read_as_it_is_printed(make_sweep: Make, block: dict[str, Any]) -> None:
    space = make_sweep(f"space: {json.dumps(block)}").space
    again = make_sweep(f"space: {json.dumps(printed(space))}").space
    assert again == space
    assert list(again.dimensions) == list(block)
    assert printed(again) == printed(space)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(list(WRITTEN)), st.one_of(plain, st.text(max_size=20)), min_size=1))
def test_what_is_no_space_is_refused_in_words(make_sweep: Make, block: dict[str, Any]) -> None:
    """Whatever is written under ``space``, it is a space or a list of problems; nothing else is ever raised."""
    problems: list[Problem] = []
    try:
        make_sweep(f"space: {json.dumps(block, ensure_ascii=False)}")
    except InvalidInput as error:
        problems = error.problems
    assert all(problem.rule for problem in problems)
