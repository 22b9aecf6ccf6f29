"""Preference pairs of the demo's task: the right answer, and the same answer with one thing wrong.

What is wrong is what a small model gets wrong after its fine-tuning, and what NEMO-4-PAYPAL trained away by preference
(section 4.4): a first product that is not the one asked for, the other gender, a companion category that is missing or
has a third beside it, an explanation that would fit anything, a generic product in a specific one's place, a feature
that was asked for and is not there. Most faults keep the length and the number of categories, and those that do not
come in both directions, so that neither tells the answers apart.

The conversations are others than those of :mod:`recipes.commerce.task`, and have the same groups: a group that is held
out there by a seed is held out here too.
"""

import copy
import random
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Any

from recipes.commerce.catalogue import BRANDS, CATEGORIES, CATEGORY, GENDERS, title_of, titles
from recipes.commerce.task import (
    NUM_SPECIFIC,
    Request,
    answer_of,
    conversation_of,
    entry,
    matching,
    picks,
    prompt_of,
    requests,
    row_group,
)

APART = 20_000
"""As many rows of ``commerce`` with the same seed share no conversation with the pairs."""

_VAGUE = (
    "For {occasion}, these are great options, each in its own way.",
    "These products were chosen with care for {occasion}.",
    "Quality and value come first with these picks, made with everybody in mind.",
    "Great value for any occasion.",
    "These are popular with many of our customers, whatever the plan for {occasion} may be.",
)
Proposal = list[dict[str, Any]]


def rows(num_rows: int, seed: int = 0, shop_seed: int = 0) -> list[dict[str, Any]]:
    """``num_rows`` distinct pairs in the common form, each with its ``request``, ``group``, and the ``fault`` planted.

    Faults come in turn, each where the request has a place for it.
    """
    taken = set(_conversations(seed, shop_seed))
    out: list[dict[str, Any]] = []
    for request, rng in requests(f"pairs-{seed}", shop_seed):
        conversation = conversation_of(request, rng)
        if conversation in taken:
            continue
        taken.add(conversation)
        right = answer_of(request, rng, shop_seed)
        fault, wrong = _faulty(right["proposal"], request, rng, shop_seed, turn=len(out))
        out.append(
            {
                "messages": [*prompt_of(conversation), {"role": "assistant", "content": right}],
                "rejected": {"proposal": wrong},
                "request": vars(request).copy(),
                "group": row_group(request),
                "fault": fault,
            }
        )
        if len(out) == num_rows:
            return out
    raise AssertionError("the stream of requests never ends")


@cache
def _conversations(seed: int, shop_seed: int) -> frozenset[str]:
    """Those of the first ``APART`` rows of ``commerce``, and of what it passes over as it writes them."""
    return frozenset(conversation_of(request, rng) for request, rng in islice(requests(seed, shop_seed), 2 * APART))


def _faulty(right: Proposal, request: Request, rng: random.Random, shop_seed: int, turn: int) -> tuple[str, Proposal]:
    names = list(_FAULTS)
    for name in names[turn % len(names) :] + names[: turn % len(names)]:
        wrong = copy.deepcopy(right)
        if _FAULTS[name](wrong, request, rng, shop_seed) and wrong != right:
            return name, wrong
    raise AssertionError("every request has a place for some fault")


def _first_product(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """The product that the shopper named does not come first."""
    if request.title is None:
        return False
    products = proposal[0]["products"]
    products[:NUM_SPECIFIC] = reversed(products[:NUM_SPECIFIC])
    return True


def _invented(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """A product that the shop does not sell, of its words; the one that the shopper named stays."""
    category = CATEGORY[request.category]
    titled = (
        title_of(request.gender, brand, series, request.attribute, category.noun)
        for brand in BRANDS
        for series in BRANDS[brand]
    )
    unsold = [title for title in titled if title not in titles(shop_seed)]
    proposal[0]["products"][NUM_SPECIFIC - 1 if request.title else 0] = rng.choice(unsold)
    return True


def _gender(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """Everything is for the other gender."""
    if request.gender is None:
        return False
    other = GENDERS[1 - GENDERS.index(request.gender)]
    category = CATEGORY[request.category]
    if len(matching(category, other, request.attribute, shop_seed)) <= NUM_SPECIFIC:
        return False
    turned = Request(request.category, request.attribute, other, request.occasion, None)
    proposal[:] = answer_of(turned, rng, shop_seed)["proposal"]
    return True


def _missing(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """The companion category is not there."""
    del proposal[1:]
    return True


def _third(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """A third category that nobody asked for, as in the rejected answer of the paper's example."""
    there = {request.category, CATEGORY[request.category].goes_with}
    proposal.append(_some_entry([one.name for one in CATEGORIES if one.name not in there], request, rng, shop_seed))
    return True


def _companion(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """A companion category that does not go with the first."""
    there = {request.category, CATEGORY[request.category].goes_with}
    proposal[1] = _some_entry([one.name for one in CATEGORIES if one.name not in there], request, rng, shop_seed)
    return True


def _some_entry(names: list[str], request: Request, rng: random.Random, shop_seed: int) -> dict[str, Any]:
    while True:
        category = CATEGORY[rng.choice(names)]
        gender = (request.gender or rng.choice(GENDERS)) if category.gendered else None
        attribute = request.attribute if request.attribute in category.attributes else rng.choice(category.attributes)
        if len(matching(category, gender, attribute, shop_seed)) > NUM_SPECIFIC:
            products = picks(category, gender, attribute, None, rng, shop_seed)
            return entry(category, gender, attribute, request.occasion, products)


def _vague(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """An explanation that would fit anything."""
    for one in proposal:
        one["explanation"] = rng.choice(_VAGUE).format(occasion=request.occasion)
    return True


def _repeated(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """The generic product again, in the place of a specific one or beside it."""
    products = proposal[rng.randrange(len(proposal))]["products"]
    if rng.random() < 0.5:
        products.insert(NUM_SPECIFIC, products[-1])
    else:
        products[NUM_SPECIFIC - 1] = products[-1]
    return True


def _feature(proposal: Proposal, request: Request, rng: random.Random, shop_seed: int) -> bool:
    """The material or feature that was asked for is another one."""
    category = CATEGORY[request.category]
    others = [
        attribute
        for attribute in category.attributes
        if attribute != request.attribute
        and len(matching(category, request.gender, attribute, shop_seed)) > NUM_SPECIFIC
    ]
    if not others:
        return False
    attribute = rng.choice(others)
    products = picks(category, request.gender, attribute, None, rng, shop_seed)
    proposal[0] = entry(category, request.gender, attribute, request.occasion, products)
    return True


# The order matters: where a request has no place for one, the next takes its turn, and the numbers of the two that
# change how many categories there are stay equal.
_FAULTS: dict[str, Callable[[Proposal, Request, random.Random, int], bool]] = {
    "missing_category": _missing,
    "first_product": _first_product,
    "invented_product": _invented,
    "gender": _gender,
    "feature": _feature,
    "third_category": _third,
    "vague_explanation": _vague,
    "repeated_generic": _repeated,
    "wrong_companion": _companion,
}
FAULTS = tuple(_FAULTS)
"""The names of what may be wrong."""
