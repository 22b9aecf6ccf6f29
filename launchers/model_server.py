"""A model server for the time of a ``with`` block: started, waited for, and ended with all that it started."""

import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.errors import InvalidInput, PodiumError, Problem

STOP_S = 20.0
PROBE_S = 2.0


@dataclass(frozen=True)
class Command:
    """How a server is started and asked.

    Attributes:
        argv: The command.
        url: The base of its OpenAI-compatible endpoint: ``http://127.0.0.1:8000/v1``.
        ready: The address that answers 200 once it is ready.
        model: What is asked there; empty for the only one that it has.
        env: What its environment has beside ours.
    """

    argv: tuple[str, ...]
    url: str
    ready: str
    model: str = ""
    env: Mapping[str, str] = field(default_factory=dict)


def command_of(template: str, values: Mapping[str, object], port: int) -> Command:
    """A server on this machine from a template: ``vllm serve {bundle} --tensor-parallel-size {tp} --port {port}``.

    Args:
        template: As in a shell, without its variables and pipes. Other braces, as of JSON, stay.
        values: By the name within the braces; ``port`` is there too.
        port: Where it is to listen.

    Raises:
        InvalidInput: The template is no command.
    """
    try:
        written = shlex.split(template)
    except ValueError as error:
        problem = Problem("--serve", f"must be a command, but got {template!r}: {str(error).lower()}")
        raise InvalidInput(problem) from None
    if not written:
        raise InvalidInput(Problem("--serve", "must be a command, but is empty"))
    words = []
    for word in written:
        for name, value in {**values, "port": port}.items():
            word = word.replace(f"{{{name}}}", str(value))
        words.append(word)
    url = f"http://127.0.0.1:{port}/v1"
    return Command(tuple(words), url, f"{url}/models")


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Command, log: Path, ready_s: float) -> Iterator[str]:
    """Run a server within the block; yields the base of its endpoint.

    Args:
        command: How it is started.
        log: Takes what it says.
        ready_s: How long it may take to be ready.

    Raises:
        PodiumError: It cannot be started, ends before it is ready, or takes longer; its last words are told.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        try:
            child = subprocess.Popen(
                list(command.argv),
                env={**os.environ, **command.env},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise PodiumError(f"the server cannot be started: {error}") from None
    try:
        _wait(child, command, log, ready_s)
        yield command.url
    finally:
        _end(child)


def _wait(child: subprocess.Popen[bytes], command: Command, log: Path, ready_s: float) -> None:
    until = time.monotonic() + ready_s
    while time.monotonic() < until:
        if child.poll() is not None:
            raise PodiumError(f"the server ended with exit code {child.returncode}: {_last_words(log)}")
        if _answers(command.ready):
            return
        time.sleep(0.2)
    raise PodiumError(f"the server was not ready after {ready_s:g} s: {_last_words(log)}")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=PROBE_S) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:300] if lines else 'it said nothing'} ({log})"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the server and its children to end; those that do not are ended."""
    try:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(STOP_S)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
