from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.distributions import Choice, Distribution, Fixed, IntRange, LogUniform, QUniform, Uniform
from sweeps.facts import KeyFacts
from sweeps.grammar import GrammarError, format_value, parse_value
from sweeps.syntax import parse_distribution, violation
from sweeps.values import canonical, freeze, same, thaw

numbers = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
positive = st.floats(1e-12, 1e6, allow_nan=False, allow_subnormal=False)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    numbers,
    st.text(max_size=12).filter(lambda t: "${" not in t),
)
plain = st.one_of(scalars, st.lists(scalars, max_size=3))


def _distinct(options: list[Any]) -> bool:
    return not any(same(a, b) for i, a in enumerate(options) for b in options[:i])


def _ordered(pair: tuple[float, float]) -> bool:
    return pair[0] < pair[1]


choices = st.lists(plain, min_size=1, max_size=5).filter(_distinct).map(lambda options: Choice(freeze(options)))
uniforms = st.tuples(numbers, numbers).filter(_ordered).map(lambda pair: Uniform(*pair))
loguniforms = st.tuples(positive, positive).filter(_ordered).map(lambda pair: LogUniform(*pair))
ranges = st.builds(
    lambda low, count, step: IntRange(low, low + count * step, step),
    st.integers(-1000, 1000),
    st.integers(0, 50),
    st.integers(1, 20),
)
quniforms = st.builds(
    lambda low, count, q: QUniform(low * q, (low + count) * q, q),
    st.integers(-100, 100),
    st.integers(2, 50),
    st.sampled_from([0.1, 0.25, 1.0, 5.0, 1e-3]),
)
distributions: st.SearchStrategy[Distribution] = st.one_of(
    scalars.map(Fixed), choices, uniforms, loguniforms, ranges, quniforms
)


@given(plain)
def test_a_value_is_read_as_it_is_written(value: Any) -> None:
    read = parse_value(format_value(value))
    assert same(read, value)
    assert type(read) is type(value)


@given(distributions)
def test_a_distribution_is_read_as_it_describes_itself(distribution: Distribution) -> None:
    again = parse_distribution(distribution.describe())
    assert again == distribution
    assert again.describe() == distribution.describe()


@given(distributions, st.floats(0, 1))
def test_samples_are_contained(distribution: Distribution, u: float) -> None:
    assert distribution.contains(distribution.sample(u))


