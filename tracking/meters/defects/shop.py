"""Defects of the demo's answers, each against a rule of its system prompt.

They apply to rows of the demo's data alone: with the ``request`` behind them, and an answer that is a proposal.
"""

import re
from functools import cache
from typing import Any

from recipes.commerce.catalogue import BRANDS, CATEGORY, Product, catalogue, title_of, titles
from recipes.commerce.task import NUM_GENERIC, NUM_SPECIFIC, PROPOSAL_SCHEMA
from tracking.meters.defects.generic import BOILERPLATE, dice, read, written

_LONGEST = PROPOSAL_SCHEMA["properties"]["proposal"]["items"]["properties"]["explanation"]["maxLength"]
_OTHER_GENDER = {"Men's": "Women's", "Women's": "Men's", "men's": "women's", "women's": "men's"}
_GENDER = re.compile(r"\b(?:Wom|wom|M|m)en's\b")
_GIFT_CARDS = (
    "Gift Card",
    "Gift card worth $50",
    "E-Gift Card",
    "Giftcard for any occasion",
    "Birthday gift cards",
    "Store gift-card",
    "Gift Voucher",
    "Gift certificate for two",
)


def swapped_gender(row: dict[str, Any], answer: str) -> str | None:
    """One category, its label and its products, is for the other gender."""
    proposal = _proposal(row, answer)
    gendered = [entry for entry in proposal or () if _GENDER.search(written(entry))]
    if not gendered:
        return None
    entry = dice("swapped_gender", row).choice(gendered)
    entry["category"] = _swap(entry["category"])
    entry["products"] = [_swap(title) for title in entry["products"]]
    return written({"proposal": proposal}, answer)


def _swap(text: str) -> str:
    return _GENDER.sub(lambda found: _OTHER_GENDER[found.group()], text)


def gift_card(row: dict[str, Any], answer: str) -> str | None:
    """A gift card stands in the place of one product."""
    proposal = _proposal(row, answer)
    if proposal is None:
        return None
    draw = dice("gift_card", row)
    products = draw.choice(proposal)["products"]
    products[draw.randrange(len(products))] = draw.choice(_GIFT_CARDS)
    return written({"proposal": proposal}, answer)


def missing_category(row: dict[str, Any], answer: str) -> str | None:
    """One of the categories is not there."""
    proposal = _proposal(row, answer)
    if proposal is None or len(proposal) < 2:
        return None
    del proposal[dice("missing_category", row).randrange(len(proposal))]
    return written({"proposal": proposal}, answer)


def invented_product(row: dict[str, Any], answer: str) -> str | None:
    """A product that the shop does not sell, though all of its words are the shop's, stands for one that it does.

    Never for one that the shopper named: that would be another defect.
    """
    proposal = _proposal(row, answer)
    named = row["request"].get("title") if proposal is not None else None
    places = [
        (entry["products"], place)
        for entry in proposal or ()
        for place, title in enumerate(entry["products"][:NUM_SPECIFIC])
        if title in _sold() and title != named
    ]
    if not places:
        return None
    draw = dice("invented_product", row)
    products, place = draw.choice(places)
    like = _sold()[products[place]]
    noun = CATEGORY[like.category].noun
    invented = (
        title_of(like.gender, brand, series, like.attribute, noun) for brand in BRANDS for series in BRANDS[brand]
    )
    products[place] = draw.choice([title for title in invented if title not in titles()])
    return written({"proposal": proposal}, answer)


def padding(row: dict[str, Any], answer: str) -> str | None:
    """More than was asked for: boilerplate after an explanation, within the form or beyond it, or repeated products."""
    proposal = _proposal(row, answer)
    if proposal is None:
        return None
    draw = dice("padding", row)
    entry = draw.choice(proposal)
    kind = draw.choice(("a sentence", "too long", "repeated"))
    if kind == "repeated":
        entry["products"] += [entry["products"][-1]] * draw.randint(1, NUM_SPECIFIC + NUM_GENERIC)
    else:
        more = draw.sample(BOILERPLATE, len(BOILERPLATE)) * 2
        entry["explanation"] += f" {more[0]}"
        while kind == "too long" and len(entry["explanation"]) <= _LONGEST:
            more = more[1:]
            entry["explanation"] += f" {more[0]}"
    return written({"proposal": proposal}, answer)


@cache
def _sold() -> dict[str, Product]:
    return {product.title: product for product in catalogue()}


def _proposal(row: dict[str, Any], answer: str) -> list[dict[str, Any]] | None:
    """The entries of an answer to a row of the demo; None where it is none."""
    request, value = row.get("request"), read(answer)
    if not isinstance(request, dict) or request.get("category") not in CATEGORY or not isinstance(value, dict):
        return None
    entries = value.get("proposal")
    if not isinstance(entries, list) or not entries:
        return None
    return entries if all(_is_entry(entry) for entry in entries) else None


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("products"), list) or not entry["products"]:
        return False
    return all(isinstance(text, str) for text in (entry.get("category"), entry.get("explanation"), *entry["products"]))
