"""Answers of a model that is served elsewhere, behind an OpenAI-compatible endpoint.

It stands among the meters, and not with the models that recipes load: of a served model nothing is made here, it is
observed as a client sees it. What it answers is on the disk before it is used, since it may have been paid for.
"""

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Self

from sweeps.errors import InvalidInput, Problem, ServiceUnreachable
from tracking.meters.chat import BUSY, Endpoint, NoReplyError, body_of, completions, response_format
from tracking.meters.probe import probe
from tracking.meters.reply_cache import ReplyCache

PATIENCE = 4  # time-outs that one request may take, its repetitions after 429 and 5xx included
ATTEMPTS = 2  # where a reply is no chat completion
CATALOGUE_S = 5.0
LIMITS = ("max_tokens", "max_completion_tokens")  # newer models know the limit by the second name alone

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Answers:
    """What a served model answered.

    Attributes:
        texts: In the order of the questions; None where there is no answer.
        missing: By place, why there is none.
        asked: Requests that were made for it; the other answers were there already.
        tokens_in: Of all answers, by the endpoint's own count; ``tokens_out`` likewise.
        served: What the endpoint calls the models that answered.
    """

    texts: list[str | None]
    missing: dict[int, str]
    asked: int
    tokens_in: int
    tokens_out: int
    served: tuple[str, ...]


@dataclass(frozen=True)
class Reply:
    """One answer. ``text`` is None where there is none, and ``why`` then says why.

    Attributes:
        about: That of a ``NoReplyError``; also ``lost`` where what came is no chat completion.
        tokens_in: By the endpoint's own count, 0 where it tells none; ``tokens_out`` likewise.
        served: What the endpoint calls the model that answered.
    """

    text: str | None
    why: str = ""
    about: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    served: str = ""

    @property
    def may_cost(self) -> bool:
        """Whether the endpoint may charge for it: not for what it refused, or what never reached it."""
        return self.text is not None or self.about in ("", "lost")


