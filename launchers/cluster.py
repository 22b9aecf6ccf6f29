"""The Ray cluster that a sweep runs on: the user's own, or a local one with this machine's cores."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from launchers.guardian import guarded
from sweeps.errors import PodiumError
from tracking.deadline import call_within

IDLE_WORKER_S = 120
SHUTDOWN_LIMIT_S = 20.0
VITAL = ("raylet", "gcs_server")  # without its dashboard, log monitor or agents a sweep goes on


class ClusterLost(PodiumError):
    """A process of the local Ray has died. Its workers cannot go on, and neither can Tune: it would wait for ever."""


@contextmanager
def ray_cluster(say: Callable[[str], None], log: Path = Path(os.devnull)) -> Iterator[list[dict[str, Any]]]:
    """The cluster at ``$RAY_ADDRESS``, or a local one with this machine's cores; yields ``ray.nodes()``.

    Args:
        say: Takes messages.
        log: Takes what Ray itself would print on standard output, which belongs to our results.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is ours: see ``interruptible``
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # a diverged trial has no validation loss
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "16"  # a full pool must not hold up a free one
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is called whom the user did not name
    address = os.environ.get("RAY_ADDRESS")
    say(f"Ray: {f'connecting to {address}' if address else f'starting on {num_cores()} cores'} …")
    with nullcontext() if address else guarded():
        try:
            nodes = _start(address)
            with log.open("a", encoding="utf-8") as file, redirect_stdout(file):
                yield nodes
        finally:
            if not address:
                _end_helpers()
            try:
                # With its own processes gone, Ray may wait for them for ever.
                call_within(SHUTDOWN_LIMIT_S, _ray().shutdown)
            except TimeoutError:
                say(f"Ray did not end within {SHUTDOWN_LIMIT_S:.0f} s; its processes are ended")


def _start(address: str | None) -> list[dict[str, Any]]:
    ray = _ray()
    if address:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        return list(ray.nodes())
    # Who ends a job, `timeout`, a service manager, Slurm, signals its whole process group. Ray must outlive that until
    # the driver has set its trials down. What is blocked here stays blocked in what is started.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        ray.init(
            address="local",
            num_cpus=num_cores(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            # An evaluation's process has torch and the base in memory: keep it for the next one, not for a second only.
            _system_config={"idle_worker_killing_time_threshold_ms": IDLE_WORKER_S * 1000},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # trials that fail are told by the ledger's views
    return list(ray.nodes())


def _ray() -> Any:
    import ray

    return ray


def _end_helpers() -> None:
    """End what a sweep's end does not need. Ray would give each a second to obey a signal that ``_start`` blocks."""
    node = _ray()._private.worker._global_node
    for name, process in node.live_processes() if node is not None else []:
        if name not in VITAL:
            process.kill()


def check_alive() -> None:
    """See that the local Ray is whole.

    Raises:
        ClusterLost: A process that it cannot do without has ended.
    """
    node = _ray()._private.worker._global_node
    dead = [name for name, _ in node.dead_processes() if name in VITAL] if node is not None else []
    if dead:
        raise ClusterLost(f"Ray's {' and '.join(dead)} ended unexpectedly")


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
