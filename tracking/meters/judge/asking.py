"""One question to a judge, or many: through MLflow's ``make_judge``, from the cache, retried, validated and counted.

MLflow writes the prompt and the schema, and reads the reply. It does not check what comes back, asks again without the
schema where a server refuses it, drops the tokens of replies that it cannot read, and retries for minutes whatever the
time-out. So its judges' requests are posted by our own endpoint: the one seam is the function with which its gateway
adapter sends a request (MLflow's version is pinned).
"""

import functools
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import time
from typing import Any

from sweeps.errors import PodiumError, ServiceUnreachable
from tracking.meters.chat import Endpoint, NoReplyError
from tracking.meters.judge.verdicts import JudgeError
from tracking.meters.metrics import Item
from tracking.meters.reply_cache import ReplyCache

ATTEMPTS = 2
IN_A_ROW = 3  # so many questions without an answer, one after the other, and the service counts as gone
IN_VAIN = 10  # so many without any verdict, and no more are paid for


@dataclass(frozen=True)
class Form:
    """What is asked, and what a verdict is.

    Attributes:
        name: Of the form.
        instructions: With MLflow's ``{{ inputs }}``, ``{{ outputs }}`` and ``{{ expectations }}``.
        values: What a verdict may be: integers, or words.
        asked: The same in words, for messages.
    """

    name: str
    instructions: str
    values: tuple[int, ...] | tuple[str, ...]
    asked: str

    def read(self, value: Any) -> Any:
        """The verdict that a reply holds, also where an endpoint writes 4.0 or "4"; None where it is none."""
        if isinstance(self.values[0], str):
            return value if isinstance(value, str) and value in self.values else None
        if (isinstance(value, str) and value.strip().isdecimal()) or (isinstance(value, float) and value.is_integer()):
            value = int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) and value in self.values else None


@dataclass(frozen=True)
class Question:
    """One thing to judge: an item, what is judged of it (an answer, or two by name), in an order that may matter."""

    item: Item
    output: Any
    order: str = ""


@dataclass(frozen=True)
class Reply:
    """What came of a question. ``value`` is None where there is no verdict, and ``error`` says why."""

    value: Any = None
    reason: str = ""
    error: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: bool = False
    served: str | None = None
    about: str = ""  # as in NoReplyError, where nothing came


