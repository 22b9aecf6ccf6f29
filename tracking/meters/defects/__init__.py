"""Planted defects: a right answer with one thing made wrong, to see whether what scores the answers finds it.

Nothing here is shared with what scores. Were a blind spot of the rubric also one of the code that plants, nobody would
ever see it: so this package imports the shop's catalogue and task, and nothing of the metrics, the rubric or the judge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.evaluating import short_name
from tracking.meters.defects import generic, shop
from tracking.meters.functions import OwnFunction

Plant = Callable[[dict[str, Any], str], str | None]
"""A row and its right answer to the answer with the defect; None where the row has no place for it."""

WHERE = "evaluate.defects"
_JSON, _SHOP = "it needs answers that are JSON objects or lists", "it needs the demo's data"


@dataclass(frozen=True)
class Defect:
    """One kind of defect.

    Attributes:
        name: In names of metrics.
        plant: Always gives the same for the same row and answer, so that a judge is not paid twice.
        needs: Why it may apply to no row at all.
    """

    name: str
    plant: Plant
    needs: str


_BUILT_IN = (
    Defect("swapped_gender", shop.swapped_gender, f"{_SHOP}, and answers that name a gender"),
    Defect("gift_card", shop.gift_card, _SHOP),
    Defect("missing_category", shop.missing_category, _SHOP),
    Defect("invented_product", shop.invented_product, f"{_SHOP}, and products of its shop"),
    Defect("broken_json", generic.broken_json, _JSON),
    Defect("missing_element", generic.missing_element, f"{_JSON}, with a list of two elements or more"),
    Defect("padding", lambda row, answer: shop.padding(row, answer) or generic.padding(row, answer), "it needs text"),
    Defect("truncation", generic.truncation, "it needs answers in plain text; broken_json cuts JSON"),
)
BUILT_IN = {defect.name: defect for defect in _BUILT_IN}


def load_defect(text: str, base_dir: Path) -> Defect:
    """The defect that an entry of ``evaluate.defects`` names: a built-in's name, or ``file.py:function``.

    A user's function has the signature ``(row: dict, answer: str) -> str | None``: the data row with ``id``,
    ``messages`` and ``reference``, and the right answer's text. Loading the file runs it.

    Raises:
        InvalidInput: No such built-in, file or function, or the file fails to load. From the defect itself: the
            function raises, returns something else, or the answer as it was.
    """
    if text in BUILT_IN:
        return BUILT_IN[text]
    if ":" not in text:
        hint = f"{nearest(text, tuple(BUILT_IN))}, or file.py:function"
        raise InvalidInput(Problem(WHERE, f'no defect is called "{text}"', hint))
    function = OwnFunction(text, base_dir, WHERE)

    def plant(row: dict[str, Any], answer: str) -> str | None:
        returned = function(row, answer)
        if returned is not None and not isinstance(returned, str):
            rule = f"a defect returns the changed answer, or None, but got {type(returned).__name__}: {returned!r:.80}"
            raise function.wrong(row, rule)
        if returned == answer:
            raise function.wrong(row, "a defect returns the changed answer, but this is the right one as it was")
        return returned

    return Defect(short_name(text), plant, f"{text} gave None for every row")
