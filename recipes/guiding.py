"""Answers that satisfy a JSON schema: every token that would leave it is masked, and the end comes before the limit.

The grammar is followed by ``llguidance``. That alone gives valid JSON only to answers that end in time: one that is cut
off by its limit of tokens satisfies no schema. So a guide knows how many tokens it takes to close what is open. No
token may come after which the answer could not be closed in time, and where no more are left than closing takes, it is
closed.
"""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_STRUCTURE = frozenset('{}[],:"')
_LONGEST_WAY = 1024  # tokens: a schema whose shortest answer is longer is not brought to an end
_LOOKED_AT = 64  # tokens of those that a state allows, where none of them closes anything
_TRIES = 32  # tokens, the likeliest first, before the shortest way to the end is taken
_SLACK = 3  # tokens that the inside of a string may add to the way out of it: the rest of a sign of several bytes


def leave_uncompiled() -> None:
    """Have ``llguidance``, in this process, mask tokens as it is written.

    It would have torch compile that, which takes ten seconds and a C++ compiler: never worth it here.
    """
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def guides(tokenizer: Any, schema: dict[str, Any], limit: int) -> Callable[[], "Guide"]:
    """Makes guides that lead one answer each through a JSON schema.

    Args:
        tokenizer: A fast tokenizer of transformers.
        schema: What every answer must satisfy.
        limit: Tokens that an answer may have.

    Raises:
        ValueError: The schema cannot be followed.
    """
    import llguidance

    grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, {"whitespace_flexible": False})
    known = _llguidance_tokenizer(tokenizer, len(tokenizer))
    words = _words(tokenizer)
    whole = _way_out(llguidance.LLMatcher(known, grammar), _Place(), words)
    shortest = len(whole) if whole is not None else None
    return lambda: Guide(llguidance.LLMatcher(known, grammar), words, limit, shortest)


def schema_problem(tokenizer: Any, schema: dict[str, Any]) -> str:
    """Why no answer can be forced into a schema; empty where one can."""
    import llguidance

    try:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, {"whitespace_flexible": False})
    except ValueError as error:
        return " ".join(str(error).split())
    problem = llguidance.LLMatcher.validate_grammar(grammar, _llguidance_tokenizer(tokenizer, len(tokenizer)))
    return " ".join(str(problem).split())


class Guide:
    """Leads one answer through a schema, token by token.

    Args:
        matcher: Of ``llguidance``, at the start of the answer.
        words: Of the tokenizer.
        limit: Tokens that the answer may have.
        shortest: Those of the shortest whole answer. Where that is above the limit, or None, answers are cut off.
    """

    def __init__(self, matcher: Any, words: "_Words", limit: int, shortest: int | None) -> None:
        self._matcher, self._words, self._left = matcher, words, limit
        self._place = _Place()
        self._can_end = shortest is not None and shortest <= limit
        self._least = shortest or 0  # tokens from here to the end
        self._num_allowed = 0  # tokens that may come next
        self._ahead: dict[int, int | None] = {}  # by token that may come next: those from behind it to the end
        self._forced: deque[int] = deque()

    @property
    def is_complete(self) -> bool:
        """Whether the schema allows no further token."""
        return bool(self._matcher.is_stopped())

    @property
    def error(self) -> str | None:
        """Why the schema allows nothing although the answer is not finished; None where it is well."""
        return " ".join(str(self._matcher.get_error()).split()) if self._matcher.is_error() else None

    def mask(self, scores: Any) -> None:
        """Mask every token that must not come next, in place; the end alone is left when the answer is complete.

        The likeliest of those that are left fits. Whoever takes another asks :meth:`fits` first.

        Args:
            scores: Logits of shape (1, vocabulary).
        """
        if self._matcher.is_stopped():
            _allow_alone(scores, self._words.eos)
            return
        if not self._forced and self._can_end and self._left <= self._least + _SLACK:
            self._force()
        if self._forced:
            _allow_alone(scores, self._forced[0])
            return
        self._num_allowed = self._words.mask(self._matcher, scores)
        for _ in range(_TRIES):
            top = int(scores.argmax(-1))
            if self.fits(top):
                return
            scores[:, top] = float("-inf")
        self._force()
        if self._forced:
            _allow_alone(scores, self._forced[0])

    def fits(self, token: int) -> bool:
        """Whether the answer can still be brought to an end in time when this allowed token comes next."""
        if self._forced or not self._is_watched(token):
            return True
        if token not in self._ahead:
            matcher = self._matcher.deep_copy()
            matcher.consume_token(token)
            way = _way_out(matcher, self._place.after(self._words.text(token)), self._words)
            self._ahead[token] = len(way) if way is not None else None
        ahead = self._ahead[token]
        return ahead is not None and ahead + _SLACK < self._left

    def take(self, token: int) -> None:
        """Go on by the token that was chosen."""
        if self._matcher.is_stopped():
            return
        watched, ahead = self._is_watched(token), self._ahead.get(token)
        self._matcher.consume_token(token)
        self._left -= 1
        self._ahead = {}
        if self._forced:
            self._forced.popleft()
            return
        self._place = self._place.after(self._words.text(token))
        begins = self._left == _LONGEST_WAY + _SLACK  # to matter
        if (watched or (begins and self._can_end)) and not self._matcher.is_stopped():
            way = ahead if ahead is not None else self._length()
            self._can_end, self._least = way is not None, way or 0
        elif self._num_allowed == 1:  # as it was foreseen
            self._least = max(0, self._least - 1)

    def _is_watched(self, token: int) -> bool:
        """Whether this token may make the way to the end longer, and that matters.

        Where more is allowed than not one is within a free string, and only signs of structure do. Elsewhere any token
        may, the first of a long word, say; but none that is the only one.
        """
        if not self._can_end or self._left > _LONGEST_WAY + _SLACK or self._num_allowed == 1:
            return False
        is_text = self._num_allowed > len(self._words.texts) // 2
        return not is_text or bool(_STRUCTURE & set(self._words.text(token)))

    def _force(self) -> None:
        way = _way_out(self._matcher.deep_copy(), self._place, self._words)
        self._forced = deque([self._words.eos] if way == [] else way or ())
        if not self._forced:  # it had an end a token ago, so this is no schema's fault
            self._can_end = False

    def _length(self) -> int | None:
        way = _way_out(self._matcher.deep_copy(), self._place, self._words)
        return None if way is None else len(way)


