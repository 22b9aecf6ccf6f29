"""The demo's rubric: a proposal of products, scored 0 to 5 by code from the request that the row was made from.

The levels are cumulative: an answer has the highest level whose requirement and all lower ones it meets. They are
defined in ``LEVELS``, which the documentation shows as it stands.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from recipes.commerce.catalogue import CATEGORY, GENDER_PREFIX, label_of, titles
from recipes.commerce.task import NUM_CATEGORIES, NUM_GENERIC, NUM_SPECIFIC, PROPOSAL_SCHEMA
from sweeps.errors import InvalidInput, Problem
from tracking.meters.gates import GIFT_CARD
from tracking.meters.metrics import Item, NotJsonError, parse_json, validator

NUM_PRODUCTS = NUM_SPECIFIC + NUM_GENERIC

LEVELS = (
    "not JSON of the proposal's form",
    "JSON of the proposal's form, but the wrong number of categories or products, or a gift card among them",
    f"{NUM_CATEGORIES} categories of {NUM_PRODUCTS} products each, and no gift card",
    "also, the first category is the one asked for with the right gender, and nothing contradicts the gender",
    "also, every product of the first category has the material or feature asked for, and one that was named is first",
    "also, every specific product exists in the shop, none is repeated within a category, and each explanation is one "
    "short sentence",
)

_GENDER_WORD = re.compile(r"\b(?:wo)?men's\b", re.IGNORECASE)
_SECOND_SENTENCE = re.compile(r"[.!?]\s+\S")
SHORT = 100  # characters of an explanation; the data's longest has 70


def shopping(item: Item, answer: str) -> dict[str, float]:
    """``quality/score`` (0–5) and its parts, each 0–1 and 0 where the answer is no proposal.

    - 0: not JSON of the proposal's form
    - 1: JSON of that form, but the wrong number of categories or products, or a gift card among them
    - 2: right numbers, no gift card
    - 3: also, the first category is the one asked for with the right gender, and nothing contradicts the gender
    - 4: also, every product of the first category has the attribute, and a title that the shopper named comes first
    - 5: also, every specific product exists in the catalogue, in both categories, none is repeated, and each
      explanation is one sentence of at most ``SHORT`` characters

    Parts: ``quality/json_valid``; ``quality/categories``, the share of the categories that are the right ones, whatever
    their gender; ``quality/gender``, the share of labels and products that do not contradict the gender;
    ``quality/attributes``, the share of the first category's products with the attribute; ``quality/title``, only for
    rows that name one; ``quality/exists``, the share of the specific products asked for that exist, a repeated one
    counted once; ``quality/short``, the share of explanations that are one short sentence; ``quality/no_gift_card``.

    Raises:
        InvalidInput: The row has no ``request`` as the demo's data has it.
    """
    request = item.row.get("request")
    if not isinstance(request, dict) or request.get("category") not in CATEGORY:
        rule = f"the shopping rubric scores the demo's data, but row {item.id!r} has the request {request!r:.80}"
        raise InvalidInput(Problem("evaluate.metrics", rule, "for other data, use another metric or a judge"))
    proposal = _proposal(answer)
    parts = _parts(proposal, request)
    return {"quality/score": float(_level(proposal, request, parts)), **{f"quality/{key}": parts[key] for key in parts}}


def _proposal(answer: str) -> list[dict[str, Any]] | None:
    try:
        value = parse_json(answer)
    except NotJsonError:
        return None
    return value["proposal"] if _valid_proposal()(value) else None


@cache
def _valid_proposal() -> Callable[[Any], bool]:
    return validator(PROPOSAL_SCHEMA)


def _level(proposal: list[dict[str, Any]] | None, request: dict[str, Any], parts: dict[str, float]) -> int:
    if proposal is None:
        return 0
    sizes = [len(entry["products"]) for entry in proposal]
    label = label_of(CATEGORY[request["category"]], request["gender"])
    requirements = (
        sizes == [NUM_PRODUCTS] * NUM_CATEGORIES and parts["no_gift_card"] == 1,
        proposal[0]["category"] == label and parts["gender"] == 1,
        parts["attributes"] == 1 and parts.get("title", 1.0) == 1,
        parts["exists"] == 1 and parts["short"] == 1,
    )
    level = 1
    for met in requirements:
        if not met:
            break
        level += 1
    return level


def _parts(proposal: list[dict[str, Any]] | None, request: dict[str, Any]) -> dict[str, float]:
    names = ["json_valid", "categories", "gender", "attributes", "exists", "short", "no_gift_card"]
    if request["title"]:
        names.append("title")
    if proposal is None:
        return dict.fromkeys(names, 0.0)
    category = CATEGORY[request["category"]]
    first = proposal[0]["products"]
    has_attribute = re.compile(rf"\b{re.escape(request['attribute'])}\b", re.IGNORECASE)
    texts = [text for entry in proposal for text in (entry["category"], *entry["products"])]
    right = [
        _without_gender(entry["category"]) == name for entry, name in zip(proposal, (category.name, category.goes_with))
    ]
    specific = [
        title for entry in proposal[:NUM_CATEGORIES] for title in dict.fromkeys(entry["products"][:NUM_SPECIFIC])
    ]
    parts = {
        "json_valid": 1.0,
        "categories": sum(right) / NUM_CATEGORIES,
        "gender": sum(not _contradicts(text, request["gender"]) for text in texts) / len(texts),
        "attributes": sum(bool(has_attribute.search(product)) for product in first) / max(len(first), NUM_PRODUCTS),
        "exists": sum(title in titles() for title in specific) / (NUM_CATEGORIES * NUM_SPECIFIC),
        "short": sum(_is_short(entry["explanation"]) for entry in proposal) / len(proposal),
        "no_gift_card": float(not any(GIFT_CARD.search(text) for text in texts)),
    }
    if request["title"]:
        parts["title"] = float(first[0] == request["title"])
    return parts


def _without_gender(label: str) -> str:
    return _GENDER_WORD.sub("", label).strip()


def _is_short(explanation: str) -> bool:
    return len(explanation) <= SHORT and not _SECOND_SENTENCE.search(explanation)


def _contradicts(text: str, gender: str | None) -> bool:
    """Whether a label or title is for another gender; where the request has none, for any."""
    allowed = GENDER_PREFIX[gender].casefold()
    return any(word.group().casefold() != allowed for word in _GENDER_WORD.finditer(text))
