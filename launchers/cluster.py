"""The Ray cluster that a sweep runs on: the user's own, or a local one with this machine's cores."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

IDLE_WORKER_S = 120


@contextmanager
def ray_cluster(say: Callable[[str], None]) -> Iterator[list[dict[str, Any]]]:
    """The cluster at ``$RAY_ADDRESS``, or a local one with this machine's cores; yields ``ray.nodes()``."""
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours: see ``interruptible``
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a diverged trial has no validation loss
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "16"  # a full pool must not hold up a free one
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    say(f"Ray: {f'connecting to {address}' if address else f'starting on {num_cores()} cores'} …")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    else:
        ray.init(
            address="local",
            num_cpus=num_cores(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            # An evaluation's process has torch and the base in memory: keep it for the next one, not for a second only.
            _system_config={"idle_worker_killing_time_threshold_ms": IDLE_WORKER_S * 1000},
        )
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # trials that fail are told by the ledger's views
    try:
        yield ray.nodes()
    finally:
        ray.shutdown()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
