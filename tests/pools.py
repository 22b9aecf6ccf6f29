"""Pools for tests that price something: only what a test is about is said there."""

from sweeps.facts import Pool, Speed
from sweeps.pricing import Price


def pool(name: str, usd_per_hour: float, tflops: float = 1.0, startup_s: float = 0.0) -> Pool:
    """Of cores for ``cpu``, else of GPUs of the kind that it is named by."""
    on_gpu = name != "cpu"
    return Pool(
        name=name,
        device="gpu" if on_gpu else "cpu",
        accelerator=name.upper() if on_gpu else None,
        memory_gb=8,
        price=Price(usd_per_hour=usd_per_hour, date="2026-11-01", source="https://example.com/prices"),
        speed=Speed(achieved_tflops=tflops, source="measured"),
        startup_s=startup_s,
    )