class ServedModel:
    """A model behind an endpoint, asked for greedy answers unless it is given a temperature. Safe for several threads.

    Args:
        model: Its name there.
        endpoint: The base (``http://host:8000/v1``) or the full address that ends in ``/chat/completions``.
        max_tokens: The most that an answer may have.
        identity: What else decides answers; another identity has a place of its own in the cache.
        api_key_env: The environment variable that holds the key; None sends no key.
        concurrency: Requests under way at a time.
        timeout_s: Of one request; with its repetitions it may take ``PATIENCE`` times as long.
        cache: The file of answers; None keeps none.
        schema: Sent with every request as ``response_format``; None leaves answers free.
        who: What messages call it.
        temperature: Of its answers; 0 is greedy.
        keys: What of a sweep, or of a command line, sets ``api_key_env`` and ``timeout``, for messages.
        repeats: Whether what may have been answered, and charged for, is asked again. Where it is not, how often that
            was is kept beside the answers.

    Raises:
        InvalidInput: The key's variable is not set.
    """

    def __init__(
        self,
        model: str,
        endpoint: str,
        max_tokens: int,
        identity: Any = None,
        api_key_env: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 60.0,
        cache: Path | None = None,
        schema: dict[str, Any] | None = None,
        who: str = "the incumbent",
        temperature: float = 0,
        keys: tuple[str, str] = ("evaluate.incumbent.api_key_env", "evaluate.incumbent.timeout"),
        repeats: bool = True,
    ) -> None:
        headers = headers_of(api_key_env, keys[0])
        self.model, self.max_tokens, self.concurrency = model, max_tokens, concurrency
        self.endpoint = Endpoint(
            completions(endpoint), headers, timeout_s, PATIENCE * timeout_s, "the schema of answers", repeats
        )
        self._schema, self._who, self._temperature, self._timeout_key = schema, who, temperature, keys[1]
        self._identity = identity
        self._cache = ReplyCache(cache)
        self._limit = LIMITS[0]

    @classmethod
    def of(cls, settings: Mapping[str, Any], max_tokens: int, cache: Path | None = None) -> Self:
        """The model that an ``evaluate.incumbent`` block with an endpoint describes, given as plain values.

        Args:
            settings: ``model``, ``endpoint``, and what the block has beside them; ``served``, what :meth:`probe` said.
            max_tokens: As above; ``cache`` too.
            cache: As above.
        """
        return cls(
            settings["model"],
            settings["endpoint"],
            max_tokens,
            [settings.get("revision"), settings.get("served")],
            settings.get("api_key_env"),
            settings.get("concurrency", 8),
            settings.get("timeout", 60.0),
            cache,
            settings.get("schema"),
        )

    def probe(self) -> dict[str, str]:
        """Ask for a few words, to know at the start that it answers; return what the endpoint says that it serves.

        That is the ``model`` of its replies, which may be more exact than the name it was asked for, and from its list
        of models, where it has one, the ``root`` and ``parent`` that vLLM gives: what stands behind a name.

        Where a schema is sent along, it is asked first whether it keeps to one.

        Raises:
            ServiceUnreachable: It does not answer within a time-out, refuses the key or the schema, ignores the schema,
                or does not know the model.
        """
        if self._schema is not None:
            probe(self.endpoint, self.model, self._who, self._timeout_key)
        patient = replace(self.endpoint, limit_s=self.endpoint.timeout_s)
        with self.endpoint.reaching(self._who, self._timeout_key):
            try:
                reply = self.endpoint.post_once(self._hello(), self.endpoint.timeout_s)
            except urllib.error.HTTPError as error:
                text = body_of(error)
                if error.code not in BUSY and not (error.code == 400 and self._renamed(text)):
                    said = f"answers {error.code} {error.reason}: {text}"
                    raise ServiceUnreachable(f"{self._who} at {self.endpoint.url} {said}") from None
                reply = patient.post(self._hello())
            found = {"model": reply["model"]} if isinstance(reply.get("model"), str) else {}
            reply["choices"][0]["message"]
        return found | self._listed()

    def _listed(self) -> dict[str, str]:
        """What the endpoint's list of models says of this one; nothing where it has no list."""
        try:
            models = _models(_catalogue(self.endpoint.url), self.endpoint.headers)
            entry = next(one for one in models if one["id"] == self.model)
            return {key: entry[key] for key in ("root", "parent") if isinstance(entry.get(key), str)}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
            return {}

    def answer(self, prompts: Sequence[Messages]) -> list[str]:
        """The answers, one request after the other, asked anew: to be timed.

        Raises:
            ServiceUnreachable: There is none to some.
        """
        replies = [self._ask(prompt, Event()) for prompt in prompts]
        for reply in replies:
            if reply.text is None:
                raise ServiceUnreachable(f"{self._who} at {self.endpoint.url} {reply.why}")
        return [str(reply.text) for reply in replies]

    def answer_all(self, prompts: Sequence[Messages], max_missing: float) -> Answers:
        """The answers to many, ``concurrency`` at a time; equal questions, and those of an earlier call, once.

        Args:
            prompts: Conversations that end with the user's turn.
            max_missing: The share of them that may have no answer.

        Raises:
            ServiceUnreachable: More have none, or it refuses all. What came is kept.
        """
        keys = [self._key(prompt) for prompt in prompts]
        replies = {key: Reply(**kept) for key in dict.fromkeys(keys) if (kept := self._cache.get(key)) is not None}
        todo = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in replies}
        stopped, missing = Event(), 0
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures: dict[Future[Reply | None], str] = {
                pool.submit(self._ask_unless_stopped, key, prompt, stopped): key for key, prompt in todo.items()
            }
            try:
                for future in as_completed(futures):
                    reply = future.result()
                    if reply is None:
                        continue  # another one was refused as all would be, and comes later
                    replies[futures[future]] = reply
                    missing += keys.count(futures[future]) if reply.text is None else 0
                    if reply.about == "all":
                        raise ServiceUnreachable(f"{self._who} at {self.endpoint.url} {reply.why}")
                    if missing > max_missing * len(prompts):
                        share = f"{missing} of {len(prompts)} items, more than {100 * max_missing:g} %"
                        said = f"gave no answer to {share}: it {reply.why}"
                        raise ServiceUnreachable(f"{self._who} at {self.endpoint.url} {said}")
            finally:
                # Those under way end first, and are kept: they may be paid for.
                stopped.set()
                pool.shutdown(cancel_futures=True)
        found = [replies[key] for key in keys]
        return Answers(
            texts=[reply.text for reply in found],
            missing={place: reply.why for place, reply in enumerate(found) if reply.text is None},
            asked=len(todo),
            tokens_in=sum(reply.tokens_in for reply in found),
            tokens_out=sum(reply.tokens_out for reply in found),
            served=tuple(sorted({reply.served for reply in found} - {""})),
        )

    def kept(self, prompt: Messages, time: int = 0) -> Reply | None:
        """The answer to a question that was asked before, for the first time or a later one; None where it was not."""
        found = self._cache.get(self._key(prompt, time))
        return Reply(**found) if found is not None else None

    def num_lost(self, prompt: Messages, time: int = 0) -> int:
        """How often a question may have been charged for without an answer, in all runs."""
        found = self._cache.get(f"lost-{self._key(prompt, time)}")
        return int(found["times"]) if found is not None else 0

    def ask(self, prompt: Messages, stopped: Event, time: int = 0) -> Reply:
        """Ask, and keep what is answered; with ``stopped`` set nothing is asked again.

        Args:
            time: A question that is asked again, for another answer, is kept beside the first under its number.

        Raises:
            ServiceUnreachable: It refuses this question as it would any other.
        """
        reply = self._ask_and_keep(self._key(prompt, time), prompt, stopped)
        if reply.about == "all":
            raise ServiceUnreachable(f"{self._who} at {self.endpoint.url} {reply.why}")
        return reply

    def _key(self, prompt: Messages, time: int = 0) -> str:
        parts = [self.endpoint.url, self._identity, self.model, self.max_tokens, list(prompt)]
        parts += [self._schema] if self._schema is not None else []
        parts += [{"temperature": self._temperature, "time": time}] if self._temperature or time else []
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def body(self, prompt: Messages) -> dict[str, Any]:
        """What is posted for a conversation."""
        told = {
            "model": self.model,
            "messages": list(prompt),
            "temperature": self._temperature,
            self._limit: self.max_tokens,
        }
        if self._schema is not None:
            told["response_format"] = response_format(self._schema)
        return told

    def _hello(self) -> dict[str, Any]:
        return {**self.body([{"role": "user", "content": "Hello."}]), self._limit: min(16, self.max_tokens)}

    def _ask_unless_stopped(self, key: str, prompt: Messages, stopped: Event) -> Reply | None:
        """An answer; None where one of the others has been refused as all will be, which this one may tell, too.

        Who asks says so at once: whoever collects the answers may come to it only after further ones were asked.
        """
        if stopped.is_set():
            return None
        reply = self._ask_and_keep(key, prompt, stopped)
        if reply.about == "all":
            stopped.set()
        return reply

    def _ask_and_keep(self, key: str, prompt: Messages, stopped: Event) -> Reply:
        reply = self._ask(prompt, stopped)
        if reply.text is not None:
            told = {"tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out, "served": reply.served}
            self._cache.put(key, {"text": reply.text, **told})
        elif reply.may_cost and not self.endpoint.repeats:
            lost = self._cache.get(f"lost-{key}") or {"times": 0}
            self._cache.put(f"lost-{key}", {"times": lost["times"] + 1})
        return reply

    def _ask(self, prompt: Messages, stopped: Event) -> Reply:
        why = ""
        for _ in range(ATTEMPTS if self.endpoint.repeats else 1):
            try:
                return _read(self._post(prompt, stopped))
            except NoReplyError as error:
                return Reply(None, str(error), error.about)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                why = f"answers, but not with a chat completion ({type(error).__name__}: {error})"
        return Reply(None, why, "lost")

    def _post(self, prompt: Messages, stopped: Event) -> Any:
        try:
            return self.endpoint.post(self.body(prompt), stopped)
        except NoReplyError as error:
            if error.about == "request" and self._renamed(str(error)):
                return self.endpoint.post(self.body(prompt), stopped)
            raise

    def _renamed(self, refusal: str) -> bool:
        """Whether the server wants the limit of an answer by its other name, which is then used."""
        if LIMITS[1] in refusal:
            self._limit = LIMITS[1]
        return LIMITS[1] in refusal


def _catalogue(completions_url: str) -> str:
    return completions_url.removesuffix("/chat/completions") + "/models"


def _models(url: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    request = urllib.request.Request(url, headers=dict(headers))
    with urllib.request.urlopen(request, timeout=CATALOGUE_S) as response:
        found: list[dict[str, Any]] = json.loads(response.read())["data"]
    return found


def headers_of(api_key_env: str | None, where: str) -> dict[str, str]:
    """The headers that send the key of an environment variable; none without one.

    Raises:
        InvalidInput: It is not set; ``where`` names what asks for it.
    """
    if not api_key_env:
        return {}
    key = os.environ.get(api_key_env, "")
    if not key:
        raise InvalidInput(Problem(where, f"the environment has no {api_key_env}", f"export {api_key_env}=…"))
    return {"Authorization": f"Bearer {key}"}


def sole_model(endpoint: str, headers: Mapping[str, str]) -> str:
    """The name of the one model that an endpoint serves.

    Raises:
        InvalidInput: It lists none, or several.
        ServiceUnreachable: It does not answer.
    """
    url = _catalogue(completions(endpoint))
    try:
        names = [str(one["id"]) for one in _models(url, headers)]
    except urllib.error.HTTPError as error:
        raise InvalidInput(Problem("--model", f"{url} answers {error.code}, so it is not known", "name it")) from None
    except OSError as error:
        raise ServiceUnreachable(f"{url} does not answer: {getattr(error, 'reason', error)}") from None
    except (ValueError, LookupError, TypeError):
        raise InvalidInput(Problem("--model", f"{url} lists no models", "name it")) from None
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise InvalidInput(Problem("--model", f"must name one of the models at {endpoint}, which are {listed}"))
    return names[0]


def _read(reply: Any) -> Reply:
    """The answer in a chat completion. One without any text is missing: an empty text is an answer."""
    choice, usage = reply["choices"][0], reply.get("usage") or {}
    content = choice["message"]["content"]
    if content is None:
        return Reply(None, f"answered without a text (finish_reason {choice.get('finish_reason')!r})")
    return Reply(
        str(content).strip(),
        tokens_in=int(usage.get("prompt_tokens") or 0),
        tokens_out=int(usage.get("completion_tokens") or 0),
        served=str(reply.get("model") or ""),
    )
