"""Who is timed before a sweep decides, how an endpoint is timed, and a grid of servers."""

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.champion import choose_on_dev
from launchers import served
from launchers.evaluation import EvaluationJob
from launchers.latency import next_to_time
from launchers.latency_grid import Bench, Point, run_grid, summary
from launchers.latency_inputs import bodies_of, server_of, settings
from launchers.pools import LABEL
from launchers.served import measure_served
from sweeps.facts import Pool, Speed
from sweeps.latency import Latency
from sweeps.pricing import Price
from tests.launchers.running import ROOT
from tests.streaming import Streaming
from tracking.ledger import Evaluation, State, SweepState, TrialState
from tracking.meters.latency.aiperf import Load, find_aiperf

LIMIT = "latency/formulation_p95_s"
SPEC = {"champion": {"maximize": "quality/score", "subject_to": {LIMIT: "< 1"}}, "evaluate": {"metrics": ["shopping"]}}


def sweep_of(scores: list[float]) -> SweepState:
    trials = {}
    for number, score in enumerate(scores):
        trial = TrialState(f"t{number}", number, {"lr": number}, "cpu", State.DONE, adapter="a")
        trial.evaluations.append(Evaluation("e", trial.id, "dev", 10, {"quality/score": score}))
        trials[trial.id] = trial
    return SweepState("s", Path("s"), 0.0, SPEC, {}, {}, trials)


def time_it(state: SweepState, trial: str, seconds: float | None) -> None:
    missing = {} if seconds is not None else {LIMIT: "9 of 100 requests have no answer, and it is one of them"}
    found = Evaluation(f"l-{trial}", trial, "latency", 100, {LIMIT: seconds}, detail={"missing": missing})
    state.trials[trial].evaluations.append(found)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.sampled_from([0.5, 0.9, 1.0, 3.0]))), max_size=9),
    st.integers(0, 4),
    st.data(),
)
def test_the_loop_ends_and_chooses_as_if_everybody_had_been_timed(
    trials: list[tuple[int, float | None]], top: int, data: st.DataObject
) -> None:
    state, everybody = sweep_of([score for score, _ in trials]), sweep_of([score for score, _ in trials])
    for number, (_, seconds) in enumerate(trials):
        time_it(everybody, f"t{number}", seconds)
    tried: set[str] = set()
    while best := next_to_time(state, top, tried):
        assert len(best) <= top
        assert tried.isdisjoint(best)
        tried |= set(best)
        for trial in best:
            time_it(state, trial, trials[int(trial[1:])][1])
    assert len(tried) <= len(trials)
    found, right = choose_on_dev(state).champion, choose_on_dev(everybody).champion
    unmeasurable = sum(seconds is None for _, seconds in trials)
    if top > unmeasurable:
        assert found == right
    elif found is not None:
        assert found in tried, "nobody wins who was not timed"


def test_a_verdict_says_why_a_latency_is_missing() -> None:
    state = sweep_of([1.0])
    time_it(state, "t0", None)
    choice = choose_on_dev(state)
    assert choice.champion is None
    told = f"{LIMIT} is not measured (9 of 100 requests have no answer, and it is one of them), must be < 1"
    assert choice.verdicts["t0"].failures == (told,)


# A grid of servers, and an endpoint as an arm.

PRICE = Price(usd_per_hour=3.6, date="2026-11-01", source="a list")
SPEED = Speed(achieved_tflops=400, source="measured")


def pool(device: str = "cpu", accelerator: str | None = None) -> Pool:
    return Pool.model_validate(
        {
            "name": (accelerator or "cpu").lower(),
            "device": device,
            "accelerator": accelerator,
            "memory_gb": 8,
            "price": PRICE,
            "speed": SPEED,
            "startup_s": 1,
        }
    )


def bench(folder: Path, serve: str, runs: int = 1, rate: float = 8.0, requests: int = 95) -> Bench:
    return Bench(
        servers=partial(server_of, serve, "/bundle"),
        load=Load("", "", rate, requests),
        bodies=bodies_of([[{"role": "user", "content": "shoes"}]], 8),
        slo=settings({"slo": {"formulation_p95": "300ms", "agent_p95": "1ms"}}, {}).slo,
        runs=runs,
        folder=folder,
        ready_s=60,
    )


def run_of(rate: float, good: float | None, kept: bool | None) -> dict[str, Any]:
    return {"rate": rate, "kept": kept, "metrics": {"latency/goodput_rps": good}}


def test_a_point_is_as_good_as_its_best_rate_that_is_kept_and_priced_by_its_units(tmp_path: Path) -> None:
    asked = bench(tmp_path, "x", runs=4)
    runs = [run_of(4, 3.9, True), run_of(8, 7.2, True), run_of(16, 9.0, False)]
    found = summary(Point(2, pool("gpu", "H100")), runs, asked, "")
    assert (found["goodput_rps"], found["goodput_rps_per_unit"]) == (7.2, 3.6)
    assert found["usd_per_1k_good"] == pytest.approx(2 * 3.6 / 3600 / 7.2 * 1000)
    none = summary(Point(1, pool()), [run_of(4, 3.9, False), run_of(2, 1.0, False)], asked, "")
    assert (none["goodput_rps"], none["usd_per_1k_good"]) == (None, None)
    assert none["why"] == "the SLO is kept at no rate that was tried, down to 2/s"
    one = summary(Point(1, pool()), [run_of(4, 0.0, False)], bench(tmp_path, "x"), "")
    assert (one["goodput_rps"], one["usd_per_1k_good"], one["why"]) == (0.0, None, ""), "measured, and worth nothing"


