"""Gates: what an answer must get past before anybody is paid to judge it.

A gate is any metric of one answer, read as yes or no: an answer passes where every number that the metric gives is at
the top of its range. So the metrics of ``evaluate.metrics`` are gates too, and two more are here. Each is recorded as
``gate/<name>``, 1 where the answer passes.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.evaluating import BUILT_IN_GATES, short_name
from tracking.meters.metrics import Item, Metric, NotJsonError, load_metric, parse_json

GATE = "gate/"
WHERE = "evaluate.gates"
GIFT_CARD = re.compile(r"\bgift[\s-]*(?:card|voucher|certificate)s?\b", re.IGNORECASE)
_TOP = {"quality/score": 5.0}  # of any other metric, 1


def load_gate(text: str, base_dir: Path, schema: dict[str, Any] | None = None, forbidden: Sequence[str] = ()) -> Metric:
    """The gate that an entry of ``evaluate.gates`` names, as a metric ``gate/<name>``: 1 where the answer passes.

    ``no_gift_card`` looks for gift cards, vouchers and certificates; ``safety`` for the user's own patterns
    (``evaluate.forbidden``), which case does not matter to; both in the text and in the strings of a JSON answer. Any
    other is a metric, by its name or as ``file.py:function``.

    Raises:
        InvalidInput: There is no such gate, ``safety`` has no patterns, ``json_schema`` no schema, or a pattern is
            none. From the gate itself: the metric fails, or gives no number at all.
    """
    name = GATE + short_name(text)
    if text == "no_gift_card":
        return _without([GIFT_CARD], name)
    if text == "safety":
        if not forbidden:
            rule = "safety looks for patterns of your own, and none are given"
            raise InvalidInput(Problem(WHERE, rule, "set evaluate.forbidden"))
        return _without([re.compile(pattern, re.IGNORECASE) for pattern in forbidden], name)
    if ":" not in text and text not in BUILT_IN_GATES:
        hint = f"{nearest(text, BUILT_IN_GATES)}, or file.py:function"
        raise InvalidInput(Problem(WHERE, f'no gate is called "{text}"', hint))
    metric = load_metric(text, base_dir, schema, WHERE)

    def gate(item: Item, answer: str) -> dict[str, float]:
        values = metric(item, answer)
        if not values:
            raise InvalidInput(Problem(WHERE, f"{text}, row {item.id!r}: a gate gives at least one number, got none"))
        return {name: float(all(value >= _TOP.get(key, 1.0) for key, value in values.items()))}

    return gate


def _without(patterns: Sequence[re.Pattern[str]], name: str) -> Metric:
    def gate(item: Item, answer: str) -> dict[str, float]:
        found = any(pattern.search(text) for text in _texts(answer) for pattern in patterns)
        return {name: float(not found)}

    return gate


def _texts(answer: str) -> Iterator[str]:
    """The answer as it stands and, since JSON may write any letter as a code, its strings as they are read."""
    yield answer
    try:
        yield from _strings(parse_json(answer))
    except NotJsonError:
        pass


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
