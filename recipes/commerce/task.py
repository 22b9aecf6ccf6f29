"""The demo's task: conversations with a shopper, each with the answer that is right by construction.

The form follows the training example in the appendix of NEMO-4-PAYPAL (figure 10): one long system prompt that all rows
share, a conversation, constant closing instructions, and a JSON ``proposal`` of categories, each with an explanation,
specific products and a generic one. There are fewer of each, so that a row stays short on a laptop's CPU.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from recipes.commerce.catalogue import (
    BENEFITS,
    CATEGORIES,
    CATEGORY,
    OCCASIONS,
    Category,
    Product,
    catalogue,
    label_of,
)

NUM_CATEGORIES = 2
NUM_SPECIFIC = 2
NUM_GENERIC = 1

SYSTEM_PROMPT = f"""You are a shopping assistant. Answer the latest request of the user.
## Instructions
Propose {NUM_CATEGORIES} categories: the one asked for, then one that goes with it. For each write a short sentence \
that names the plan of the user, {NUM_SPECIFIC} specific products of the shop and {NUM_GENERIC} generic product.
* NEVER recommend gift cards or anything illegal.
* If the user names a product, its title must come first.
* If the user asks for a material or a feature, every product of the first category must have it.
* Keep the gender of the conversation, unless the user changes it.
## Output
JSON with the key "proposal": a list of "category", "explanation" and "products". No other text."""

CLOSING = """## Recommendation
Focus on the latest request. Write Men's or Women's only where the category has a gender.
Answer with the JSON proposal."""

PROPOSAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["proposal"],
    "additionalProperties": False,
    "properties": {
        "proposal": {
            "type": "array",
            "minItems": 1,
            "maxItems": 4,
            "items": {
                "type": "object",
                "required": ["category", "explanation", "products"],
                "additionalProperties": False,
                "properties": {
                    "category": {"type": "string", "minLength": 1, "maxLength": 60},
                    "explanation": {"type": "string", "minLength": 1, "maxLength": 200},
                    "products": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 6,
                        "items": {"type": "string", "minLength": 1, "maxLength": 80},
                    },
                },
            },
        }
    },
}


@dataclass(frozen=True)
class Request:
    """What a shopper wants, as the generator knows it and the conversation says it."""

    category: str
    attribute: str
    gender: str | None  # as the answer must be aligned; None where the category has none
    occasion: str
    title: str | None  # a product title that the shopper names


_OPENERS = (
    "Point me to {want} for {occasion}.",
    "I am looking for {want}, the plan is {occasion}.",
    "Can you find {want} for {occasion}?",
    "Please suggest {want}. I need it for {occasion}.",
    "We have {occasion} ahead and I want {want}.",
)
_RELATIVES = {"men": ("husband", "brother", "father"), "women": ("wife", "sister", "mother")}
_NAMED = ("I like the {title}.", "A friend has the {title}.", "I saw the {title}.")
_SMALL_TALK = (
    ("Hello, can you help me?", "Of course, what do you need?"),
    ("Do you sell gift cards?", "I can help you find a product."),
    ("I want to spend some money today.", "Happy to help, what is the plan?"),
)


def conversation_of(request: Request, rng: random.Random) -> str:
    """The dialogue that states the request; gender may be said early, late, or changed on the way."""
    noun = CATEGORY[request.category].name.lower()
    attribute = request.attribute.lower()
    turns: list[tuple[str, str]] = []
    want = f"{attribute} {noun}"
    if request.gender is not None:
        relative = rng.choice(_RELATIVES[request.gender])
        style = rng.choice(("want", "early", "late", "switch"))
        if style == "want":
            want = f"{attribute} {noun} for {request.gender}"
        elif style == "late":
            want = f"{attribute} {noun} for my {relative}"
        elif style == "early":
            turns.append((f"I am shopping for my {relative} today.", "Happy to help, what is the plan?"))
        else:
            other = "women" if request.gender == "men" else "men"
            turns.append((f"I am shopping for my {rng.choice(_RELATIVES[other])}.", "Of course, what do you need?"))
            want = f"{attribute} {noun} for my {relative} instead"
    elif rng.random() < 0.3:
        turns.append(rng.choice(_SMALL_TALK))
    latest = rng.choice(_OPENERS).format(want=want, occasion=request.occasion)
    if request.title:
        latest += " " + rng.choice(_NAMED).format(title=request.title)
    lines = [f"User: {user}\nAssistant: {assistant}" for user, assistant in turns]
    return "\n".join([*lines, f"User: {latest}"])


@cache
def _shelves(seed: int) -> dict[tuple[str, str | None, str], list[Product]]:
    shelves: dict[tuple[str, str | None, str], list[Product]] = {}
    for product in catalogue(seed):
        shelves.setdefault((product.category, product.gender, product.attribute), []).append(product)
    return shelves


def matching(category: Category, gender: str | None, attribute: str, seed: int) -> list[Product]:
    """The shelf of a category: every product for this gender with this attribute."""
    return _shelves(seed).get((category.name, gender, attribute), [])


def entry(category: Category, gender: str | None, attribute: str, occasion: str, products: list[str]) -> dict[str, Any]:
    """One category of a proposal: its label, why, the specific products, then the generic one."""
    label = label_of(category, gender)
    generic = f"{attribute} {category.name.lower()}"
    if category.gendered and gender:
        generic = f"{label.split()[0]} {attribute.lower()} {category.name.lower()}"
    explanation = f"For {occasion}, these {category.name.lower()} {BENEFITS[category.group]}."
    return {"category": label, "explanation": explanation, "products": [*products, generic]}


def picks(
    category: Category, gender: str | None, attribute: str, title: str | None, rng: random.Random, seed: int
) -> list[str]:
    """Two titles from a shelf, in the shop's (alphabetical) order; a title that the shopper names comes first."""
    titles = [product.title for product in matching(category, gender, attribute, seed)]
    if title is None:
        return sorted(rng.sample(titles, NUM_SPECIFIC))
    return [title, *rng.sample([other for other in titles if other != title], NUM_SPECIFIC - 1)]


