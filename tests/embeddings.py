"""An OpenAI-compatible embedding endpoint on this machine, whose vectors are counts of letters."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from tests.loopback import Loopback, Quiet

Dimension = Callable[[Sequence[str]], int]


def vector(text: str, dimension: int = 26) -> list[float]:
    """How often each letter occurs, the alphabet folded into the dimension."""
    counts = [0.0] * dimension
    for letter in text.casefold():
        if "a" <= letter <= "z":
            counts[(ord(letter) - ord("a")) % dimension] += 1.0
    return counts


def embedding_server(
    stack: ExitStack, dimension: Dimension | None = lambda texts: 26, asked: list[dict[str, Any]] | None = None
) -> str:
    """The base of an endpoint that answers until the stack is closed.

    Args:
        stack: Closes it.
        dimension: Of the vectors for texts that are asked for together; None answers with something else.
        asked: Every request's body is put here.
    """

    class Handler(Quiet):
        def do_POST(self) -> None:  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if asked is not None:
                asked.append({"path": self.path, **body})
            if dimension is None:
                self.answer(200, b'{"object": "error"}')
                return
            texts = body["input"]
            data = [{"index": at, "embedding": vector(text, dimension(texts))} for at, text in enumerate(texts)]
            self.answer(200, json.dumps({"data": data[::-1]}).encode())  # the order is the index's, not the list's

    return f"{stack.enter_context(Loopback(Handler)).address}/v1"
