"""Pools, and what is asked of the servers on them, for tests of grids."""

from functools import partial
from pathlib import Path

from launchers.latency_grid import Bench
from launchers.latency_inputs import bodies_of, settings
from launchers.latency_servers import by_template
from sweeps.facts import Pool, Speed
from sweeps.pricing import Price
from tracking.meters.latency.aiperf import Load

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
        servers=partial(by_template, serve, None),
        load=Load("", "", rate, requests),
        bodies=bodies_of([[{"role": "user", "content": "shoes"}]], 8),
        slo=settings({"slo": {"formulation_p95": "300ms", "agent_p95": "1ms"}}, {}).slo,
        runs=runs,
        folder=folder,
        ready_s=60,
    )
