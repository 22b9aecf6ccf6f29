"""``podium serve`` as a process: what it prints, how it ends, and what it refuses to serve."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from analysis import manifest
from tests.launchers.running import ROOT, command, environment, podium
from tests.launchers.serving.bundles import make_bundle, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def bundle(place: tuple[Path, Path]) -> Path:
    return place[1]


def test_it_prints_where_it_serves_and_ends_with_ctrl_c(bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    arguments = command("serve", str(bundle), "--port", "0", "--guided", "--log", str(log))
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**environment(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As a terminal does; a shell's background would have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.communicate()[1]
        body = {"model": "champion", "messages": [{"role": "user", "content": "A hat."}]}
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as response:
            assert set(json.loads(json.loads(response.read())["choices"][0]["message"]["content"])) == {"products"}
        os.kill(process.pid, signal.SIGINT)
        rest, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert rest == "", "the URL alone is on stdout"
    assert "Traceback" not in err
    assert f"curl -N {url}/chat/completions" in err
    assert json.loads(log.read_text())["status"] == 200


def test_a_damaged_bundle_is_not_served(bundle: Path, place: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = make_bundle(tmp_path / "damaged", place[0])
    weights = damaged / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    run = podium(tmp_path, "serve", str(damaged), "--port", "0", probe=True)
    assert run.returncode == 7, run.stderr
    assert "adapter_model.safetensors was changed: its SHA-256 is not the manifest's" in run.stderr
    assert "LOADED []" in run.stderr, "nothing of it was loaded"


def test_another_base_is_not_served(place: tuple[Path, Path], tmp_path: Path) -> None:
    from tests.recipes.tiny import make_base

    other = make_base(tmp_path / "other", seed=9)
    run = podium(tmp_path, "serve", str(place[1]), "--base", str(other), "--port", "0")
    assert run.returncode == 7, run.stderr
    assert f"base: {other} is not the base of this champion" in run.stderr
    second = make_bundle(tmp_path / "second", other)
    run = podium(tmp_path, "serve", str(place[1]), "--adapter", f"second={second}", "--port", "0")
    assert run.returncode == 2, run.stderr
    assert "--adapter: " in run.stderr
    assert "was trained on another base, acme/tiny" in run.stderr


def test_a_schema_that_is_not_there_guides_nothing(place: tuple[Path, Path], tmp_path: Path) -> None:
    bare = make_bundle(tmp_path / "bare", place[0], answers={"guided": False, "schema": None, "max_new_tokens": 8})
    run = podium(tmp_path, "serve", str(bare), "--guided", "--port", "0")
    assert run.returncode == 2, run.stderr
    assert "--guided: " in run.stderr
    assert "has no JSON schema: its sweep had no evaluate.schema" in run.stderr


def test_a_port_that_is_taken_is_told(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = podium(tmp_path, "serve", str(bundle), "--port", str(port), probe=True)
    assert run.returncode == 2, run.stderr
    assert f"--port: port {port} is in use (try --port {port + 1})" in run.stderr
    assert "LOADED []" in run.stderr, "before the model was loaded"


def test_the_manifest_is_all_of_the_bundle(bundle: Path) -> None:
    assert manifest.problems(bundle) == []