@given(distributions)
def test_a_finite_distribution_gives_all_its_values_and_no_other(distribution: Distribution) -> None:
    if distribution.size is None:
        with pytest.raises(ValueError, match="is continuous"):
            distribution.values()
        return
    values = distribution.values()
    assert len(values) == distribution.size
    assert _distinct(values)
    middles = [distribution.sample((index + 0.5) / distribution.size) for index in range(distribution.size)]
    assert middles == values
    assert all(distribution.contains(value) for value in values)


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_freezing_can_be_undone_and_canonical_values_are_equal(value: Any) -> None:
    assert thaw(freeze(value)) == value
    hash(freeze(value))
    assert canonical(value) == value


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("choice(adam, adamw)", Choice(("adam", "adamw"))),
        ("choice('a b', \"c,d\", null, true)", Choice(("a b", "c,d", None, True))),
        ("choice([q, v], [q])", Choice((("q", "v"), ("q",)))),
        ("adam, adamw", Choice(("adam", "adamw"))),
        (["adam", "adamw"], Choice(("adam", "adamw"))),
        ([1e-5, 1e-4], Choice((1e-5, 1e-4))),
        ("uniform(0, 1)", Uniform(0.0, 1.0)),
        ("uniform(low=0, high=1)", Uniform(0.0, 1.0)),
        ("loguniform(1e-5, 1e-3)", LogUniform(1e-5, 1e-3)),
        ("loguniform('1e-5', 1e-3)", LogUniform(1e-5, 1e-3)),
        ("tag(log, interval(1e-5, 1e-3))", LogUniform(1e-5, 1e-3)),
        ("interval(0.0, 1)", Uniform(0.0, 1.0)),
        ("interval(1, 5)", IntRange(1, 5)),
        ("quniform(0, 1, 0.25)", QUniform(0.0, 1.0, 0.25)),
        ("range(5)", IntRange(0, 4)),
        ("range(8, 65, 8)", IntRange(8, 64, 8)),
        ("range(8, 64, step=8)", IntRange(8, 56, 8)),
        ("range(5, 1, -1)", IntRange(2, 5)),
        ("range(0.1, 0.5, 0.1)", Choice((0.1, 0.2, 0.3, 0.4))),
        (0.1, Fixed(0.1)),
        ("1e-5", Fixed(1e-5)),
        (True, Fixed(True)),
        (None, Fixed(None)),
        ("nvidia/Llama-3.1-Nemotron-Nano-8B-v1", Fixed("nvidia/Llama-3.1-Nemotron-Nano-8B-v1")),
        ({"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-3}, LogUniform(1e-5, 1e-3)),
        ({"distribution": "uniform", "min": 0, "max": 1}, Uniform(0.0, 1.0)),
        ({"distribution": "int_uniform", "min": 1, "max": 5}, IntRange(1, 5)),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.5}, QUniform(0.0, 1.0, 0.5)),
        ({"distribution": "q_uniform", "min": 0, "max": 3}, QUniform(0.0, 3.0, 1.0)),
        ({"distribution": "categorical", "values": ["a", "b"]}, Choice(("a", "b"))),
        ({"distribution": "constant", "value": 3}, Fixed(3)),
        ({"values": [8, 16]}, Choice((8, 16))),
        ({"value": "adam"}, Fixed("adam")),
        ({"value": ["q", "v"]}, Choice((("q", "v"),))),
        ({"min": 1, "max": 5}, IntRange(1, 5)),
        ({"min": 1, "max": 5.0}, Uniform(1.0, 5.0)),
    ],
)
def test_accepted_forms(written: Any, distribution: Distribution) -> None:
    read = parse_distribution(written)
    assert read == distribution
    assert read.describe() == distribution.describe()


def test_the_key_decides_what_whole_bounds_mean() -> None:
    assert parse_distribution("interval(0, 1)", "float") == Uniform(0.0, 1.0)
    assert parse_distribution("interval(0, 1)", "int") == IntRange(0, 1)
    assert parse_distribution("quniform(8, 64, 8)", "int") == IntRange(8, 64, 8)
    assert parse_distribution("choice(8.0, 16)", "int").describe() == "choice(8, 16)"
    assert parse_distribution("choice(0, 1)", "float").describe() == "choice(0.0, 1.0)"


