"""Defects that need no knowledge of the task: any JSON answer can break or lack something, any text run on or off."""

import json
import random
from collections.abc import Iterator
from typing import Any

BOILERPLATE = (
    "We hope that this helps.",
    "Please do not hesitate to ask for more.",
    "Everything was chosen with great care.",
    "There is something for everybody here.",
    "Quality and value come first.",
    "These are great options, each in its own way.",
)
_TRIES = 50
_STRUCTURE = '{}[]":,'


def dice(defect: str, row: dict[str, Any]) -> random.Random:
    """The same draws for the same defect and row, whenever they are planted."""
    return random.Random(f"{defect}-{row.get('id')}")


def read(answer: str) -> Any:
    """An answer that is a JSON object or list; None where it is none."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def written(value: Any, like: str = "") -> str:
    """JSON in the spacing of another answer (dense, wide or indented): a planted defect is not known by its commas."""
    found = read(like)
    for indent in (None, 2, 4):
        if found is not None and json.dumps(found, ensure_ascii=False, indent=indent) == like.strip():
            return json.dumps(value, ensure_ascii=False, indent=indent)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def broken_json(row: dict[str, Any], answer: str) -> str | None:
    """JSON that is cut off, or lacks one of its signs: it does not parse."""
    if read(answer) is None:
        return None
    draw, text = dice("broken_json", row), answer.strip()
    for _ in range(_TRIES):
        if draw.random() < 0.5:
            broken = text[: draw.randrange(len(text) // 2, len(text))]
        else:
            place = draw.choice([place for place, sign in enumerate(text) if sign in _STRUCTURE])
            broken = text[:place] + text[place + 1 :]
        try:
            json.loads(broken)
        except ValueError:
            return broken
    return None


def missing_element(row: dict[str, Any], answer: str) -> str | None:
    """JSON in which one list, of those with two elements or more, lacks one."""
    value = read(answer)
    lists = [found for found in _lists(value) if len(found) > 1]
    if not lists:
        return None
    draw = dice("missing_element", row)
    chosen = draw.choice(lists)
    del chosen[draw.randrange(len(chosen))]
    return written(value, answer)


def padding(row: dict[str, Any], answer: str) -> str | None:
    """An answer that says more than it has to: boilerplate after its longest text, or under a key of its own."""
    if not answer.strip():
        return None
    draw = dice("padding", row)
    more = " ".join(draw.sample(BOILERPLATE, 3))
    value = read(answer)
    if value is None:
        return None if _is_json(answer) else f"{answer.rstrip()} {more}"
    prose = [place for place in _texts(value) if " " in place[0][place[1]].strip()]
    if prose:
        holder, key = max(prose, key=lambda place: len(place[0][place[1]]))
        holder[key] = f"{holder[key]} {more}"
    elif isinstance(value, dict):
        value["note" if "note" not in value else "more"] = more
    else:
        value.append(value[-1] if value else more)
    return written(value, answer)


def truncation(row: dict[str, Any], answer: str) -> str | None:
    """Plain text that ends in the middle."""
    words = answer.split(" ")
    if _is_json(answer) or len(words) < 4:
        return None
    kept = dice("truncation", row).randint(len(words) // 4, 3 * len(words) // 4)
    return " ".join(words[: max(1, kept)])


def _is_json(answer: str) -> bool:
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return True


def _lists(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, list):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _lists(inner)


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every text in a JSON value, as what holds it and its place there."""
    places = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for key, inner in places:
        if isinstance(inner, str):
            yield value, key
        elif isinstance(inner, dict | list):
            yield from _texts(inner)
