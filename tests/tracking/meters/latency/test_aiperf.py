"""The real AIPerf against servers that fail as no real one does on demand: that die, or answer with what is no JSON;
and programs that are no AIPerf. ``tests/launchers/serving/test_load.py`` has it against the server of a bundle."""

from pathlib import Path
from typing import Any

import pytest

from sweeps.errors import InvalidInput, PodiumError
from sweeps.latency import Latency, Limit
from tests.streaming import Streaming
from tracking.meters.latency import aiperf
from tracking.meters.latency.aiperf import Load, find_aiperf, measure_endpoint

BODIES: list[dict[str, Any]] = [
    {"model": "shop", "messages": [{"role": "user", "content": word}], "temperature": 0, "max_tokens": 8}
    for word in ("shoes", "coats", "hats")
]


def slo(**limits: str) -> dict[str, Limit]:
    return Latency.model_validate({"slo": limits}).slo


@pytest.mark.slow
def test_what_came_before_the_endpoint_died_is_kept(program: Path, tmp_path: Path) -> None:
    server = Streaming(dies_after=80)
    with server:
        result = measure_endpoint(program, Load(server.url, "shop", rate=25, requests=100), BODIES, tmp_path, {})
    assert result.n == 100
    assert 60 <= result.detail["num_answers"] < 100
    assert result.detail["num_answers"] + result.detail["num_errors"] == 100
    assert result.metrics["latency/formulation_p50_s"] is not None
    assert result.metrics["latency/formulation_p95_s"] is None
    assert "requests have no answer" in result.detail["missing"]["latency/formulation_p95_s"]


@pytest.mark.slow
def test_answers_that_are_no_json_are_no_answers(program: Path, tmp_path: Path) -> None:
    with Streaming(broken=lambda number: number % 50 == 20) as server:
        result = measure_endpoint(program, Load(server.url, "shop", rate=25, requests=100), BODIES, tmp_path, {})
    assert (result.n, result.detail["num_errors"]) == (100, 2)
    assert sum(result.detail["errors"].values()) == 2
    assert result.metrics["latency/formulation_p95_s"] is not None, "2 % are beyond p95"


@pytest.mark.slow
def test_an_endpoint_that_is_not_there_has_no_figures(program: Path, tmp_path: Path) -> None:
    load = Load("http://127.0.0.1:9/v1", "shop", rate=50, requests=20, timeout_s=5)
    result = measure_endpoint(program, load, BODIES, tmp_path / "out", slo(formulation_p95="1s"))
    assert (result.n, result.detail["num_answers"]) == (20, 0)
    assert {value for name, value in result.metrics.items() if name.endswith("_s")} == {None}
    assert result.metrics["latency/goodput_rps"] == 0.0, "measured: no request was good"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_that_fails_is_told_by_its_last_words(tmp_path: Path) -> None:
    program = script(tmp_path / "aiperf", 'echo "│ Reason: no such tokenizer │"; exit 3')
    with pytest.raises(PodiumError, match=r"exit code 3 \(Reason: no such tokenizer\) without a record"):
        measure_endpoint(program, Load("http://127.0.0.1:9/v1", "shop", 10, 5), BODIES, tmp_path / "out", {})


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiperf, "_START_S", 0.5)
    program = script(tmp_path / "aiperf", "sleep 60 & sleep 60")
    with pytest.raises(PodiumError, match="was ended after"):
        measure_endpoint(program, Load("http://127.0.0.1:9/v1", "s", 100, 5, timeout_s=0.1), BODIES, tmp_path / "o", {})


def test_which_program_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, on_path = tmp_path / "own", script(tmp_path / "aiperf", "exit 0")
    monkeypatch.delenv("PODIUM_AIPERF", raising=False)
    monkeypatch.setattr(aiperf, "OWN", own)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_aiperf() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_aiperf() == on_path
    assert find_aiperf() == on_path
    script(own, "exit 0")
    assert find_aiperf() == own
    monkeypatch.setenv("PODIUM_AIPERF", str(on_path))
    assert find_aiperf() == on_path
    for wrong in (tmp_path / "none", tmp_path):
        monkeypatch.setenv("PODIUM_AIPERF", str(wrong))
        with pytest.raises(InvalidInput, match=f"{wrong} is none that can be run"):
            find_aiperf()
