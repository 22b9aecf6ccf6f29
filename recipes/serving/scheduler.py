"""Continuous batching: requests join the batch of their model between two tokens, and leave it when they end.

(Yu et al. 2022, Orca.) Each served model has a batch of its own; models take turns, a token each.
"""

import threading
from collections import deque
from typing import Any

import torch

from recipes.guiding import Guide, guides
from recipes.serving.asking import End, Failure, Piece, Question, Reason
from recipes.serving.cache import Pairs, Prefixes, Rows, cache_of, pairs_of
from recipes.serving.choosing import Chooser
from recipes.serving.models import Models
from recipes.serving.text import TextStream

IDLE_S = 0.5
_GONE = Failure(RuntimeError("the server is shutting down"))


class Busy(Exception):
    """As many requests wait as may."""


class _Row:
    """An answer that is being made."""

    def __init__(self, question: Question, tokenizer: Any, ends: tuple[int, ...], guide: Guide | None) -> None:
        self.question, self._ends = question, ends
        self._chooser = Chooser(question.sampling, ends, guide)
        self._text = TextStream(tokenizer, question.sampling.stop)
        self.last = -1

    def take(self, logits: torch.Tensor, likeliest: int) -> bool:
        """Take the next token, (1, vocabulary) its logits; tell it; return whether the answer goes on.

        What goes wrong with this answer is told to whoever waits for it, and to nobody else of the batch.
        """
        try:
            return self._take(logits, likeliest)
        except Exception as error:
            self.question.end(Failure(error))
            return False

    def _take(self, logits: torch.Tensor, likeliest: int) -> bool:
        question, sampling = self.question, self.question.sampling
        token = likeliest if sampling.is_greedy else self._chooser.choose(logits)
        question.num_tokens += 1
        if token in self._ends and not sampling.ignore_end:
            return self._end("stop")
        self.last = token
        piece = self._text.push(token)
        whole = self._text.is_stopped or self._chooser.is_complete
        if whole or question.num_tokens >= sampling.max_new_tokens:
            return self._end("stop" if whole else "length", piece)
        question.tell(Piece(piece))
        return True

    def _end(self, reason: Reason, piece: str = "") -> bool:
        self.question.end(End(piece + self._text.finish(), reason))
        return False


