"""What a sweep meets outside of Podium, played on this machine: the hub, judges, a busy port, a full disk."""

import json
import os
import socket
import subprocess
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import Loopback, Quiet
from tests.tracking.meters.judge.serving import Endpoint, completion, verdict


class Hub(Loopback):
    """A Hugging Face hub that answers every question for a file alike.

    Args:
        status: Of the answer; ``code`` and ``message`` are the headers in which the hub explains itself.
    """

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                told = {"X-Error-Code": code, "X-Error-Message": message}
                self.answer(status, headers={name: value for name, value in told.items() if value})

            def do_GET(self) -> None:
                self.do_HEAD()

        super().__init__(Handler)
        self.url = self.address


def hanging_judge(stack: ExitStack) -> str:
    """The address of a judge that takes a request and does not answer."""

    def hang(body: dict[str, Any]) -> tuple[int, str]:
        endpoint.released.wait(60)
        return verdict(1)

    endpoint = Endpoint(hang)
    stack.callback(endpoint.close)
    return endpoint.url


def judge_without_forms(stack: ExitStack) -> str:
    """The address of a judge that refuses ``response_format`` and answers without it."""
    refusal = json.dumps({"error": {"message": "response_format is not supported"}})
    endpoint = Endpoint(lambda body: (400, refusal) if "response_format" in body else verdict(4))
    stack.callback(endpoint.close)
    return endpoint.url


def judge_that_ignores_forms(stack: ExitStack) -> str:
    """The address of a judge that takes ``response_format`` and writes what it likes."""
    endpoint = Endpoint(lambda body: completion("I would say four."), holds=False)
    stack.callback(endpoint.close)
    return endpoint.url


def judge_that_hangs_at_first(stack: ExitStack) -> str:
    """The address of a judge that answers the question at the start, and no other for one trial's patience."""
    asked: list[float] = []

    def reply(body: dict[str, Any]) -> tuple[int, str]:
        asked.append(time.monotonic())
        if len(asked) > 1 and time.monotonic() - asked[1] < 4.5:
            endpoint.released.wait(60)
        return verdict(3)

    endpoint = Endpoint(reply)
    stack.callback(endpoint.close)
    return endpoint.url


def listening(stack: ExitStack) -> int:
    """A port of this machine that is taken."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return int(server.getsockname()[1])


def small_disk(folder: Path, stack: ExitStack) -> Path:
    """A disk of one megabyte; where none may be mounted the test is skipped."""
    place = folder / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "podium-tests", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no file system may be mounted here")
    stack.callback(subprocess.run, ["umount", str(place)], check=True)
    return place