@pytest.mark.parametrize(
    ("written", "rule", "hint"),
    [
        ("uniform(0.5, 0.1)", "low must be below high, but got low=0.5, high=0.1", ""),
        ("uniform(1, 1)", "low must be below high, but got low=1.0, high=1.0", ""),
        ("uniform(0, inf)", "low and high must be finite numbers, but got low=0.0, high=inf", ""),
        ("loguniform(0, 1)", "low must be above 0 on a logarithmic scale, but got low=0.0", ""),
        ("uniform(a, 1)", 'low must be a number, but got "a"', ""),
        ("uniform(1)", "uniform needs high, but got uniform(1)", "write uniform(low, high)"),
        ("uniform(1, 2, 3)", "uniform takes 2 numbers, but got uniform(1, 2, 3)", "write uniform(low, high)"),
        ("uniform(1, 2, low=3)", 'uniform got "low" twice: uniform(1, 2, low=3)', "write uniform(low, high)"),
        ("uniform(lo=1, high=2)", 'uniform has no argument "lo"', 'did you mean "low"?'),
        ("lognuniform(1, 2)", 'unknown function "lognuniform"', 'did you mean "loguniform"?'),
        (
            "__import__(os)",
            'unknown function "__import__"',
            "valid: choice, uniform, loguniform, quniform, interval, range, tag",
        ),
        ("choice()", "a choice needs at least one value", ""),
        ("choice(8, 8.0)", "a choice must not list a value twice, but 8.0 is", ""),
        ("choice(1, nan)", "numbers must be finite, but got nan", ""),
        (
            "choice(uniform(0, 1), 2)",
            "distributions cannot be nested, but got uniform(0, 1)",
            "put uniform(…) in quotes if it is text",
        ),
        ("range(5, 5)", "a range needs at least one value, but got range(5, 5)", "its stop is excluded"),
        ("range(1, 5, 0)", "step must not be 0, but got range(1, 5, 0)", ""),
        (
            "range(0.0, 1.0, 1e-9)",
            "a range has at most 10000 values, but got range(0.0, 1.0, 1e-09)",
            "use uniform(low, high)",
        ),
        ("quniform(0.1, 0.2, 1)", "a multiple of q must lie between, but got low=0.1, high=0.2, q=1.0", ""),
        ("quniform(0, 1, 0)", "q must be above 0, but got q=0.0", ""),
        (
            "tag(lin, interval(0, 1))",
            "the only tag is log, but got tag(lin, interval(0, 1))",
            "write tag(log, interval(low, high))",
        ),
        (
            "tag(log, choice(1, 2))",
            "tag(log, …) needs an interval, but got tag(log, choice(1, 2))",
            "write tag(log, interval(low, high))",
        ),
        ("choice(1, 2", 'cannot read "choice(1, 2"', 'a ")" is missing'),
        ("choice(1, 2) extra", 'cannot read "choice(1, 2) extra"', "put text with special characters in quotes"),
        ("choice(${x})", 'interpolations are not resolved here, but got "choice(${x})"', "write the value itself"),
        (
            {"distribution": "normal", "mu": 0},
            "there is no normal distribution here",
            "valid: constant, categorical, uniform, int_uniform, log_uniform_values, q_uniform",
        ),
        (
            {"distribution": "log_uniform", "min": -5, "max": 0},
            "log_uniform takes exponents in W&B and is not read here",
            'did you mean "log_uniform_values"?',
        ),
        ({"distribution": "uniform", "min": 0}, "uniform needs max", ""),
        ({"distribution": "uniform", "min": 0, "mx": 1}, 'uniform has no key "mx"', 'did you mean "max"?'),
        (
            {"min": 0},
            "a distribution needs min and max, but got only min",
            "write value, values, min and max, or distribution",
        ),
        ({"vales": [1]}, 'unknown key "vales"', 'did you mean "values"?'),
        ({"values": 3}, "values must be a list, but got 3", ""),
        ({}, "a distribution is missing", "write value, values, min and max, or distribution"),
        ([], "a choice needs at least one value", ""),
        ([{"a": 1}], "a choice is between plain values or lists, but got {'a': 1}", ""),
    ],
)
def test_refusals_quote_the_value_and_the_rule(written: Any, rule: str, hint: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_distribution(written)
    assert (caught.value.rule, caught.value.hint) == (rule, hint)


def test_fractions_are_refused_where_the_key_takes_whole_numbers() -> None:
    with pytest.raises(GrammarError, match=r"must be a whole number, but uniform\(1.0, 5.0\) gives fractions"):
        parse_distribution("uniform(1, 5)", "int")


@pytest.mark.parametrize(
    ("value", "key", "rule"),
    [
        (1, KeyFacts("int", low=1), ""),
        (0, KeyFacts("int", low=1), "must be at least 1"),
        (0.0, KeyFacts("float", low=0, exclusive_low=True), "must be above 0"),
        (1.5, KeyFacts("float", high=1), "must be at most 1"),
        (1.5, KeyFacts("int"), "must be a whole number"),
        (True, KeyFacts("int"), "must be a whole number"),
        ("1", KeyFacts("float"), "must be a number"),
        (float("nan"), KeyFacts("float"), "must be a number"),
        (1, KeyFacts("str"), "must be text"),
        (1, KeyFacts("bool"), "must be true or false"),
        ("q", KeyFacts("list"), "must be a list"),
        (("q",), KeyFacts("list"), ""),
        (None, KeyFacts("int"), "must not be null"),
        (None, KeyFacts("int", optional=True), ""),
        ("sgdd", KeyFacts("str", choices=("adam", "sgd")), "must be one of adam, sgd"),
        ({"a": 1}, KeyFacts("any"), ""),
    ],
)
def test_limits_of_a_key(value: Any, key: KeyFacts, rule: str) -> None:
    assert violation(value, key) == rule