class Asker:
    """Asks a model questions of one form. Safe to use from several threads.

    Args:
        endpoint: Where.
        model: The model's name there; ``revision`` what is known beside it, which makes other verdicts.
        parameters: Of the request: temperature, seed, ….
        form: What is asked.
        concurrency: Requests under way at a time.
        cache_dir: Where verdicts are kept; None keeps none.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        revision: str | None,
        parameters: Mapping[str, Any],
        form: Form,
        concurrency: int,
        cache_dir: Path | None,
    ) -> None:
        self._endpoint, self._model, self._parameters, self._form = endpoint, model, dict(parameters), form
        self._concurrency = concurrency
        self._instrument = _hash(
            {
                "model": model,
                "revision": revision,
                "prompt": _hash([form.instructions, version("mlflow")]),  # MLflow puts its own words around ours
                "schema": ["rationale", list(form.values)],
                "parameters": self._parameters,
            }
        )
        name = f"{form.name}-{self._instrument[:16]}.jsonl"
        self._cache = ReplyCache(cache_dir / name if cache_dir else None)

    def ask_many(self, questions: Sequence[Question]) -> list[Reply]:
        """The replies, in order; a question that has none has its error there. Equal questions are asked once.

        Raises:
            ServiceUnreachable: The endpoint refuses every request, or some in a row had no answer.
            JudgeError: The first ones that were asked have no verdict, or no question has.
        """
        keys = [self._key(question) for question in questions]
        replies = {key: kept for key in dict.fromkeys(keys) if (kept := self._kept(key)) is not None}
        todo = {key: question for key, question in zip(keys, questions, strict=True) if key not in replies}
        if todo:
            replies |= self._ask_these(todo)
        if len(todo) >= IN_A_ROW and all(reply.value is None for reply in replies.values()):
            first = replies[keys[0]]
            raise JudgeError(f"no verdict on any of {len(todo)} items: {first.error}")
        told: list[Reply] = []
        fresh = set(todo)
        for key in keys:
            reply = replies[key]
            told.append(reply if key in fresh or reply.value is None else replace(reply, cached=True))
            fresh.discard(key)  # what is asked once is paid for once
        return told

    def num_to_ask(self, questions: Sequence[Question]) -> int:
        """How many of these questions, equal ones counted once, have no verdict in the cache."""
        return sum(self._kept(key) is None for key in {self._key(question) for question in questions})

    def _key(self, question: Question) -> str:
        return _hash([self._instrument, _content(question)])

    def _ask_these(self, todo: Mapping[str, Question]) -> dict[str, Reply]:
        judge = self._judge  # made before the clock starts: its first import takes seconds
        watch = _Watch()

        def one(key: str) -> Reply:
            if watch.stopped.is_set():
                return Reply()
            reply = self._ask(judge, key, todo[key], watch.stopped)
            watch.saw(reply)
            return reply

        with ThreadPoolExecutor(self._concurrency) as pool:
            try:
                replies = list(pool.map(one, todo))
            finally:  # those under way end first, and are kept: they are paid for
                watch.stopped.set()
        if watch.error is not None:
            raise watch.error
        return dict(zip(todo, replies, strict=True))

    def _kept(self, key: str) -> Reply | None:
        record = self._cache.get(key)
        value = self._form.read(record.get("value")) if record else None
        if record is None or value is None:
            return None
        return Reply(
            value,
            str(record.get("reason") or ""),
            tokens_in=_count(record.get("tokens_in")),
            tokens_out=_count(record.get("tokens_out")),
            cached=True,
            served=record.get("served"),
        )

    def _ask(self, judge: Any, key: str, question: Question, stopped: threading.Event) -> Reply:
        """Ask until there is a valid verdict, at most ``ATTEMPTS`` times; it is on the disk when this returns."""
        kept = self._kept(key)  # another process may have asked meanwhile
        if kept is not None:
            return kept
        took = _Took(self._endpoint, stopped)
        where = f"on item {question.item.id!r}"
        came = ""
        for _ in range(ATTEMPTS):
            value, reason, came = self._once(judge, question, took)
            if took.refused is not None:
                error = f"the judge at {self._endpoint.url} {took.refused} ({where})"
                return took.reply(error=error, about=took.refused.about)
            if value is not None:
                record = {"value": value, "reason": reason, "served": took.served, "t": round(time(), 3)}
                self._cache.put(key, {**record, "tokens_in": took.tokens_in, "tokens_out": took.tokens_out})
                return took.reply(value=value, reason=reason)
        error = f"the judge at {self._endpoint.url} gave no verdict {where} in {ATTEMPTS} attempts"
        return took.reply(error=f"{error}: {self._form.asked} was asked for, but {came}")

    def _once(self, judge: Any, question: Question, took: "_Took") -> tuple[Any, str, str]:
        """The verdict (or None), its reason, and what came."""
        from mlflow.exceptions import MlflowException

        item = question.item
        try:
            with _sending(took.send):
                feedback = judge(inputs=item.messages, outputs=question.output, expectations={"answer": item.reference})
        except MlflowException as error:
            return None, "", f"came {error.message[:300]}"
        except LookupError as error:  # MLflow takes the reply apart without a look
            return None, "", f"the reply has no {error}"
        except TypeError as error:
            return None, "", f"the reply is no object: {error}"
        reason = feedback.rationale if isinstance(feedback.rationale, str) else ""
        return self._form.read(feedback.value), reason, f"came {feedback.value!r:.80}"

    @functools.cached_property
    def _judge(self) -> Any:
        # A key must be there for MLflow to work at all; what is sent is the endpoint's own header.
        os.environ.setdefault("OPENAI_API_KEY", "none")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")  # else a list of prices is looked for at github.com
        from typing import Literal

        from mlflow.genai import make_judge

        return make_judge(
            name=self._form.name,
            instructions=self._form.instructions,
            model=f"openai:/{self._model}",
            feedback_value_type=Literal[self._form.values],
            # The reason before the score, in the schema too: a score written first is not thought about.
            generate_rationale_first=True,
            inference_params=self._parameters or None,
            base_url=self._endpoint.url,
        )


class _Watch:
    """Sees from the replies as they come whether it is worth going on, and says stop."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.error: PodiumError | None = None
        self._replies = self._verdicts = self._in_a_row = 0
        self._lock = threading.Lock()

    def saw(self, reply: Reply) -> None:
        with self._lock:
            self._replies += 1
            self._verdicts += reply.value is not None
            self._in_a_row = self._in_a_row + 1 if reply.about == "service" else 0
            if self.error is not None:
                return
            if reply.about == "all" or self._in_a_row >= IN_A_ROW:
                self.error = ServiceUnreachable(str(reply.error))
            elif self._replies >= IN_VAIN and not self._verdicts:
                self.error = JudgeError(f"no verdict on any of the first {IN_VAIN} items: {reply.error}")
            if self.error is not None:
                self.stopped.set()


