"""Latency of the stages of a request, in this process: one request at a time, by the wall clock.

The machine does nothing else meanwhile. Nothing waits in a queue here, so this says what a request takes, and not how
many a server bears: for that see ``tracking.meters.latency.aiperf``.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweeps.errors import PodiumError
from tracking.meters.latency.result import LatencyResult, result_of
from tracking.meters.metrics import Item

Stage = Callable[[Item, Any], Any]
"""One stage of a request: the item and what the stage before it gave (None for the first), to what it gives."""

FORMULATION, AGENT = "formulation", "agent"
GIVE_UP = 3  # requests in a row without an answer, after which nothing more is asked


def measure_stages(
    stages: Mapping[str, Stage],
    items: Sequence[Item],
    warmup: int = 1,
    requests: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyResult:
    """Time every stage of each request, in the items' order, round and round if need be.

    With more than one stage ``latency/agent_*`` is there too: percentiles of the requests' sums, which are not the sums
    of the stages' percentiles. A stage that raises a :class:`PodiumError` leaves its request without an answer, from
    there on; after ``GIVE_UP`` such requests in a row the measurement ends with what it has.

    Args:
        stages: By name, in the order in which a request goes through them.
        items: At least one.
        warmup: Requests made first that do not count.
        requests: Requests that count; None for one per item.
        clock: Seconds, from anywhere.
    """
    assert items, "a latency needs something to ask"
    total = len(items) if requests is None else requests
    times: dict[str, list[float | None]] = {name: [] for name in (*stages, *([AGENT] if len(stages) > 1 else []))}
    errors: list[str] = []
    lost = 0
    for number in range(-warmup, total):
        seconds, error = _request(stages, items[(number if number >= 0 else number + warmup) % len(items)], clock)
        lost = lost + 1 if error else 0
        if number >= 0:
            whole = None if error else sum(seconds.values())
            for name, column in times.items():
                column.append(whole if name == AGENT else seconds.get(name))
            errors += [error] if error else []
        if lost >= GIVE_UP:
            break
    made = len(next(iter(times.values())))
    stopped = {} if made == total else {"stopped": f"after {lost} requests in a row without an answer"}
    return result_of(times, errors, warmup=warmup, load="one request at a time", **stopped)


def _request(
    stages: Mapping[str, Stage], item: Item, clock: Callable[[], float]
) -> tuple[dict[str, float], str | None]:
    seconds: dict[str, float] = {}
    given: Any = None
    for name, stage in stages.items():
        start = clock()
        try:
            given = stage(item, given)
        except PodiumError as error:
            return seconds, str(error)
        seconds[name] = clock() - start
    return seconds, None
