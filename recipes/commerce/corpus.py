"""The text on which the demo's base model is pre-trained: commerce in every form but the task's.

The base is to know the shop, follow a conversation and copy from it, as a real base model would, without ever having
seen a ``proposal``. So it reads catalogue lines, facts about what goes together, notes about shoppers in varying
layouts, JSON of other shapes, and plain copying over the whole vocabulary.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from functools import cache

from recipes.commerce.catalogue import BENEFITS, CATEGORIES, CATEGORY, OCCASIONS, Product, catalogue, label_of
from recipes.commerce.task import (
    CLOSING,
    PROPOSAL_SCHEMA,
    SYSTEM_PROMPT,
    Request,
    companion,
    conversation_of,
    matching,
    picks,
    requests,
    rows,
)

BEGIN, END, START_HEADER, END_HEADER, END_TURN = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)

_PROMPTS = (
    "You take notes about shoppers.",
    "You are a shop clerk. Read the conversation and write notes about the latest request.",
    "Write what the user wants. No other text.",
    "You help a shop to understand its users.",
)


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of the task and the shop, sorted: copying over it gives each its place in the base's embedding."""
    text = " ".join(
        json.dumps(message["content"]) for row in rows(3000, seed=1) for message in row["messages"]
    ) + json.dumps(PROPOSAL_SCHEMA)
    return tuple(sorted(set(re.findall(r"[A-Za-z']+", text.replace("\\n", " ")))))


def chat(system: str, user: str, assistant: str) -> str:
    """One exchange in the Llama 3.1 chat format, without the leading ``<|begin_of_text|>``."""
    parts = (("system", system), ("user", user), ("assistant", assistant))
    return "".join(f"{START_HEADER}{role}{END_HEADER}\n\n{text}{END_TURN}" for role, text in parts)


def _similar(product: Product, rng: random.Random, number: int) -> list[str]:
    shelf = [other.title for other in matching(CATEGORY[product.category], product.gender, product.attribute, 0)]
    return sorted(rng.sample(shelf, min(number, len(shelf))))


def _catalogue_line(rng: random.Random) -> str:
    product = rng.choice(catalogue())
    fields = [
        ("brand", product.brand),
        ("category", label_of(CATEGORY[product.category], product.gender)),
        ("feature", product.attribute),
        ("price", f"${product.price_usd}"),
    ]
    rng.shuffle(fields)
    return f"{product.title}: " + ", ".join(f"{key} {value}" for key, value in fields) + "."


def _shelf(rng: random.Random) -> str:
    product = rng.choice(catalogue())
    category = CATEGORY[product.category]
    head = rng.choice(
        (
            f"{product.attribute} products in {label_of(category, product.gender)}",
            f"{label_of(category, product.gender)} of the shop, {product.attribute.lower()}",
            f"More like {product.title}",
        )
    )
    return f"{head}: " + "; ".join(_similar(product, rng, 4)) + "."


def _goes_with(rng: random.Random) -> str:
    category = rng.choice(CATEGORIES)
    other = CATEGORY[category.goes_with]
    gender = rng.choice(("men", "women")) if category.gendered else None
    return rng.choice(
        (
            f"{label_of(category, gender)} go well with {label_of(other, gender)}.",
            f"Who buys {category.name.lower()} also needs {other.name.lower()}.",
            f"These {category.name.lower()} {BENEFITS[category.group]}, and {other.name.lower()} "
            f"{BENEFITS[other.group]}. Good for {rng.choice(OCCASIONS[category.group])}.",
        )
    )


def _notes(request: Request, rng: random.Random) -> str:
    """What a clerk would note about a request, in one of several layouts, with a random choice and order of fields."""
    category = CATEGORY[request.category]
    other, gender, attribute = companion(category, request.gender, request.attribute)
    fields: list[tuple[str, object]] = [
        ("topic", label_of(category, request.gender)),
        ("feature", request.attribute),
        ("plan", request.occasion),
        ("gender", request.gender or "none"),
        ("picks", picks(category, request.gender, request.attribute, request.title, rng, 0)),
        ("also", label_of(other, gender)),
        ("reason", f"These {category.name.lower()} {BENEFITS[category.group]}."),
        ("more", picks(other, gender, attribute, None, rng, 0)),
        ("search", f"{request.attribute.lower()} {category.name.lower()}"),
        *([("mentions", request.title)] if request.title else []),
    ]
    rng.shuffle(fields)
    fields = fields[: rng.randint(4, 8)]
    layout = rng.choice(("json", "json", "nested", "list", "lines", "bullets"))
    if layout == "json":
        return json.dumps(dict(fields), separators=(",", ":"))
    if layout == "nested":
        return json.dumps({"notes": [{key: value} for key, value in fields]}, separators=(",", ":"))
    if layout == "list":
        return json.dumps([{"name": key, "value": value} for key, value in fields], separators=(",", ":"))
    flat = [(key, "; ".join(map(str, value)) if isinstance(value, list) else value) for key, value in fields]
    if layout == "bullets":
        return "\n".join(f"* {key}: {value}" for key, value in flat)
    return "\n".join(f"{key.capitalize()}: {value}" for key, value in flat)


@cache
def _request_stream() -> Iterator[tuple[Request, random.Random]]:
    # Another seed than that of the task's rows. There are few ways to ask, so dialogues recur, but never with the
    # task's answer.
    return requests(seed=7919)


def _shopper(rng: random.Random) -> str:
    request, _ = next(_request_stream())
    # Half of the prompts carry rules, so that the base has copied from a conversation across a long prompt.
    system = rng.choice(_PROMPTS) + (f"\n{_rules(rng)}" if rng.random() < 0.5 else "")
    user = f"### Conversation\n{conversation_of(request, rng)}" + (f"\n{_rules(rng, 2)}" if rng.random() < 0.3 else "")
    return chat(system, user, _notes(request, rng))


def _rules(rng: random.Random, number: int = 5) -> str:
    sentences = re.split(r"(?<=[.])\s+", f"{SYSTEM_PROMPT} {CLOSING}")
    return " ".join(rng.sample(sentences, number))


def _copy(rng: random.Random) -> str:
    words = [rng.choice(vocabulary()) for _ in range(rng.randint(6, 16))]
    style = rng.random()
    if style < 0.5:
        return chat("Repeat.", " ".join(words), " ".join(words))
    if style < 0.8:
        return chat("Repeat as JSON.", " ".join(words), json.dumps(words, separators=(",", ":")))
    pairs = {rng.choice(vocabulary()).lower(): rng.choice(vocabulary()) for _ in range(4)}
    lines = "\n".join(f"{key}: {value}" for key, value in pairs.items())
    return chat("Write as JSON.", lines, json.dumps(pairs, separators=(",", ":")))


_KINDS: tuple[tuple[float, Callable[[random.Random], str]], ...] = (
    (0.10, _catalogue_line),
    (0.10, _shelf),
    (0.05, _goes_with),
    (0.55, _shopper),
    (0.02, _rules),
    (0.18, _copy),
)


def documents(seed: int) -> Iterator[str]:
    """An endless stream of documents for pre-training; the same seed gives the same stream."""
    rng = random.Random(f"corpus-{seed}")
    weights = [weight for weight, _ in _KINDS]
    writers = [writer for _, writer in _KINDS]
    while True:
        yield rng.choices(writers, weights)[0](rng)
