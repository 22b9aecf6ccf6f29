"""A grid of servers whose capacity is known, of servers that do not start, and of GPUs that are not there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.latency_grid import Point, run_grid, summary
from launchers.pools import LABEL
from tests.launchers.grids import bench, pool
from tests.launchers.running import ROOT


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
