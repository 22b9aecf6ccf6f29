"""A judge on this machine whose verdicts are a function of the answer, for tests of what happens around a judge."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Opinion = Callable[[str, str], int | str]
"""The answer and the right answer, to a score; or to what the judge replies instead."""


class JudgeServer:
    """An OpenAI-compatible endpoint; ``judged`` holds every answer that it was asked about, in the order they came."""

    def __init__(self, opinion: Opinion) -> None:
        self.judged: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer, right = _asked(body["messages"][-1]["content"])
                server.judged.append(answer)
                said = opinion(answer, right)
                content = said if isinstance(said, str) else json.dumps({"rationale": "So.", "result": said})
                payload = json.dumps(_completion(content)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.settings = {
            "model": "tiny-judge",
            "endpoint": f"http://127.0.0.1:{self._server.server_port}/v1",
            "rubric": "5: everything is right. 0: nothing is.",
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _asked(prompt: str) -> tuple[str, str]:
    outputs, _, expectations = prompt.partition("\noutputs: ")[2].partition("\nexpectations: ")
    return json.loads(outputs), json.loads(expectations)["answer"]


def _completion(content: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-judge-1",
        "choices": [choice],
        "usage": usage,
    }
