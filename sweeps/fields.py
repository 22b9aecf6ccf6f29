"""The kinds of values that blocks of a sweep YAML are made of, each with its rule."""

import itertools
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from sweeps.grammar import quote

Mode = Literal["min", "max"]


def broken_rule(rule: str, hint: str = "") -> PydanticCustomError:
    """An error of our own in pydantic's form; ``sweeps.loading`` turns it into a Problem as it is."""
    return PydanticCustomError("podium", "{rule}", {"rule": rule, "hint": hint})


def empty_block(value: Any) -> Any:
    """A block that is named but left empty has its defaults."""
    return {} if value is None else value


def as_tuple(value: Any) -> Any:
    """One name is a list of one; lists are held as tuples."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


_UNIT_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def duration_s(value: Any) -> Any:
    """``6h``, ``1h30m``, ``90m``, ``45s``, ``800ms`` or a number of seconds, in seconds."""
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d*\.?\d+)\s*(ms|[dhms])\s*", value)
    units = [_UNIT_S[unit] for _, unit in parts]
    descend = all(before > after for before, after in itertools.pairwise(units))
    if not descend or not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", value):
        raise broken_rule(f"must be a time, but got {quote(value)}", "write 6h, 1h30m, 90m, 45s or a number of seconds")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def _url(value: str) -> str:
    if not re.match(r"https?://[^\s/]+", value):
        raise broken_rule(f"must be a URL, but got {quote(value)}", "for example http://localhost:8000/v1")
    return value


def _variable_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        # The value is not quoted: it may be the key itself.
        raise broken_rule("must be the name of an environment variable", "the key itself does not belong in a sweep")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise broken_rule("must not be empty")
    return value


def unique(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise broken_rule(f"must not name anything twice, but {quote(value)} is")
    return values


Text = Annotated[str, AfterValidator(_not_empty)]

Names = Annotated[tuple[Text, ...], BeforeValidator(as_tuple), AfterValidator(unique)]

Count = Annotated[int, Field(ge=1)]

Amount = Annotated[float, Field(gt=0)]

Url = Annotated[str, AfterValidator(_url)]

VariableName = Annotated[str, AfterValidator(_variable_name)]


class Block(BaseModel):
    """What all blocks have in common: no unknown keys, no silent conversions ("20" is no number, true is not 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
