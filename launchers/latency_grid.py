"""A grid of servers: by tensor-parallel size and kind of GPU, the good requests a second, and what they cost.

The server is started anew for every point and has its machine to itself. Points on GPUs are Ray tasks, placed where
such GPUs are; those of a CPU pool run in this process. A point that fails is a missing value with its reason, and the
others go on.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launchers.model_server import Command, free_port, serving
from launchers.pools import selector, units
from sweeps.errors import PodiumError
from sweeps.facts import Pool
from sweeps.latency import Limit, of_requests
from tracking.meters.endpoint import sole_model
from tracking.meters.latency.aiperf import INSTALL, Load, find_aiperf, measure_endpoint
from tracking.meters.latency.search import next_rate
from tracking.meters.latency.slo import attained, verdicts

Say = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """One server of the grid: ``tp`` units of a pool."""

    tp: int
    pool: Pool

    @property
    def kind(self) -> str:
        """The accelerator, or the pool where it has none."""
        return self.pool.accelerator or self.pool.name

    def __str__(self) -> str:
        return f"{self.tp} × {self.kind}"


Servers = Callable[[Point, int], Command]
"""A point and a port to the server's command. Travels to a Ray task."""


@dataclass(frozen=True)
class Bench:
    """What is asked of the server of every point.

    Attributes:
        servers: How it is started.
        load: Of the first run; ``endpoint`` is each server's own, and so is ``model`` where it is empty.
        bodies: Of the requests, without ``model``.
        slo: The limits.
        runs: The most rates that are tried; 1 measures at the load's rate, more look for the highest that is kept.
        folder: Holds a folder for each point.
        ready_s: What a server may take to be ready.
    """

    servers: Servers
    load: Load
    bodies: Sequence[Mapping[str, Any]]
    slo: Mapping[str, Limit]
    runs: int
    folder: Path
    ready_s: float


def run_grid(points: Iterable[Point], bench: Bench, nodes: Sequence[dict[str, Any]], say: Say) -> list[dict[str, Any]]:
    """Measure every point, one after the other; plain values for JSON.

    Args:
        points: Of the grid.
        bench: What is asked of each.
        nodes: Of the Ray cluster that runs points on GPUs, ``ray.nodes()``.
        say: Told of each.
    """
    results = []
    for point in points:
        say(f"{point}: starting its server …")
        result = _placed(point, bench, nodes) if point.pool.device == "gpu" else measure_point(point, bench)
        rate = result["goodput_rps"]
        say(f"{point}: " + (result["why"] if rate is None else f"{rate:.3g} good requests a second"))
        results.append(result)
    return results


def _placed(point: Point, bench: Bench, nodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A point on GPUs of its kind, all of one node."""
    import ray

    most = max((units(point.pool, [node]) for node in nodes), default=0)
    if most < point.tp:
        return summary(point, [], bench, f"no node has {point}: the largest has {most}")
    task = ray.remote(num_cpus=1, num_gpus=point.tp, max_retries=0, label_selector=selector([point.pool]))
    try:
        result: dict[str, Any] = ray.get(task(measure_point).remote(point, bench))
    except ray.exceptions.RayError as error:
        return summary(point, [], bench, f"its task ended: {str(error).strip().splitlines()[-1]}")
    return result


def measure_point(point: Point, bench: Bench) -> dict[str, Any]:
    """Start the server of a point, put loads on it, end it."""
    folder = bench.folder / f"{point.kind}-tp{point.tp}"
    runs: list[dict[str, Any]] = []
    why = ""
    try:
        program = find_aiperf()
        if program is None:
            raise PodiumError(f"AIPerf is not here ({INSTALL})")
        command = bench.servers(point, free_port())
        with serving(command, folder / "server.log", bench.ready_s) as url:
            model = bench.load.model or command.model or sole_model(url, {})
            bodies = [{**body, "model": model} for body in bench.bodies]
            rate: float | None = bench.load.rate
            while rate is not None and len(runs) < bench.runs:
                load = replace(bench.load, endpoint=url, model=model, rate=rate)
                runs.append(_run(program, load, bodies, folder / f"run-{len(runs) + 1}", bench.slo))
                rate = next_rate([(run["rate"], run["kept"] is True) for run in runs])
    except PodiumError as error:
        why = str(error)
    return summary(point, runs, bench, why)


def _run(
    program: Path, load: Load, bodies: Sequence[Mapping[str, Any]], folder: Path, slo: Mapping[str, Limit]
) -> dict[str, Any]:
    began = time.time()
    result = measure_endpoint(program, load, bodies, folder, slo)
    found = verdicts(of_endpoint(slo), result.metrics, result.detail.get("missing"))
    return {
        "rate": load.rate,
        "n": result.n,
        "metrics": result.metrics,
        "slo": [one.to_dict() for one in found],
        "kept": attained(found),
        "detail": {**result.detail, "seconds": round(time.time() - began, 2)},
    }


def of_endpoint(slo: Mapping[str, Limit]) -> dict[str, Limit]:
    """The limits that an endpoint alone can keep or break."""
    return {name: limit for name, limit in slo.items() if of_requests({name: limit})}


def summary(point: Point, runs: Sequence[Mapping[str, Any]], bench: Bench, why: str) -> dict[str, Any]:
    """A point's result: goodput, also per unit, and what a thousand good requests cost; None where that is unknown.

    Where one rate was measured, the goodput is what of it was good. Where the highest was looked for, it is that of the
    runs in which the SLO was kept.
    """
    counted = runs if bench.runs == 1 else [run for run in runs if run["kept"]]
    rates = [rate for run in counted if (rate := run["metrics"]["latency/goodput_rps"]) is not None]
    goodput = max(rates, default=None)
    if goodput is None and not why:
        lowest = min((run["rate"] for run in runs), default=None)
        why = f"the SLO is kept at no rate that was tried, down to {lowest:.3g}/s" if lowest else "nothing was measured"
        if not of_requests(bench.slo):
            why = "the SLO has no limit on formulation or ttft, so no request is good or bad"
    usd_per_s = point.tp * point.pool.price.usd_per_hour / 3600
    return {
        "tp": point.tp,
        "accelerator": point.kind,
        "pool": point.pool.name,
        "price": point.pool.price.model_dump(mode="json"),
        "goodput_rps": goodput,
        "goodput_rps_per_unit": None if goodput is None else goodput / point.tp,
        "usd_per_1k_good": usd_per_s / goodput * 1000 if goodput else None,
        "why": why,
        "runs": list(runs),
    }
