"""A teacher that writes prompt–response pairs: what it is asked, what counts as a pair, and what a pair may cost.

The dollars are those of the endpoint's own token counts. Before a request is sent, the most that it can cost is set
aside, so that a limit is never passed: a token is at least one byte of the question, and the answer has no more than
its limit of tokens. What is set aside and not used comes back with the reply. What may have been charged for is never
sent again by itself, so that it costs no more than was set aside.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.errors import InvalidInput, Problem
from tracking.meters.endpoint import Reply, ServedModel

MESSAGE_TOKENS = 16  # that a chat format may put around a message

DEFAULT_TEMPLATE = """\
You write training data for the assistant of a shop. Below are products of the shop.

{products}

Write one request that a shopper could send who would be well served by some of these products, in the shopper's own \
words and without quoting their titles, and the answer that a helpful and honest assistant of the shop gives. The \
answer may name these products and no others, and promises nothing that is not written here. Answer with JSON that has \
the keys "prompt" (the request) and "response" (the answer)."""


@dataclass(frozen=True)
class TokenPrices:
    """US$ per million tokens of questions and of answers."""

    usd_in: float
    usd_out: float

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """US$."""
        return (tokens_in * self.usd_in + tokens_out * self.usd_out) / 1e6


class NotAPairError(ValueError):
    """A reply is no pair; the message says what such replies are."""


def filled(template: str, products: Sequence[str], number: int) -> str:
    """A template with its ``{products}``, and ``{number}`` where it asks for it; other braces stay as they are."""
    return template.replace("{number}", str(number)).replace("{products}", "\n".join(f"- {one}" for one in products))


def check_template(template: str, where: str) -> None:
    """Refuse a template that asks for no products.

    Raises:
        InvalidInput: It has no ``{products}``.
    """
    if "{products}" not in template:
        hint = "write {products} where the products are to stand, one a line"
        raise InvalidInput(Problem(where, "the template has no {products}, so every request would be the same", hint))


def pair_schema(response: Mapping[str, Any] | None) -> dict[str, Any]:
    """The schema of a reply: a prompt, and a response that is text or keeps to a schema of its own."""
    inner: Any = {"type": "string"} if response is None else dict(response)
    definitions = {key: inner.pop(key) for key in ("$defs", "definitions") if key in inner}
    inner.pop("$schema", None)
    return {
        "type": "object",
        "required": ["prompt", "response"],
        "additionalProperties": False,
        "properties": {"prompt": {"type": "string"}, "response": inner},
        **definitions,  # references within the response's schema begin at the root
    }


def read_pair(text: str) -> tuple[str, Any]:
    """Prompt and response of a reply, which may stand in a fence of Markdown.

    Raises:
        NotAPairError: It is none.
    """
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.strip("`").removeprefix("json")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAPairError("replies that are no JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str) or "response" not in value:
        raise NotAPairError('replies without "prompt" and "response"')
    prompt, response = value["prompt"].strip(), value["response"]
    if not prompt or response in ("", None, {}, []) or (isinstance(response, str) and not response.strip()):
        raise NotAPairError("replies with an empty prompt or response")
    if not isinstance(response, str | dict | list):
        raise NotAPairError("replies whose response is neither text nor an object")
    return prompt, response.strip() if isinstance(response, str) else response


def sha256(text: str) -> str:
    """Hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


class Purse:
    """What was spent, what is set aside, and what may be spent. For one thread.

    Args:
        prices: None where they are not known; then nothing is counted.
        limit: US$ in all, kept replies included; None for no limit.
        schema: Is sent along with each question, and may be counted as part of it.
    """

    def __init__(self, prices: TokenPrices | None, limit: float | None, schema: Mapping[str, Any] | None) -> None:
        self._prices, self._limit = prices, limit
        self._schema_bytes = len(json.dumps(schema).encode()) if schema is not None else 0
        self.spent = self.set_aside = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit that can be reached."""
        return self._prices is not None and self._limit is not None

    def most(self, messages: Sequence[Mapping[str, Any]], max_tokens: int) -> float:
        """The most that a question can cost, in US$."""
        if self._prices is None:
            return 0.0
        size = sum(len(str(one["content"]).encode()) + MESSAGE_TOKENS for one in messages)
        return self._prices.of(size + self._schema_bytes, max_tokens)

    def has_room(self, usd: float) -> bool:
        """Whether so much may be spent beside what is set aside."""
        return self._limit is None or self.spent + self.set_aside + usd <= self._limit

    def cost(self, reply: Reply, most: float) -> float:
        """What a reply cost; where the endpoint does not count, or what it gave was lost, as much as it may have."""
        if self._prices is None or not reply.may_cost:
            return 0.0
        counted = reply.text is not None and reply.tokens_in > 0
        return self._prices.of(reply.tokens_in, reply.tokens_out) if counted else most


def teacher(
    model: str,
    endpoint: str,
    max_tokens: int,
    temperature: float,
    schema: dict[str, Any] | None,
    **more: Any,
) -> ServedModel:
    """The served model as a teacher; ``more`` as :class:`tracking.meters.endpoint.ServedModel` takes it."""
    keys = ("--api-key-env", "--timeout")
    told = {"schema": schema, "who": "the teacher", "temperature": temperature, "keys": keys, "repeats": False}
    return ServedModel(model, endpoint, max_tokens, **{**told, **more})
