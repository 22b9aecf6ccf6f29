"""An OpenAI-compatible server on this machine that streams its answers as slowly, and fails, as a test says.

``python -m tests.streaming --port 8000 --seconds 0.1 --tp 2`` is one that answers a request at a time, ``tp`` times as
fast: a server whose capacity is known, and which needs no GPUs to be faster with more of them.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any

from tests.loopback import Loopback, Quiet


class Streaming(Loopback):
    """Streams a short answer to each request.

    Args:
        seconds: What an answer takes.
        broken: Of the number of requests before this one: whether it is answered with something that is no JSON.
        dies_after: So many requests, and then nothing listens any more.
        one_by_one: A request waits for the one before it.
        port: Where it listens; any free one by default.
    """

    def __init__(
        self,
        seconds: float = 0.01,
        broken: Callable[[int], bool] = lambda number: False,
        dies_after: int | None = None,
        one_by_one: bool = False,
        port: int = 0,
    ) -> None:
        numbers, outer = count(), self
        turn = threading.Lock() if one_by_one else nullcontext()

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, json.dumps({"object": "list", "data": [{"id": "shop"}]}).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                number = next(numbers)
                if number == dies_after:
                    threading.Thread(target=outer.die).start()
                if broken(number):
                    self.answer(200, b"<html>busy</html>", {"Content-Type": "application/json"})
                    return
                try:
                    with turn:
                        self._stream()
                except OSError:  # whoever asked is gone
                    pass

            def _stream(self) -> None:
                time.sleep(seconds / 2)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for word in ("blue", " shoes"):
                    self._event(_chunk({"role": "assistant", "content": word}, None))
                    time.sleep(seconds / 4)
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


_USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def _chunk(delta: dict[str, str], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion.chunk", "model": "shop-1", "choices": [choice]}


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.streaming")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.1, help="what an answer takes with one unit")
    parser.add_argument("--tp", type=int, default=1)
    arguments = parser.parse_args()
    with Streaming(arguments.seconds / arguments.tp, one_by_one=True, port=arguments.port):
        threading.Event().wait()


if __name__ == "__main__":
    main()
