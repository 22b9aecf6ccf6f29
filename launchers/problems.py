"""Files of pools and prices: read as a sweep's YAML is, and what pydantic finds wrong in them, in our words."""

import reprlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.source import read_source


def read_block(path: Path, needed: str) -> dict[str, Any]:
    """The keys of a YAML file.

    Args:
        path: The file.
        needed: What it must have, for messages.

    Raises:
        InvalidInput: It cannot be read, or is no block of keys.
    """
    source = read_source(path, needed=needed)
    if source.problems:
        raise InvalidInput(source.problems, str(path))
    return source.values


def in_words(detail: ErrorDetails, model: type[BaseModel], prefix: str = "", **blocks: type[BaseModel]) -> Problem:
    """The problem behind an error.

    Args:
        model: What the file is; ``blocks`` what its blocks are, by their key.
        prefix: Of the path, where the model is an entry of a file.
    """
    *block, key = map(str, detail["loc"]) if detail["loc"] else ("",)
    where = ".".join(part for part in (prefix, *block, key) if part)
    if detail["type"] == "podium":
        context = detail.get("ctx", {})
        return Problem(where, str(context["rule"]), str(context["hint"]))
    if detail["type"] == "extra_forbidden":
        valid = tuple(blocks.get("".join(block), model).model_fields)
        return Problem(where, f'unknown key "{key}"', nearest(key, valid))
    if detail["type"] == "missing":
        return Problem(where, "is missing")
    return Problem(where, f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, but got {reprlib.repr(detail['input'])}")
