"""What a request asks of a model, and what comes back for it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are chosen.

    Attributes:
        max_new_tokens: The most that the answer may have, the one that ends it included.
        temperature: 0 takes the likeliest token each time.
        top_p: Only the likeliest tokens that have this share together are drawn from.
        seed: The same seed draws the same tokens; None draws a new one.
        stop: Texts that end the answer, and are no part of it.
        schema: A JSON schema that the answer is forced into.
        min_tokens: So many before the answer may end by itself.
        ignore_end: It does not end by itself: for load tests.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = field(default=None, hash=False)
    min_tokens: int = 0
    ignore_end: bool = False

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, whatever it is."""
        return self.temperature == 0 and self.schema is None and self.min_tokens == 0


@dataclass(frozen=True)
class Piece:
    """A token was chosen; its text may be empty, where the next one completes a character."""

    text: str


@dataclass(frozen=True)
class End:
    """The answer is whole: ``text`` is what was held back of it."""

    text: str
    reason: Reason


@dataclass(frozen=True)
class Failure:
    """There will be no answer. ``error`` is our own mistake, or the machine's."""

    error: Exception


Event = Piece | End | Failure


@dataclass(eq=False)
class Question:
    """A request on its way through the scheduler. ``tell`` is called from its thread, and must not block.

    Attributes:
        model: The name of a served model.
        ids: Tokens of the prompt.
        cached: How many of them were not computed again; known when the first token comes.
        num_tokens: Tokens that were chosen so far.
        is_over: The last event was told.
    """

    model: str
    ids: tuple[int, ...]
    sampling: Sampling
    tell: Callable[[Event], None]
    cached: int = 0
    num_tokens: int = 0
    is_over: bool = False
    _given_up: threading.Event = field(default_factory=threading.Event)

    def end(self, event: End | Failure) -> None:
        """Tell the last event. Whoever hears it may ask again at once, so by then this one takes no place."""
        self.is_over = True
        self.tell(event)

    def give_up(self) -> None:
        """Nobody waits for the answer any more: no further token is computed for it."""
        self._given_up.set()

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits."""
        return self._given_up.is_set()
