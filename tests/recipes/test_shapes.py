"""A schema that is read off examples allows the examples, and nothing that none of them shows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.shapes import schema_of
from tracking.meters.metrics import validator

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.sampled_from(["low", "high", "", "an answer", "é"])
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, min_size=1, max_size=12))
def test_every_example_is_allowed(values: list[Any]) -> None:
    allowed = validator(schema_of(values))
    assert all(allowed(value) for value in values)


@given(st.lists(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3), min_size=1, max_size=12))
def test_a_key_that_no_example_has_is_refused_and_one_that_all_have_is_required(values: list[dict[str, Any]]) -> None:
    allowed = validator(schema_of(values))
    assert not any(allowed({**value, "another": 1}) for value in values)
    for key in set.intersection(*map(set, values)):
        assert not allowed({name: inner for name, inner in values[0].items() if name != key})


@pytest.mark.parametrize(
    ("values", "schema"),
    [
        ([1, 2], {"type": "integer"}),
        ([1, 2.5], {"type": "number"}),
        ([True, None], {"type": ["boolean", "null"]}),
        (["a", "b"], {"type": "string"}),
        (["a", "b"] * 4, {"type": "string", "enum": ["a", "b"]}),
        ([str(n % 13) for n in range(130)], {"type": "string"}),
        ([[1], []], {"type": "array", "items": {"type": "integer"}}),
        (
            [{"a": 1}, {"a": 2, "b": []}],
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "array"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_schemas(values: list[Any], schema: dict[str, Any]) -> None:
    assert schema_of(values) == schema
