"""An OpenAI-compatible endpoint, posted to with patience: a judge, or what runs in production."""

import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Any, Literal

from sweeps.errors import ServiceUnreachable
from tracking.deadline import call_within

BUSY = (408, 425, 429, 500, 502, 503, 504)  # asked again; the rest of 4xx will not change
PERHAPS_ANSWERED = (408, 504)  # of these, what a server may have worked on, and charge for
EVERY_REQUEST = (401, 403, 404, 405)  # the key, the model or the address: no other request fares better
LONGEST_PAUSE_S = 30.0


class NoReplyError(Exception):
    """The endpoint gave nothing to read.

    Attributes:
        about: ``request``: it refuses this one. ``service``: it does not answer now. ``all``: it will refuse all.
            ``lost``: it may have answered this one, and charge for it, but nothing came.
    """

    def __init__(self, text: str, about: Literal["request", "service", "all", "lost"]) -> None:
        super().__init__(text)
        self.about = about


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked. Safe to use from several threads.

    Attributes:
        url: Ends in ``/chat/completions``.
        headers: What is sent along, the key among it.
        timeout_s: Of one request, from its start to the last byte.
        limit_s: Of one request with all its repetitions after time-outs, 429 and 5xx.
        holds: What ``response_format`` holds replies to.
        repeats: Whether what may have been answered, and charged for, is asked again.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout_s: float
    limit_s: float
    holds: str = "a verdict"
    repeats: bool = True

    @property
    def no_form(self) -> str:
        """What it means that ``response_format`` is not kept to."""
        return f"so nothing would hold its replies to {self.holds}; take a server or a model with structured output"

    def post(self, body: Mapping[str, Any], stopped: Event | None = None) -> Any:
        """The JSON that the endpoint answers, asked again where it is busy, silent or not there.

        Args:
            body: Of the request.
            stopped: Once set, nothing is asked again.

        Raises:
            NoReplyError: Nothing came within ``limit_s``, or the request is refused.
            ValueError: What came is no JSON.
        """
        began, attempt, stopped = monotonic(), 0, stopped or Event()
        while True:
            left = self.limit_s - (monotonic() - began)
            try:
                return self.post_once(body, min(self.timeout_s, max(0.1, left)))
            except urllib.error.HTTPError as error:
                said, pause = self._refused(error), _retry_after(error)
                may_cost = error.code in PERHAPS_ANSWERED
            except OSError as error:  # a TimeoutError among them
                reason = getattr(error, "reason", error)
                said, pause = f"does not answer: {reason}", 0.0
                may_cost = not isinstance(reason, ConnectionRefusedError | socket.gaierror)
            if may_cost and not self.repeats:
                raise NoReplyError(said, "lost")
            pause = max(pause, min(LONGEST_PAUSE_S, 0.5 * 2**attempt))
            attempt += 1
            if monotonic() - began + pause >= self.limit_s or stopped.wait(pause):
                raise NoReplyError(f"gave no answer within {self.limit_s:g} s: it {said}", "service")

    def post_once(self, body: Mapping[str, Any], timeout_s: float) -> Any:
        """One request, without a second."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url, data, {"Content-Type": "application/json", **self.headers})

        def send() -> Any:
            try:
                with urllib.request.urlopen(request, timeout=timeout_s) as response:
                    return json.loads(response.read())
            except http.client.HTTPException as error:  # which is no OSError, whatever the connection did
                raise ConnectionResetError(f"its answer broke off ({type(error).__name__})") from None

        return call_within(timeout_s, send)  # the time-out of a connection counts anew with every byte that comes

    def _refused(self, error: urllib.error.HTTPError) -> str:
        """What a refusal says, where it may pass.

        Raises:
            NoReplyError: It will not.
        """
        text = body_of(error)
        said = f"answers {error.code} {error.reason}: {text}"
        if error.code == 400 and names_the_form(text):
            # Told before MLflow can see it, which would ask again without the form and say nothing.
            raise NoReplyError(f"refuses response_format, {self.no_form} ({text})", "all")
        if error.code not in BUSY:
            raise NoReplyError(said, "all" if error.code in EVERY_REQUEST else "request")
        return said

    @contextmanager
    def reaching(self, who: str, key: str) -> Iterator[None]:
        """Within, whatever keeps a first answer from being read is told as one error.

        Args:
            who: Is asked, e.g. "the judge".
            key: Of the sweep's YAML that sets its time-out.

        Raises:
            ServiceUnreachable: It is not there, does not answer in time, refuses, or answers something else.
        """
        at = f"{who} at {self.url}"
        try:
            yield
        except NoReplyError as error:
            raise ServiceUnreachable(f"{at} {error}") from None
        except urllib.error.HTTPError as error:
            raise ServiceUnreachable(f"{at} answers {error.code} {error.reason}: {body_of(error)}") from None
        except OSError as error:  # a TimeoutError among them
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                reason = f"no answer within {self.timeout_s:g} s ({key})"
            raise ServiceUnreachable(f"{at} does not answer: {reason}") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise ServiceUnreachable(f"{at} answers, but not with a chat completion") from None


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What forces an answer into a JSON schema, in the one spelling that all current servers take."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def completions(endpoint: str) -> str:
    """The address to post to, of an endpoint's base or of that address itself."""
    endpoint = endpoint.rstrip("/")
    return endpoint if endpoint.endswith("/chat/completions") else f"{endpoint}/chat/completions"


def names_the_form(refusal: str) -> bool:
    """Whether a 400 is about ``response_format``."""
    return any(word in refusal for word in ("response_format", "json_schema", "structured output"))


def body_of(error: urllib.error.HTTPError) -> str:
    """The beginning of what a refusal says. Reads it: a second call has nothing."""
    try:
        return " ".join(error.read(300).decode(errors="replace").split())
    except OSError:
        return ""


def _retry_after(error: urllib.error.HTTPError) -> float:
    """Seconds that the server asks to wait for; 0 where it says nothing, or a date."""
    text = str(error.headers.get("Retry-After", "")).strip()
    return float(text) if text.isdecimal() else 0.0