class _Took:
    """What one verdict took: every reply counts, valid or not."""

    def __init__(self, endpoint: Endpoint, stopped: threading.Event) -> None:
        self._endpoint, self._stopped = endpoint, stopped
        self.refused: NoReplyError | None = None
        self.served: str | None = None
        self.tokens_in: int | None = 0
        self.tokens_out: int | None = 0

    def send(self, payload: Mapping[str, Any]) -> Any:
        """Post what MLflow made. It leaves ``response_format`` out once a server has refused it: that is not sent."""
        self.refused = None
        try:
            if "response_format" not in payload:
                raise NoReplyError(f"has refused response_format, {self._endpoint.no_form}", "all")
            reply = self._endpoint.post(payload, self._stopped)
        except NoReplyError as error:
            self.refused = error
            raise
        except ValueError:  # no JSON; what it took is not known
            self.tokens_in = self.tokens_out = None
            raise
        usage = reply.get("usage") if isinstance(reply, dict) else None
        usage = usage if isinstance(usage, dict) else {}
        self.tokens_in = _sum(self.tokens_in, _count(usage.get("prompt_tokens")))
        self.tokens_out = _sum(self.tokens_out, _count(usage.get("completion_tokens")))
        if isinstance(reply, dict) and isinstance(reply.get("model"), str):
            self.served = reply["model"]
        return reply

    def reply(self, **known: Any) -> Reply:
        return Reply(tokens_in=self.tokens_in, tokens_out=self.tokens_out, served=self.served, **known)


_slipping = threading.Lock()
_thread = threading.local()


@contextmanager
def _sending(send: Callable[[Mapping[str, Any]], Any]) -> Iterator[None]:
    """In this thread, requests of MLflow's judges are sent with ``send``; in others, and after, as ever."""
    from mlflow.genai.judges.adapters import gateway_adapter

    with _slipping:
        theirs = gateway_adapter.send_chat_request
        if not hasattr(theirs, "podium"):

            @functools.wraps(theirs)
            def ours(endpoint: str, headers: dict[str, str], payload: dict[str, Any], num_retries: int) -> Any:
                if (mine := getattr(_thread, "send", None)) is not None:
                    return mine(payload)
                return theirs(endpoint=endpoint, headers=headers, payload=payload, num_retries=num_retries)

            ours.podium = True  # type: ignore[attr-defined]
            gateway_adapter.send_chat_request = ours
    _thread.send = send
    try:
        yield
    finally:
        _thread.send = None


def _content(question: Question) -> Any:
    return [question.order, question.item.messages, question.item.reference, question.output]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
