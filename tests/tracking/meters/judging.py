"""A judge on this machine whose verdicts are a function of the answer, for tests of what happens around a judge."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import Loopback, Quiet

Opinion = Callable[[str, str], int | str]
"""The answer and the right answer, to a score; or to what the judge replies instead."""


class JudgeServer(Loopback):
    """An OpenAI-compatible endpoint; ``judged`` holds every answer that it was asked about, in the order they came."""

    def __init__(self, opinion: Opinion) -> None:
        self.judged: list[str] = []
        server = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer, right = _asked(body["messages"][-1]["content"])
                server.judged.append(answer)
                said = opinion(answer, right)
                content = said if isinstance(said, str) else json.dumps({"rationale": "So.", "result": said})
                payload = json.dumps(_completion(content)).encode()
                self.answer(200, payload, {"Content-Type": "application/json"})

        super().__init__(Handler)
        self.settings = {
            "model": "tiny-judge",
            "endpoint": f"{self.address}/v1",
            "rubric": "5: everything is right. 0: nothing is.",
        }


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