@dataclass(frozen=True)
class _Place:
    """Where in a JSON text one is: how many brackets are open, and whether within a string, after a backslash."""

    depth: int = 0
    within: bool = False
    escaped: bool = False

    def after(self, text: str) -> "_Place":
        depth, within, escaped = self.depth, self.within, self.escaped
        for sign in text:
            if escaped:
                escaped = False
            elif within:
                within, escaped = sign != '"', sign == "\\"
            else:
                within = sign == '"'
                depth += (sign in "[{") - (sign in "]}")
        return _Place(depth, within, escaped)


class _Words:
    """The vocabulary of a tokenizer by what it closes.

    Attributes:
        texts: What each token says; nothing for special tokens.
        eos: The token that ends an answer.
    """

    def __init__(self, tokenizer: Any) -> None:
        import numpy as np

        special = set(tokenizer.all_special_ids)
        self.eos: int = tokenizer.eos_token_id
        self.texts = tuple("" if token in special else tokenizer.decode([token]) for token in range(len(tokenizer)))
        first = {True: '"', False: "]}"}  # within a string, and elsewhere
        self._closing = {
            within: np.array(sorted(self._beginning(signs), key=lambda token: -_closes(self.texts[token], within)), int)
            for within, signs in first.items()
        }

    def mask(self, matcher: Any, scores: Any) -> int:
        """Mask what leaves the schema in logits of shape (1, vocabulary), padded beyond the tokenizer's or not.

        Returns:
            How many tokens are left.
        """
        import llguidance.torch

        num_tokens = len(self.texts)
        scores[:, num_tokens:] = float("-inf")
        bitmask = _bitmask(matcher, num_tokens)
        llguidance.torch.apply_token_bitmask_inplace(scores[:, :num_tokens], bitmask.to(scores.device))
        return int(_bits_of(bitmask, num_tokens).sum())

    def text(self, token: int) -> str:
        """What a token says; nothing beyond the tokenizer's vocabulary."""
        return self.texts[token] if token < len(self.texts) else ""

    def _beginning(self, signs: str) -> list[int]:
        return [token for token, text in enumerate(self.texts) if text and text[0] in signs]

    def closing(self, matcher: Any, place: _Place) -> list[int]:
        """The allowed token that closes most; where none closes anything, one that says something. Nothing, or one."""
        import numpy as np

        bits = _bits_of(_bitmask(matcher, len(self.texts)), len(self.texts))
        ahead = self._closing[place.within and not place.escaped]
        allowed = ahead[bits[ahead] == 1]
        if not allowed.size:
            allowed = np.array([token for token in np.flatnonzero(bits)[:_LOOKED_AT] if self.texts[token]], int)
        return [int(allowed[0])] if allowed.size else []


def _closes(text: str, within: bool) -> int:
    """How much a token closes, less what it opens: within a string those signs may be text, its own mark closes it."""
    opened = max(0, text.count('"') - within) + sum(sign in "[{,:" for sign in text)
    return sum(sign in "]}" for sign in text) - 3 * opened


@lru_cache(maxsize=2)
def _llguidance_tokenizer(tokenizer: Any, vocab_size: int) -> Any:
    import llguidance.hf

    return llguidance.hf.from_tokenizer(tokenizer, vocab_size)


@lru_cache(maxsize=2)
def _words(tokenizer: Any) -> _Words:
    return _Words(tokenizer)


def _bitmask(matcher: Any, vocabulary: int) -> Any:
    import llguidance.torch

    bitmask = llguidance.torch.allocate_token_bitmask(1, vocabulary)
    llguidance.torch.fill_next_token_bitmask(matcher, bitmask, 0)
    return bitmask


def _bits_of(bitmask: Any, num_tokens: int) -> Any:
    """Whether each token is allowed, shape (vocabulary,)."""
    import numpy as np

    return np.unpackbits(bitmask.numpy().view(np.uint8), bitorder="little")[:num_tokens]


def _allow_alone(scores: Any, token: int) -> None:
    scores.fill_(float("-inf"))
    scores[:, token] = 0.0


def _way_out(matcher: Any, place: _Place, words: _Words) -> list[int] | None:
    """Tokens that finish an answer from where it is, about as few as it takes; None where no end is found.

    The matcher is led along.
    """
    way: list[int] = []
    while not matcher.is_stopped() and not matcher.is_accepting():
        if matcher.is_error() or len(way) >= _LONGEST_WAY:
            return None
        found = list(matcher.compute_ff_tokens()) or words.closing(matcher, place)
        if not found or not matcher.consume_tokens(found):
            return None
        way += found
        for token in found:
            place = place.after(words.texts[token])
    return way