def companion(category: Category, gender: str | None, attribute: str) -> tuple[Category, str | None, str]:
    """What goes with a category: its companion, for the same person, with the same feature where that has it."""
    other = CATEGORY[category.goes_with]
    return (
        other,
        gender if other.gendered else None,
        attribute if attribute in other.attributes else other.attributes[0],
    )


def answer_of(request: Request, rng: random.Random, seed: int) -> dict[str, Any]:
    """The proposal that is right for a request: what was asked for, and its companion."""
    category = CATEGORY[request.category]
    other, gender, attribute = companion(category, request.gender, request.attribute)
    first = picks(category, request.gender, request.attribute, request.title, rng, seed)
    second = picks(other, gender, attribute, None, rng, seed)
    return {
        "proposal": [
            entry(category, request.gender, request.attribute, request.occasion, first),
            entry(other, gender, attribute, request.occasion, second),
        ]
    }


def requests(seed: int | str, shop_seed: int = 0) -> Iterator[tuple[Request, random.Random]]:
    """An endless stream of requests, each with the generator that goes on to write its conversation."""
    number = 0
    while True:
        rng = random.Random(f"request-{seed}-{number}")
        number += 1
        category = rng.choice(CATEGORIES)
        gender = rng.choice(("men", "women")) if category.gendered else None
        attribute = rng.choice(category.attributes)
        shelf = matching(category, gender, attribute, shop_seed)
        if len(shelf) <= NUM_SPECIFIC:
            continue
        title = rng.choice(shelf).title if rng.random() < 0.3 else None
        occasion = rng.choice(OCCASIONS[category.group])
        yield Request(category.name, attribute, gender, occasion, title), rng


def prompt_of(conversation: str) -> list[dict[str, str]]:
    """The messages up to the answer: system prompt, and a conversation (or one query) with the closing instructions."""
    if not conversation.startswith("User: "):
        conversation = f"User: {conversation}"
    return [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": f"### Conversation\n{conversation}\n{CLOSING}"},
    ]


def row_group(request: Request) -> str:
    """What rows are split by: requests for the same thing and occasion stay on one side."""
    return f"{request.category}/{request.attribute}/{request.gender}/{request.occasion}"


def rows(num_rows: int, seed: int = 0, shop_seed: int = 0) -> list[dict[str, Any]]:
    """``num_rows`` distinct chat rows: ``messages``, the ``request`` behind them, and a ``group`` for splitting.

    The assistant's content is an object, as in the paper; readers serialise it canonically.
    """
    seen: set[str] = set()
    out: list[dict[str, Any]] = []
    for request, rng in requests(seed, shop_seed):
        conversation = conversation_of(request, rng)
        if conversation in seen:
            continue
        seen.add(conversation)
        out.append(
            {
                "messages": [
                    *prompt_of(conversation),
                    {"role": "assistant", "content": answer_of(request, rng, shop_seed)},
                ],
                "request": vars(request).copy(),
                "group": row_group(request),
            }
        )
        if len(out) == num_rows:
            return out
    raise AssertionError("the stream of requests never ends")


def write(path: str, num_rows: int, seed: int = 0) -> None:
    """Write ``num_rows`` rows as JSONL."""
    with open(path, "w", encoding="utf-8") as file:
        for row in rows(num_rows, seed):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
