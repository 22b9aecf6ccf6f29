"""AIPerf's records as times, by lines as version 0.13.0 writes them."""

import json
from pathlib import Path
from typing import Any

import pytest

from sweeps.latency import Latency
from tracking.meters.latency.aiperf import Load, measured
from tracking.meters.latency.records import read_records

LOAD = Load("http://127.0.0.1:1/v1", "shop", rate=10, requests=100)
T0 = 1_795_653_475_000_000_000


def line(at_s: float, took_s: float, *, lag_s: float = 0.001, phase: str = "profiling", **more: Any) -> str:
    """A request that was due ``at_s`` after the first, sent ``lag_s`` later, and answered ``took_s`` after that."""
    due = T0 + round(at_s * 1e9)
    sent = due + round(lag_s * 1e9)
    metadata = {
        "session_num": 1,
        "credit_issued_ns": due,
        "request_start_ns": sent,
        "request_end_ns": sent + round(took_s * 1e9),
        "benchmark_phase": phase,
        "was_cancelled": False,
    }
    ms = {"value": took_s * 500, "unit": "ms"}  # the first token comes half way
    return json.dumps({"metadata": metadata, "metrics": {"time_to_first_token": ms}, **more})


def write(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "profile_export.jsonl").write_text("\n".join(lines))
    return folder


def test_warm_up_is_left_out_and_time_runs_from_the_scheduled_arrival(tmp_path: Path) -> None:
    lines = [line(0, 9, phase="warmup"), line(2, 0.2, lag_s=0.3), line(1, 0.1), '{"metadata": {"ses']
    first, second = read_records(write(tmp_path, *lines))
    assert first.seconds == pytest.approx(0.101, abs=1e-6)
    assert first.ttft_s == pytest.approx(0.051, abs=1e-6)
    assert second.seconds == pytest.approx(0.5, abs=1e-6), "what it waited to be sent is in it"
    assert second.ttft_s == pytest.approx(0.4, abs=1e-6)


def test_no_file_is_no_record(tmp_path: Path) -> None:
    assert read_records(tmp_path) == []


def test_errors_and_lost_requests_have_no_answer(tmp_path: Path) -> None:
    refused = {"type": "ClientConnectorError", "message": "…", "cause": "ConnectionResetError(104, 'reset')"}
    broken = {"type": "InvalidInferenceResultError", "message": "Invalid inference result: no content"}
    lines = [line(number / 10, 0.02) for number in range(60)]
    lines += [line(6 + number / 10, 0.0, error=refused) for number in range(20)]
    lines += [line(8 + number / 10, 0.0, error=broken) for number in range(10)]
    slo = Latency.model_validate({"slo": {"formulation_p95": "1s"}}).slo
    result = measured(read_records(write(tmp_path, *lines)), LOAD, slo, "was ended after 9 s")
    assert (result.n, result.detail["num_answers"], result.detail["num_errors"]) == (100, 60, 40)
    assert list(result.detail["errors"]) == [refused["cause"], broken["message"], "AIPerf has no record of it"]
    assert result.metrics["latency/formulation_p50_s"] == pytest.approx(0.021, abs=1e-6)
    assert result.metrics["latency/formulation_p95_s"] is None
    assert "40 of 100 requests have no answer" in result.detail["missing"]["latency/formulation_p95_s"]
    assert result.metrics["latency/goodput_rps"] == pytest.approx(60 / 8.901, rel=1e-3)
    assert result.detail["ended"] == "was ended after 9 s"


def test_goodput_is_null_without_a_limit_on_a_request(tmp_path: Path) -> None:
    result = measured(read_records(write(tmp_path, *[line(n / 10, 0.02) for n in range(100)])), LOAD, {})
    assert result.metrics["latency/goodput_rps"] is None
    assert "no limit on formulation or ttft" in result.detail["missing"]["latency/goodput_rps"]
    assert result.detail["arrival_rate"] == pytest.approx(10.0)
