"""The real AIPerf against the server of a bundle: what is sent, what is counted, and how a stall shows."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from launchers import served
from launchers.evaluation import EvaluationJob
from launchers.latency_inputs import settings
from launchers.served import measure_served
from sweeps.latency import Latency
from tests.launchers.serving import bundles
from tests.launchers.serving.conftest import Running
from tests.launchers.serving.stalling import Stalling
from tests.recipes.tiny import one_thread
from tracking.meters.latency.aiperf import Load, measure_endpoint
from tracking.meters.latency.percentiles import estimate

BODIES: list[dict[str, Any]] = [
    {"model": "champion", "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8}
    for text in ("A hat.", "a ${COAT} für Ä", "Wool socks?")
]


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
def test_every_request_is_counted_and_a_stall_shows_in_p99(
    program: Path, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits before a server that stalls is no part of its own log, which begins with what is let in."""
    monkeypatch.setenv("SHOP_KEY", "s3cret-key")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    log, out = tmp_path / "requests.jsonl", tmp_path / "out"
    fronts: list[Stalling] = []

    def stalling(app: Any) -> Stalling:
        fronts.append(Stalling(app))
        return fronts[0]

    slo = settings({"slo": {"formulation_p95": "100ms"}}, {}).slo
    with one_thread(), bundles.served(running.bundle, stalling, log=log) as url:
        load = Load(url, "champion", rate=20, requests=500, warmup=5, api_key_env="SHOP_KEY")
        result = measure_endpoint(program, load, BODIES, out, slo)
    [front] = fronts
    asked = Counter(body["messages"][0]["content"] for body in front.bodies)
    assert set(asked) == {body["messages"][0]["content"] for body in BODIES}, "as they are, none left out"
    assert {(body["temperature"], body["max_tokens"], body["stream"]) for body in front.bodies} == {(0, 8, True)}
    assert front.keys == {"Bearer s3cret-key"}
    assert not [path for path in out.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]

    lines = lines_of(log)
    assert [(line["status"], line["stream"]) for line in lines] == [(200, True)] * 505, "the log has the warm-up too"
    assert (result.n, result.detail["num_answers"], result.detail["num_errors"]) == (500, 500, 0)
    assert result.detail["arrival_rate"] == pytest.approx(20, rel=0.2)

    metrics = result.metrics
    p50, p99 = metrics["latency/formulation_p50_s"], metrics["latency/formulation_p99_s"]
    own = [line["total_s"] for line in sorted(lines, key=lambda line: line["arrival"])[5:]]
    assert p50 is not None
    assert p99 is not None
    assert p50 < 0.15
    assert p99 > 0.2, "of 25 s, 1.5 s were stalled: 6 % of the requests"
    for percent, found in ((50, p50), (99, p99)):
        inside = estimate(own, percent).value
        assert inside is not None
        assert inside < found, "from the scheduled arrival there is more to wait for"
    low, high = result.detail["intervals"]["latency/formulation_p99_s"]
    assert low <= p99 <= (high or p99)
    good = metrics["latency/goodput_rps"]
    assert good is not None
    assert 0.5 * 20 < good < 0.99 * 20


def served_job(folder: Path, url: str) -> EvaluationJob:
    rows = folder / "rows.jsonl"
    texts = [[{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}] for n in range(3)]
    rows.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in texts))
    return EvaluationJob(
        id="1",
        arm="incumbent",
        base="",
        base_settings={},
        adapter=None,
        schema=None,
        split="dev",
        rows=str(rows),
        limit=None,
        metrics=(),
        metric_schema=None,
        base_dir=str(folder),
        judge=None,
        max_new_tokens=8,
        batch_size=1,
        device="cpu",
        threads=1,
        out=str(folder / "incumbent-dev.jsonl"),
        endpoint={"endpoint": url, "model": "champion", "timeout": 30.0},
    )


def test_an_endpoint_is_timed_one_by_one_where_aiperf_is_not(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "find_aiperf", lambda: None)
    before, job = len(lines_of(running.log)), served_job(tmp_path, running.url)
    [plain] = measure_served([job], Latency(requests=7))
    own = [line["total_s"] for line in lines_of(running.log)[before + 1 :]]
    [asked] = measure_served([job], Latency(requests=7, rate=5.0))
    assert len(lines_of(running.log)) == before + 2 * (1 + 7)
    assert plain["metrics"]["latency/formulation_p50_s"] > min(own)
    assert plain["detail"]["load"] == "one request at a time"
    assert asked["detail"]["load"].startswith("one request at a time, since AIPerf is not here (`make aiperf`")
    assert "latency/goodput_rps" not in asked["metrics"]


@pytest.mark.slow
def test_an_endpoint_is_timed_under_load_where_a_rate_is_given(program: Path, running: Running, tmp_path: Path) -> None:
    latency = settings({"requests": 100, "warmup": 2, "rate": "25/s", "slo": {"formulation_p95": "1s"}}, {})
    before = len(lines_of(running.log))
    [found] = measure_served([served_job(tmp_path, running.url)], latency)
    assert len(lines_of(running.log)) == before + 1 + 2 + 100, "one to see that it answers"
    assert (found["arm"], found["split"], found["n"]) == ("incumbent", "latency", 100)
    assert found["detail"]["load"] == "open loop, Poisson arrivals, 25 requests a second"
    assert found["metrics"]["latency/formulation_p95_s"] is not None
    assert found["metrics"]["latency/goodput_rps"] > 10
    assert (tmp_path / "incumbent-latency" / "artifacts" / "profile_export.jsonl").is_file(), "its records are kept"
