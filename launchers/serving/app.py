"""The HTTP side: OpenAI's chat API over a scheduler, as an ASGI application."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from launchers.serving.log import RequestLog
from launchers.serving.protocol import ApiError, ChatRequest, parse
from recipes.guiding import schema_problem
from recipes.serving.asking import End, Event, Failure, Question, Reason, Sampling
from recipes.serving.choosing import SchemaError
from recipes.serving.scheduler import Busy, Scheduler

RETRY_AFTER_S = 1
CLIENT_GONE = 499  # nginx's number, for the log
MOST_BYTES = 10_000_000  # of a request


@dataclass(frozen=True)
class Defaults:
    """How requests are answered that do not say it themselves: as the bundle was measured.

    Attributes:
        max_new_tokens: The most tokens of an answer.
        schema: Every answer is forced into it; None leaves them free.
        about: By model, what the list of models says of it beside its name.
    """

    max_new_tokens: int
    schema: dict[str, Any] | None = None
    about: dict[str, dict[str, Any]] = field(default_factory=dict)


def create_app(scheduler: Scheduler, defaults: Defaults, log: RequestLog | None = None) -> Starlette:
    """The application. It starts the scheduler when it starts, and closes it at its end.

    Args:
        scheduler: Not started yet.
        defaults: See there.
        log: Where each request is written.
    """
    api = _Api(scheduler, defaults, log or RequestLog(None))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        scheduler.start()
        yield
        await asyncio.to_thread(scheduler.close)

    routes = [
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/v1/models", api.models),
        Route("/health", api.health),
        Route("/metrics", api.metrics),
    ]
    there = ", ".join(f"{'POST' if one.endpoint == api.chat else 'GET'} {one.path}" for one in routes)

    async def not_there(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "starlette's own, of a place or a method that is not there"
        told = ApiError(error.status_code, f"{request.method} {request.url.path} is not served; there are {there}")
        return JSONResponse(told.body(), told.status, error.headers)

    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: not_there, 405: not_there})


class _Answer:
    """One request, from its arrival to its line in the log. Events come from the scheduler's thread."""

    def __init__(self, request: ChatRequest, guided: bool) -> None:
        self.id, self.request, self.guided = f"chatcmpl-{uuid.uuid4().hex}", request, guided
        self.arrival, self._began = time.time(), time.monotonic()
        self.first_s: float | None = None
        self.total_s: float | None = None
        self.reason: Reason | None = None
        self.question: Question | None = None
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[float, Event]] = asyncio.Queue()

    def tell(self, event: Event) -> None:
        """Takes an event of the scheduler."""
        told = time.monotonic() - self._began, event
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, told)
        except RuntimeError:  # the loop is closed: the server ends, and nobody waits
            pass

    async def pieces(self) -> AsyncIterator[str]:
        """The text as it comes; afterwards ``reason`` is there.

        Raises:
            ApiError: There is no answer, or nobody who waits for it.
        """
        while True:
            at, event = await self._events.get()
            if isinstance(event, Failure):
                if isinstance(event.error, ApiError):
                    raise event.error
                if isinstance(event.error, SchemaError):
                    raise _no_schema(str(event.error))
                told = " ".join(str(event.error).split())[:300]
                raise ApiError(500, f"{type(event.error).__name__}: {told}", "server_error", type="server_error")
            self.first_s = at if self.first_s is None else self.first_s
            if isinstance(event, End):
                self.reason, self.total_s = event.reason, at
            yield event.text
            if self.reason is not None:
                return

    async def watch(self, request: Request) -> None:
        """End the answer when its client goes away. A stream's is watched by starlette."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.tell(Failure(ApiError(CLIENT_GONE, "the client has gone away")))

    def usage(self) -> dict[str, Any]:
        """Tokens, as OpenAI counts them; the one that ends an answer is one of the answer's."""
        assert self.question is not None
        prompt, completion = len(self.question.ids), self.question.num_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self.question.cached},
        }

    def record(self, status: int) -> dict[str, Any]:
        """The line in the log."""
        question = self.question
        return {
            "id": self.id,
            "model": self.request.model,
            "arrival": self.arrival,
            "first_token_s": self.first_s,
            "total_s": self.total_s,
            "prompt_tokens": len(question.ids) if question else None,
            "cached_tokens": question.cached if question else None,
            "completion_tokens": question.num_tokens if question else 0,
            "stream": bool(self.request.stream),
            "guided": self.guided,
            "finish_reason": self.reason,
            "status": status,
        }


