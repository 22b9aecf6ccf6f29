"""Servers that start, that do not, that end too early, and that do not want to end."""

import sys
import time
import urllib.request
from pathlib import Path

import pytest

from launchers import model_server
from launchers.model_server import command_of, free_port, serving
from sweeps.errors import PodiumError
from tests.launchers.running import ROOT

STREAMING = f"{sys.executable} -m tests.streaming --port {{port}} --seconds 0.01 --tp {{tp}}"


@pytest.fixture(autouse=True)
def from_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def listening(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/models", timeout=1).close()
    except OSError:
        return False
    return True


def test_a_template_keeps_braces_that_are_not_its_own() -> None:
    command = command_of(
        """serve '{bundle}' --tp={tp} --lora '{"name": "x"}' --port {port}""", {"bundle": "/a b", "tp": 2}, 7
    )
    assert command.argv == ("serve", "/a b", "--tp=2", "--lora", '{"name": "x"}', "--port", "7")
    assert (command.url, command.ready) == ("http://127.0.0.1:7/v1", "http://127.0.0.1:7/v1/models")


def test_a_server_answers_within_and_is_gone_after(tmp_path: Path) -> None:
    with serving(command_of(STREAMING, {"tp": 1}, free_port()), tmp_path / "log", ready_s=30) as url:
        assert listening(url)
    assert not listening(url)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("/nowhere/serve", "cannot be started"),
        ("sh -c 'echo no such model >&2; exit 3'", "exit code 3: no such model"),
        ("sleep 60", "was not ready after 0.5 s: it said nothing"),
    ],
)
def test_a_server_that_does_not_get_ready_is_told_by_its_last_words(tmp_path: Path, template: str, told: str) -> None:
    with pytest.raises(PodiumError, match=told), serving(command_of(template, {}, free_port()), tmp_path / "log", 0.5):
        raise AssertionError("it is not ready")


def test_a_server_that_ignores_the_signal_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_server, "STOP_S", 0.3)
    template = f"sh -c 'trap \"\" TERM; {STREAMING.replace('{tp}', '1')} & wait; sleep 60'"
    began = time.monotonic()
    with serving(command_of(template, {}, free_port()), tmp_path / "log", ready_s=30) as url:
        assert listening(url)
    assert not listening(url)
    assert time.monotonic() - began < 40