def test_a_server_that_does_not_start_is_a_missing_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_AIPERF", "/bin/true")
    told: list[str] = []
    points = [Point(1, pool()), Point(2, pool())]
    results = run_grid(points, bench(tmp_path, "sh -c 'echo no memory; exit 9'"), [], told.append)
    assert [result["goodput_rps"] for result in results] == [None, None]
    assert all("exit code 9: no memory" in result["why"] for result in results)
    assert any("2 × cpu: the server ended" in text for text in told)


def test_a_point_without_its_machine_says_so(tmp_path: Path) -> None:
    node = {"Alive": True, "Labels": {LABEL: "H100"}, "Resources": {"GPU": 2}}
    results = run_grid([Point(4, pool("gpu", "H100"))], bench(tmp_path, "x"), [node, node], lambda text: None)
    assert results[0]["why"] == "no node has 4 × H100: the largest has 2"


@pytest.fixture
def fake_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A node with four GPUs of one kind, and one with two of another."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PODIUM_AIPERF", "/bin/true")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for accelerator, count in (("H100", 4), ("B200", 2)):
        cluster.add_node(num_cpus=2, num_gpus=count, labels={LABEL: accelerator}, object_store_memory=100 * 2**20)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield ray.nodes()
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_server_sees_as_many_gpus_of_its_kind_as_its_point_says(
    fake_cluster: list[dict[str, Any]], tmp_path: Path
) -> None:
    serve = "sh -c 'echo {accelerator}: $CUDA_VISIBLE_DEVICES; exit 9'"
    points = [Point(2, pool("gpu", "H100")), Point(2, pool("gpu", "B200")), Point(4, pool("gpu", "B200"))]
    first, second, third = run_grid(points, bench(tmp_path, serve), fake_cluster, lambda text: None)
    for result, kind in ((first, "H100"), (second, "B200")):
        found = re.search(rf"exit code 9: {kind}: ([\d,]+)", result["why"])
        assert found, result["why"]
        assert len(found[1].split(",")) == 2
    assert third["why"] == "no node has 4 × B200: the largest has 2"


@pytest.fixture
def program() -> Path:
    found = find_aiperf()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no AIPerf: `make aiperf`")
        pytest.skip("no AIPerf here: `make aiperf`")
    return found


@pytest.mark.slow
def test_goodput_grows_with_tp_and_its_server_is_gone_after(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers one request at a time in 0.2 s / tp bears at most 5 tp requests a second."""
    monkeypatch.chdir(ROOT)
    serve = f"{sys.executable} -m tests.streaming --port {{port}} --seconds 0.2 --tp {{tp}}"
    points = [Point(1, pool()), Point(4, pool())]
    slow, fast = run_grid(points, bench(tmp_path, serve), [], lambda text: None)
    assert slow["why"] == fast["why"] == ""
    assert slow["runs"][0]["kept"] is False
    assert slow["runs"][0]["n"] == 95
    assert fast["runs"][0]["kept"] is True
    assert [one["metric"] for one in fast["runs"][0]["slo"]] == ["latency/formulation_p95_s"], (
        "an endpoint has no agent"
    )
    assert slow["goodput_rps"] < 5 < fast["goodput_rps"]
    assert fast["usd_per_1k_good"] == pytest.approx(4 * 3.6 / 3600 / fast["goodput_rps"] * 1000)


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
        endpoint={"endpoint": url, "model": "shop", "timeout": 5.0},
    )


def test_an_endpoint_is_timed_one_by_one_where_aiperf_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "find_aiperf", lambda: None)
    with Streaming() as server:
        job = served_job(tmp_path, server.url)
        [plain] = measure_served([job], Latency(requests=7))
        [asked] = measure_served([job], Latency(requests=7, rate=5.0))
        assert len(server.log) == 2 * (1 + 7)
    assert plain["metrics"]["latency/formulation_p50_s"] > 0.005
    assert plain["detail"]["load"] == "one request at a time"
    assert asked["detail"]["load"].startswith("one request at a time, since AIPerf is not here (`make aiperf`")
    assert "latency/goodput_rps" not in asked["metrics"]


@pytest.mark.slow
def test_an_endpoint_is_timed_under_load_where_a_rate_is_given(program: Path, tmp_path: Path) -> None:
    latency = settings({"requests": 100, "warmup": 2, "rate": "25/s", "slo": {"formulation_p95": "1s"}}, {})
    with Streaming() as server:
        [found] = measure_served([served_job(tmp_path, server.url)], latency)
        assert len(server.log) == 1 + 2 + 100, "one to see that it answers"
    assert (found["arm"], found["split"], found["n"]) == ("incumbent", "latency", 100)
    assert found["detail"]["load"] == "open loop, Poisson arrivals, 25 requests a second"
    assert found["metrics"]["latency/formulation_p95_s"] is not None
    assert found["metrics"]["latency/goodput_rps"] > 10
    assert (tmp_path / "incumbent-latency" / "artifacts" / "profile_export.jsonl").is_file(), "its records are kept"
