"""The judge's block of a sweep YAML."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from sweeps.errors import nearest
from sweeps.fields import Amount, Block, Text, Url, VariableName, as_tuple, broken_rule, duration_s, empty_block
from sweeps.grammar import quote
from sweeps.pricing import TokenPrice

LEVELS = tuple(str(level) for level in range(6))


def _rubric(value: Any) -> Any:
    """A rubric as text, also where it was written as a task and what each level means."""
    if isinstance(value, Mapping):
        unknown = [str(key) for key in value if key not in ("task", "levels")]
        if unknown:
            raise broken_rule(f"unknown key {quote(unknown[0])}", nearest(unknown[0], ("task", "levels")))
        levels = value.get("levels")
        told = {str(key): text for key, text in levels.items()} if isinstance(levels, Mapping) else {}
        for key in told:
            if key not in LEVELS:
                raise broken_rule(f"levels are from 0 to 5, but got {quote(key)}")
        missing = [key for key in LEVELS if not isinstance(told.get(key), str) or not told[key].strip()]
        if missing:
            which = f"level {missing[0]} is" if len(missing) == 1 else f"levels {', '.join(missing)} are"
            raise broken_rule(f"{which} not described", "say in words what each level from 0 to 5 is")
        task = value.get("task")
        if not isinstance(task, str) or not task.strip():
            raise broken_rule("has levels, but no task", "write task: and what the answers are judged for")
        value = "\n".join([task.strip(), *(f"{key}: {told[key].strip()}" for key in reversed(LEVELS))])
    if isinstance(value, str) and "{{" in value:
        raise broken_rule("a rubric is plain text without {{ }}")  # they would be filled in
    return value


def as_panel(value: Any) -> Any:
    """A list of judges is a panel."""
    return {"panel": value} if isinstance(value, list) else value


_OURS = ("messages", "model", "response_format", "stream", "n", "tools", "tool_choice")


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    for key, entry in value.items():
        if key in _OURS:
            raise broken_rule(f"{quote(key)} is not a parameter that a judge may have", "temperature, seed, …")
        if not isinstance(entry, str | int | float | bool | None):
            raise broken_rule(f"{quote(key)} must be a plain value")
    return value


def _several(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(value) == 1:
        raise broken_rule("must be two judges or more, but got 1", "one judge is written without panel")
    return value


def _unless_panel(value: Any, info: ValidationInfo) -> Any:
    """A judge needs a model, an endpoint and a rubric; of a panel each member has its own, or all have the block's."""
    name = info.field_name or ""
    panel = info.data.get("panel")
    if value is None and not panel:
        if panel is not None:  # else the panel itself is wrong, and is told
            raise broken_rule("is missing")
    elif panel and name == "model" and value is not None:
        raise broken_rule("must be one of model and panel, but got both", "write each model under panel")
    elif panel and value is None and name != "model":
        without = [member.model for member in panel if getattr(member, name) is None]
        if without:
            raise broken_rule(f"is missing for {', '.join(map(quote, without))}", f"write {name}: for all, or for each")
    return value


Rubric = Annotated[Text, BeforeValidator(_rubric)]

Parameters = Annotated[dict[str, Any], AfterValidator(_parameters)]


class Calibration(Block):
    """What a judge must show against people's labels before its scores promote anything.

    Attributes:
        min_kappa: The least quadratic weighted kappa; None asks for none.
    """

    min_kappa: Annotated[float, Field(ge=-1, le=1)] | None = None


class Panelist(Block):
    """One judge of a panel; what it leaves out is as the block around it says."""

    model: Text
    endpoint: Url | None = None
    rubric: Rubric | None = None
    revision: Text | None = None
    parameters: Parameters | None = None
    api_key_env: VariableName | None = None
    price: TokenPrice | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    timeout: Annotated[Amount | None, BeforeValidator(duration_s)] = None


class Judge(Block):
    """A language model that scores answers by a rubric, behind an OpenAI-compatible endpoint, or a panel of them.

    Attributes:
        rubric: Text; a rubric that was written as a task and its levels is that in words.
        revision: Of the model, where its name does not say it; other revisions give other verdicts.
        parameters: Of each request.
        timeout: Seconds that one request may take; written like ``budget.wall_clock``.
        panel: Two judges or more, in place of ``model``.
    """

    panel: Annotated[tuple[Panelist, ...], BeforeValidator(as_tuple), AfterValidator(_several)] = ()
    model: Annotated[Text | None, AfterValidator(_unless_panel)] = Field(default=None, validate_default=True)
    endpoint: Annotated[Url | None, AfterValidator(_unless_panel)] = Field(default=None, validate_default=True)
    rubric: Annotated[Rubric | None, AfterValidator(_unless_panel)] = Field(default=None, validate_default=True)
    revision: Text | None = None
    parameters: Parameters = Field(default_factory=lambda: {"temperature": 0.0})
    api_key_env: VariableName | None = None
    price: TokenPrice | None = None
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    timeout: Annotated[Amount, BeforeValidator(duration_s)] = 60.0
    calibration: Annotated[Calibration, BeforeValidator(empty_block)] = Calibration()