class _Batch:
    """The answers of one model that are continued together."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.cache = Rows()
        self.prefixes = Prefixes()

    def keep(self, places: list[int]) -> None:
        if len(places) < len(self.rows):
            self.rows = [self.rows[place] for place in places]
            self.cache.keep(places)


class Scheduler:
    """Answers questions on a thread of its own, from ``start`` to ``close``.

    Args:
        models: Used by that thread alone from then on.
        max_rows: Answers that are made at a time, over all models.
        max_waiting: Questions that may wait beside them.
    """

    def __init__(self, models: Models, *, max_rows: int = 16, max_waiting: int = 256) -> None:
        self.models, self.max_rows, self.max_waiting = models, max_rows, max_waiting
        self._waiting: deque[Question] = deque()
        self._beginning: list[Question] = []  # no longer waiting, not yet in a batch
        self._changed = threading.Condition()
        self._closing = False
        self._batches = {name: _Batch() for name in models.names}
        self._thread = threading.Thread(target=self._work, name="podium-serving", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """End after the token that is being computed; whoever still waits is told."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    @property
    def load(self) -> tuple[int, int]:
        """Answers that are being made, and questions that wait."""
        rows = [row.question for batch in self._batches.values() for row in batch.rows]
        return sum(not question.is_over for question in rows), len(self._waiting)

    def submit(self, question: Question) -> None:
        """Have a question answered.

        Raises:
            Busy: Too many wait.
        """
        with self._changed:
            if self._closing:
                question.end(_GONE)
                return
            beginning = sum(not other.is_over for other in self._beginning)
            if sum(self.load) + beginning >= self.max_rows + self.max_waiting:
                raise Busy
            self._waiting.append(question)
            self._changed.notify()

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                while not self._closing:
                    for name, questions in self._admitted().items():
                        self._begin(name, questions)
                        del self._beginning[: len(questions)]
                    for name, batch in self._batches.items():
                        if batch.rows:
                            self._step(name, batch)
        finally:
            with self._changed:
                self._closing = True
                left = [row.question for batch in self._batches.values() for row in batch.rows]
                left += [*self._beginning, *self._waiting]
            for question in left:
                question.end(_GONE)

    def _admitted(self) -> dict[str, list[Question]]:
        """By model, the questions for which there is room now; waits where there is nothing to do."""
        admitted: dict[str, list[Question]] = {}
        with self._changed:
            active, _ = self.load
            if not active and not self._waiting:
                self._changed.wait(IDLE_S)
            while self._waiting and active < self.max_rows:
                question = self._waiting.popleft()
                if not question.is_given_up:
                    admitted.setdefault(question.model, []).append(question)
                    active += 1
            self._beginning = [question for questions in admitted.values() for question in questions]
        return admitted

    def _begin(self, name: str, questions: list[Question]) -> None:
        """Compute prompts, take the first token of each, and let those that go on join the batch."""
        batch = self._batches[name]
        rows: list[_Row] = []
        caches: list[Pairs] = []
        for question in questions:
            try:
                row = _Row(question, self.models.tokenizer, self.models.ends, self._guide(question))
                logits, pairs = self._read(name, question, batch.prefixes)
                if row.take(logits, int(logits.argmax(-1))):
                    rows.append(row)
                    caches.append(pairs)
            except Exception as error:  # of this prompt (too little memory, say): the others are answered
                question.end(Failure(error))
        if not rows:
            return
        try:
            batch.cache.add(caches)
        except Exception as error:  # those that were there before go on
            _fail(rows, error)
        else:
            batch.rows += rows

    def _guide(self, question: Question) -> Guide | None:
        schema = question.sampling.schema
        limit = question.sampling.max_new_tokens
        return None if schema is None else guides(self.models.tokenizer, schema, limit)()

    def _read(self, name: str, question: Question, prefixes: Prefixes) -> tuple[torch.Tensor, Pairs]:
        """The logits of a prompt's next token, (1, vocabulary), and the prompt's keys and values."""
        network, device = self.models.network(name), self.models.device
        question.cached, kept = prefixes.find(question.ids)
        rest = torch.tensor([question.ids[question.cached :]], device=device)
        out = network(
            input_ids=rest,
            attention_mask=torch.ones(1, len(question.ids), dtype=torch.long, device=device),
            position_ids=torch.arange(question.cached, len(question.ids), device=device)[None],
            past_key_values=cache_of(kept),
            use_cache=True,
            logits_to_keep=1,
        )
        pairs = pairs_of(out.past_key_values)
        prefixes.keep(question.ids, pairs)
        return out.logits[:, -1].float(), pairs

    def _step(self, name: str, batch: _Batch) -> None:
        """One more token of every answer of a model."""
        try:
            batch.keep([place for place, row in enumerate(batch.rows) if not row.question.is_given_up])
            if not batch.rows:
                return
            network, device = self.models.network(name), self.models.device
            tokens = torch.tensor([[row.last] for row in batch.rows], device=device)
            out = network(input_ids=tokens, use_cache=True, **batch.cache.advance(device))
            logits = out.logits[:, -1].float()
            likeliest = logits.argmax(-1).tolist()
            going = [
                place for place, row in enumerate(batch.rows) if row.take(logits[place : place + 1], likeliest[place])
            ]
            batch.keep(going)
        except Exception as error:
            _fail(batch.rows, error)
            self._batches[name] = _Batch()


def _fail(rows: list[_Row], error: Exception) -> None:
    for row in rows:
        row.question.end(Failure(error))