class _Api:
    def __init__(self, scheduler: Scheduler, defaults: Defaults, log: RequestLog) -> None:
        self._scheduler, self._defaults, self._log = scheduler, defaults, log
        self._started, self._answered, self._refused = int(time.time()), 0, 0

    async def models(self, request: Request) -> Response:
        known = {"object": "model", "created": self._started, "owned_by": "podium"}
        names, about = self._scheduler.models.names, self._defaults.about
        data = [{"id": name, **known, **about.get(name, {})} for name in names]
        return JSONResponse({"object": "list", "data": data})

    async def health(self, request: Request) -> Response:
        alive = self._scheduler.is_alive
        return JSONResponse({"status": "ok" if alive else "the scheduler has ended"}, 200 if alive else 503)

    async def metrics(self, request: Request) -> Response:
        running, waiting = self._scheduler.load
        counts = {"running": running, "waiting": waiting, "answered": self._answered, "refused": self._refused}
        return Response("".join(f"podium_requests_{key} {value}\n" for key, value in counts.items()))

    async def chat(self, request: Request) -> Response:
        answer: _Answer | None = None
        try:
            asked = parse(await _body(request))
            schema = asked.schema_asked
            schema = self._defaults.schema if schema is None and asked.response_format is None else schema
            answer = _Answer(asked, guided=schema is not None)
            answer.question = await asyncio.to_thread(self._question, answer, schema)
            self._scheduler.submit(answer.question)
            if asked.stream:
                return StreamingResponse(self._stream(answer), media_type="text/event-stream")
            watching = asyncio.create_task(answer.watch(request))
            try:
                text = "".join([piece async for piece in answer.pieces()])
            finally:
                watching.cancel()
            self._end(answer, 200)
            return JSONResponse(_completion(answer, text))
        except ApiError as error:
            return self._refuse(error, answer)
        except Busy:
            busy = f"{self._scheduler.max_waiting} requests wait already; try again in {RETRY_AFTER_S} s"
            return self._refuse(ApiError(429, busy, "rate_limit_exceeded", type="requests"), answer)

    def _refuse(self, error: ApiError, answer: "_Answer | None") -> Response:
        self._refused += 1
        if answer is not None:
            self._end(answer, error.status)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status == 429 else {}
        return JSONResponse(error.body(), error.status, headers)

    def _end(self, answer: _Answer, status: int) -> None:
        if answer.question is not None and answer.reason is None:
            answer.question.give_up()
        self._answered += status == 200
        self._log.write(answer.record(status))

    def _question(self, answer: _Answer, schema: dict[str, Any] | None) -> Question:
        """The request as the scheduler takes it.

        Raises:
            ApiError: No such model, too long a prompt, or a schema that nothing can be forced into.
        """
        asked, models = answer.request, self._scheduler.models
        if asked.model not in models.names:
            told = f"The model `{asked.model}` does not exist; there are {', '.join(models.names)}"
            raise ApiError(404, told, "model_not_found", "model")
        if schema is not None and (problem := schema_problem(models.tokenizer, schema)):
            raise _no_schema(problem)
        if schema is not None and (asked.ignore_eos or asked.min_tokens):
            told = "min_tokens and ignore_eos do not go with a schema, which says where an answer ends"
            raise ApiError(400, told, "invalid_value", "response_format")
        try:
            ids = models.tokenizer.apply_chat_template(
                [message.plain() for message in asked.messages],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except Exception as error:  # a template refuses an order of roles in its own words
            raise ApiError(400, f"the model's chat template refuses it: {error}", "invalid_value", "messages") from None
        limit = asked.limit or self._defaults.max_new_tokens
        if asked.min_tokens > limit:
            told = f"min_tokens must be at most the tokens of the answer, {limit}, but got {asked.min_tokens}"
            raise ApiError(400, told, "invalid_value", "min_tokens")
        if models.context is not None:
            room = models.context - len(ids)
            if room < (asked.limit or 1):
                told = f"{len(ids)} tokens in the messages and {asked.limit or 1} for the answer"
                told = f"This model's maximum context length is {models.context} tokens, but the request has {told}"
                raise ApiError(400, told, "context_length_exceeded", "messages")
            limit = min(limit, room)
        sampling = Sampling(
            max_new_tokens=limit,
            temperature=asked.temperature or 0.0,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            seed=asked.seed,
            stop=asked.stops,
            schema=schema,
            min_tokens=asked.min_tokens,
            ignore_end=asked.ignore_eos,
        )
        return Question(asked.model, tuple(ids), sampling, answer.tell)

    async def _stream(self, answer: _Answer) -> AsyncIterator[str]:
        status, first = CLIENT_GONE, True  # whoever goes away ends this generator
        try:
            async for piece in answer.pieces():
                # The first token is sent at once with the role, and so is the end; empty pieces in between are not.
                if first or piece or answer.reason:
                    role = {"role": "assistant"} if first else {}
                    yield _event(_chunk(answer, {**role, "content": piece} if piece or first else {}))
                    first = False
            options = answer.request.stream_options
            if options is not None and options.include_usage:
                yield _event({**_head(answer, "chat.completion.chunk"), "choices": [], "usage": answer.usage()})
            yield "data: [DONE]\n\n"
            status = 200
        except ApiError as error:
            status = error.status
            yield _event(error.body())
        finally:
            self._end(answer, status)


async def _body(request: Request) -> Any:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MOST_BYTES:
                raise ApiError(413, f"the request has more than {MOST_BYTES:,} bytes")
            parts.append(part)
    except ClientDisconnect:
        raise ApiError(CLIENT_GONE, "the client has gone away") from None
    try:
        body = json.loads(b"".join(parts))
        json.dumps(body, ensure_ascii=False).encode()  # JSON can escape half of a character, and no text can hold it
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None
    return body


def _no_schema(problem: str) -> ApiError:
    return ApiError(400, f"nothing can be forced into this schema: {problem}", "invalid_value", "response_format")


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _head(answer: _Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": int(answer.arrival), "model": answer.request.model}


def _chunk(answer: _Answer, delta: dict[str, str]) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": answer.reason}
    return {**_head(answer, "chat.completion.chunk"), "choices": [choice]}


def _completion(answer: _Answer, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.reason}
    return {**_head(answer, "chat.completion"), "choices": [choice], "usage": answer.usage()}
