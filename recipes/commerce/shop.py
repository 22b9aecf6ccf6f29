"""The demo's shop as a pipeline sees it: labels by construction, and shoppers with a taste in brands.

A row does not say who its shopper is, so that the training rows stay what they are: the shopper follows from a hash of
the request. Each of ``NUM_SHOPPERS`` likes some brands, and what was bought tells of that taste, with noise: four
purchases of five are of a favourite brand.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any

from recipes.commerce.catalogue import BRANDS, CATEGORY, GENDER_PREFIX, catalogue, label_of
from recipes.shopping.catalogue import Catalogue, Product
from recipes.shopping.profile import Profile, profile_of
from recipes.shopping.shop import last_turn
from sweeps.errors import InvalidInput, Problem
from sweeps.retrieving import Profiles

NUM_SHOPPERS = 60
NUM_FAVOURITES = 6  # brands of the 24
NUM_PURCHASES = 15
FAVOURITE_SHARE = 0.8  # of purchases
KIND, RIGHT, BEST = 1, 2, 3
"""Grades: the category and gender asked for; also the attribute; also named, or of a brand that the shopper likes."""


class DemoShop:
    """See :class:`recipes.shopping.shop.Shop`.

    Args:
        profiles: What of a purchase history counts; None ranks without.
    """

    def __init__(self, profiles: Profiles | None) -> None:
        self._profiles = profiles

    @cached_property
    def catalogue(self) -> Catalogue:
        """Every product of the demo; its title is its id."""
        products = []
        for one in catalogue():
            label = label_of(CATEGORY[one.category], one.gender)
            fields = {"brand": one.brand, "category": one.category, "attribute": one.attribute}
            products.append(Product(one.title, f"{one.title}. {label}", {**fields, "gender": one.gender or ""}))
        return Catalogue(tuple(products), "the demo's shop")

    def query(self, row: Mapping[str, Any]) -> str:
        """The shopper's latest turn, without the instructions around it."""
        turns = [line for line in last_turn(row).splitlines() if line.startswith("User: ")]
        return turns[-1].removeprefix("User: ") if turns else last_turn(row)

    def grades(self, row: Mapping[str, Any]) -> Mapping[str, int]:
        """By construction, so that every product is judged."""
        request = _request(row)
        likes = favourites(shopper_of(request))
        grades = dict.fromkeys(self.catalogue.places, 0)
        for one in catalogue():
            if one.category == request["category"] and one.gender == request["gender"]:
                right = one.attribute == request["attribute"]
                best = right and (one.title == request["title"] or (not request["title"] and one.brand in likes))
                grades[one.title] = BEST if best else RIGHT if right else KIND
        return grades

    def profile(self, row: Mapping[str, Any]) -> Profile | None:
        """That of the row's shopper, from what was bought."""
        if self._profiles is None:
            return None
        places, products = self.catalogue.places, self.catalogue.products
        bought = [products[places[title]] for title in purchases(shopper_of(_request(row)))]
        return profile_of(bought, self._profiles.match)


def _request(row: Mapping[str, Any]) -> Mapping[str, Any]:
    request = row.get("request")
    if not isinstance(request, dict) or request.get("category") not in CATEGORY:
        rule = f"the shop commerce is for the demo's data, but row {row.get('id')!r} has the request {request!r:.80}"
        raise InvalidInput(Problem("evaluate.pipeline.catalogue", rule, "name a catalogue of your own, and its labels"))
    return request


def shopper_of(request: Mapping[str, Any]) -> int:
    """Who asks. The same request always comes from the same shopper."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:4], "big") % NUM_SHOPPERS


@cache
def favourites(shopper: int) -> frozenset[str]:
    """The brands that a shopper likes, which no pipeline sees."""
    return frozenset(random.Random(f"taste-{shopper}").sample(sorted(BRANDS), NUM_FAVOURITES))


@cache
def purchases(shopper: int) -> tuple[str, ...]:
    """The titles of what a shopper has bought, oldest first."""
    rng = random.Random(f"purchases-{shopper}")
    liked = [one.title for one in catalogue() if one.brand in favourites(shopper)]
    every = [one.title for one in catalogue()]
    return tuple(rng.choice(liked if rng.random() < FAVOURITE_SHARE else every) for _ in range(NUM_PURCHASES))


def formulated(proposal: Mapping[str, Any]) -> dict[str, Any]:
    """What a proposal says to search for: its first entry as category, attributes and hypothetical products.

    The attribute is the word of the category's own that most of the entry's products have.
    """
    label, products = str(proposal["category"]), [str(product) for product in proposal["products"]]
    gender = next((key for key, word in GENDER_PREFIX.items() if key and label.startswith(f"{word} ")), None)
    name = label.removeprefix(GENDER_PREFIX[gender]).strip()
    attributes = {"gender": gender} if gender else {}
    known = CATEGORY[name].attributes if name in CATEGORY else ()
    counts = {word: sum(word.casefold() in product.casefold().split() for product in products) for word in known}
    best = max(counts, key=lambda word: counts[word], default=None)
    if best is not None and counts[best] > 0:
        attributes["attribute"] = best
    return {"category": name, "attributes": attributes, "products": products}
