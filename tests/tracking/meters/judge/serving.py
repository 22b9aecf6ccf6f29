"""A local server that plays an OpenAI-compatible endpoint, and what it says."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], tuple[int, str]]


class Endpoint:
    """Answers each request with what ``reply`` says, byte by byte where ``drop_s`` is given; keeps what was asked.

    A probe, whose schema allows one word, is answered with that word, as by a server that keeps to schemas, unless
    ``holds`` is false; probes are kept apart, in ``probes``.
    """

    def __init__(self, reply: Reply, drop_s: float = 0.0, holds: bool = True) -> None:
        self.requests: list[dict[str, Any]] = []
        self.probes: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.released = threading.Event()
        self.at_once = 0
        lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with lock:
                    endpoint.at_once += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint.at_once)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                word = only_word(body)
                (endpoint.requests if word is None else endpoint.probes).append({"path": self.path, **body})
                endpoint.headers.append(dict(self.headers))
                status, text = reply(body)
                if word is not None and holds and status == 200:
                    status, text = completion(json.dumps({"result": word}))
                with lock:
                    endpoint.at_once -= 1
                payload = text.encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    size = 1 if drop_s else max(1, len(payload))
                    for start in range(0, len(payload), size):
                        self.wfile.write(payload[start : start + size])
                        endpoint.released.wait(drop_s)
                except OSError:
                    pass  # the client has given up

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


def only_word(body: dict[str, Any]) -> str | None:
    """The word that a probe's schema allows; None where the request is none."""
    form = body.get("response_format", {}).get("json_schema", {})
    values = form.get("schema", {}).get("properties", {}).get("result", {}).get("enum", ())
    return values[0] if len(values) == 1 else None


def completion(content: str, **more: Any) -> tuple[int, str]:
    """A chat completion with this content; ``more`` replaces what is beside it."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m-1", "choices": [choice], "usage": usage}
    return 200, json.dumps({key: value for key, value in {**reply, **more}.items() if value is not None})


def verdict(result: Any, rationale: str = "It names them.", **more: Any) -> tuple[int, str]:
    """A verdict in the form that was asked for."""
    return completion(json.dumps({"rationale": rationale, "result": result}), **more)


def answer_in(body: dict[str, Any]) -> str:
    """The text that a request asks to judge, as JSON."""
    found = re.search(r"^outputs: (.*?)^expectations: ", body["messages"][-1]["content"], re.DOTALL | re.MULTILINE)
    assert found, body["messages"][-1]["content"]
    return found[1].strip()
