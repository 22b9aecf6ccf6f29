"""What runs in production, played on this machine: an OpenAI-compatible server whose answers a test chooses."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import Loopback, Quiet

Reply = Callable[[dict[str, Any]], tuple[int, Any]]
"""The body of a request to the status and the JSON (or the text) of its answer."""


def said(text: str | None, model: str = "shop-1", finish: str = "stop") -> tuple[int, Any]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return 200, {"id": "1", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def question(body: dict[str, Any]) -> str:
    """The last thing that was said in a request's conversation."""
    return str(body["messages"][-1]["content"])


class Production(Loopback):
    """Answers by ``reply``, which a test may exchange, and keeps what was asked.

    Args:
        reply: As above.
        models: The entries of ``/v1/models``; None where there is no such list.
        headers: Of every answer.
    """

    def __init__(
        self, reply: Reply, models: list[dict[str, Any]] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.reply = reply
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.most_at_once = 0
        at_once, lock, outer = [0], threading.Lock(), self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.tell(*((404, "") if models is None else (200, {"object": "list", "data": models})))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    at_once[0] += 1
                    outer.most_at_once = max(outer.most_at_once, at_once[0])
                    outer.asked.append({"path": self.path, **body})
                    outer.keys.append(self.headers["Authorization"])
                    outer.times.append(time.monotonic())
                status, answer = outer.reply(body)
                with lock:
                    at_once[0] -= 1
                self.tell(status, answer)

            def tell(self, status: int, answer: Any) -> None:
                payload = answer if isinstance(answer, str) else json.dumps(answer)
                self.answer(status, payload.encode(), headers)

        super().__init__(Handler)
        self.url = f"{self.address}/v1"

    @property
    def questions(self) -> list[str]:
        """The conversations' last words, in the order in which they were asked."""
        return [question(body) for body in self.asked]

    def hang(self, body: dict[str, Any]) -> tuple[int, Any]:
        """A reply that does not come."""
        self.released.wait(60)
        return said("too late")
