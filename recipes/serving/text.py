"""The text of an answer as its tokens come: whole characters, and nothing that may still become a stop text."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream


class TextStream:
    """Tokens in, text out. What was given out is never taken back.

    Args:
        stop: Texts that end the answer; none of them is empty.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._decoded = 0  # characters
        self._held = ""
        self.is_stopped = False

    def push(self, token: int) -> str:
        """The text that is certain now."""
        self._ids.append(token)
        new = self._stream.step(self._tokenizer.backend_tokenizer, token) or ""
        self._decoded += len(new)
        self._held += new
        places = [place for text in self._stop if (place := self._held.find(text)) >= 0]
        if places:
            self.is_stopped = True
            certain, self._held = self._held[: min(places)], ""
            return certain
        keep = self._beginning_of_a_stop()
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def finish(self) -> str:
        """What was held back, and what a character that never became whole is shown as."""
        if self.is_stopped:
            return ""
        whole: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        rest, self._held = self._held + whole[self._decoded :], ""
        return rest

    def _beginning_of_a_stop(self) -> int:
        """The length of the longest end of what is held that a stop text begins with."""
        longest = max(map(len, self._stop), default=0)
        for length in range(min(len(self._held), longest - 1), 0, -1):
            if any(text.startswith(self._held[-length:]) for text in self._stop):
                return length
        return 0
