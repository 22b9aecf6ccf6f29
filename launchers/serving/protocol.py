"""The part of OpenAI's chat API that is served. What is not, and would change an answer, is refused, never ignored.

After https://platform.openai.com/docs/api-reference/chat; ``min_tokens`` and ``ignore_eos`` are vLLM's, for load tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MOST_TOKENS = 1_000_000

# What these say where they do nothing; any other value would change the answer.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "top_k": (0, -1),
    "min_p": (0,),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "echo": (False,),
    "use_beam_search": (False,),
    "store": (False,),
}
# What says who asks and how the service accounts for it, and changes no answer.
IDLE = ("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")


@dataclass
class ApiError(Exception):
    """An error as OpenAI's clients read it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    type: str = "invalid_request_error"

    def body(self) -> dict[str, Any]:
        """The body of the response."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Text(_Part):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(_Part):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Text]

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        """Clients send an answer back as they hold it: with null for the refusal and the tool calls it has not."""
        return _told(value) if isinstance(value, dict) else value

    def plain(self) -> dict[str, str]:
        """As chat templates take it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class JsonSchema(_Part):
    """The schema of an answer. It is always kept to, whatever ``strict`` says."""

    name: str | None = None
    description: str | None = None
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(_Part):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Part):
    """What a stream has beside the text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False
    continuous_usage_stats: Literal[False] = False


class ChatRequest(_Part):
    """The body of ``POST /v1/chat/completions``. An absent limit is the one that the bundle was measured with."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: str | list[str] | None = None
    response_format: ResponseFormat | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] = 0
    ignore_eos: bool = False

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop or ()))

    @property
    def schema_asked(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must keep to.

        Raises:
            ApiError: There should be one.
        """
        form = self.response_format
        if form is None or form.type == "text":
            return None
        if form.type == "json_object":
            return {"type": "object"}
        if form.json_schema is None:
            raise ApiError(400, "response_format json_schema needs a json_schema beside it", param="response_format")
        return form.json_schema.json_schema


def parse(body: Any) -> ChatRequest:
    """A request, as it was sent.

    Raises:
        ApiError: 400, naming the field, the value and what is allowed.
    """
    if not isinstance(body, dict):
        raise ApiError(400, f"the body must be a JSON object, but got {type(body).__name__}")
    for name, neutral in NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            told = f"{name} is not supported: it would change the answer, and must be {neutral[0]!r} or left out"
            raise ApiError(400, f"{told}, but got {_shown(body[name])}", "unsupported_parameter", name)
    kept = {key: value for key, value in _told(body).items() if key not in NEUTRAL and key not in IDLE}
    try:
        request = ChatRequest.model_validate(kept)
    except ValidationError as error:
        raise _refused(error) from None
    if None not in (limits := (request.max_tokens, request.max_completion_tokens)) and len(set(limits)) > 1:
        told = f"max_tokens and max_completion_tokens must be the same, but got {limits[0]} and {limits[1]}"
        raise ApiError(400, told, "invalid_value", "max_tokens")
    return request


def _told(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block without its nulls: what is null is not said."""
    return {key: value for key, value in block.items() if value is not None}


def _refused(error: ValidationError) -> ApiError:
    # Of a text or a list of parts, the deepest error is of the form that was sent.
    first = max(error.errors(), key=lambda one: len(one["loc"]))
    param = ".".join(str(part) for part in first["loc"] if part not in ("str", "list[Text]", "list[str]"))
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{param} is not supported", "unsupported_parameter", param)
    got = "" if first["type"] == "missing" else f", but got {_shown(first['input'])}"
    return ApiError(400, f"{param}: {first['msg'][0].lower()}{first['msg'][1:]}{got}", "invalid_value", param)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
