"""An OpenAI-compatible server on this machine that streams its answers as slowly as a test says, and keeps a log.

``python -m tests.streaming --port 8000 --seconds 0.1 --tp 2`` is one that answers a request at a time, ``tp`` times as
fast: a server whose capacity is known.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import Loopback, Quiet


@dataclass(frozen=True)
class Served:
    """One request as the server saw it: seconds of one clock."""

    arrived: float
    first: float
    ended: float
    question: str

    @property
    def seconds(self) -> float:
        return self.ended - self.arrived


class Streaming(Loopback):
    """Streams a short answer to each request.

    Args:
        slow: Of the seconds since the server's start, when a request arrives: the seconds that its answer takes.
        broken: Of the number of requests before this one: whether it is answered with something that is no JSON.
        dies_after: So many requests, and then nothing listens any more.
        one_by_one: A request waits for the one before it.
        port: Where it listens; any free one by default.
    """

    def __init__(
        self,
        slow: Callable[[float], float] = lambda t: 0.01,
        broken: Callable[[int], bool] = lambda number: False,
        dies_after: int | None = None,
        one_by_one: bool = False,
        port: int = 0,
    ) -> None:
        self.log: list[Served] = []
        self.keys: list[str | None] = []
        self.bodies: list[dict[str, Any]] = []
        self.began = time.monotonic()
        lock, outer = threading.Lock(), self
        turn = threading.Lock() if one_by_one else nullcontext()

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, json.dumps({"object": "list", "data": [{"id": "shop"}]}).encode())

            def do_POST(self) -> None:
                arrived = time.monotonic()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.keys.append(self.headers["Authorization"])
                if number == dies_after:
                    threading.Thread(target=outer.die).start()
                if broken(number):
                    self.answer(200, b"<html>busy</html>", {"Content-Type": "application/json"})
                    return
                seconds = slow(arrived - outer.began)
                try:
                    with turn:
                        time.sleep(seconds / 2)
                        first = time.monotonic()
                        if body.get("stream"):
                            self._stream(seconds / 2)
                        else:
                            time.sleep(seconds / 2)
                            self.answer(200, json.dumps(_whole("blue shoes")).encode(), _JSON)
                except OSError:
                    return
                question = str(body["messages"][-1]["content"])
                with lock:
                    outer.log.append(Served(arrived, first, time.monotonic(), question))

            def _stream(self, rest_s: float) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for word in ("blue", " shoes"):
                    self._event(_chunk({"role": "assistant", "content": word}, None))
                    time.sleep(rest_s / 2)
                self._event({**_chunk({}, "stop"), "usage": _USAGE})
                self.wfile.write(b"data: [DONE]\n\n")

            def _event(self, content: dict[str, Any]) -> None:
                self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())
                self.wfile.flush()

        super().__init__(Handler, port)
        self.url = f"{self.address}/v1"

    def die(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


_JSON = {"Content-Type": "application/json"}
_USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def _chunk(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "model": "shop-1", "choices": [choice]}


def _whole(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "model": "shop-1", "choices": [choice], "usage": _USAGE}


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.streaming")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.1, help="what an answer takes with one unit")
    parser.add_argument("--tp", type=int, default=1)
    arguments = parser.parse_args()
    seconds = arguments.seconds / arguments.tp
    with Streaming(lambda t: seconds, one_by_one=True, port=arguments.port):
        threading.Event().wait()


if __name__ == "__main__":
    main()
