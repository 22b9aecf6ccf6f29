"""AIPerf's latencies against the server's own: percentiles of the same requests, by the client and by the server's log.

The server is one of this machine whose answers take a known time. AIPerf counts from a request's scheduled arrival to
its whole answer, the server from the request to its last byte, so AIPerf's figure is the larger one by what sending
takes. Aimed at: p95 of the two within 10 %.
"""

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.metrics import PERCENTILES
from tests.benchmarks.report import report
from tests.streaming import Streaming
from tracking.meters.latency.aiperf import INSTALL, VERSION, Load, find_aiperf, measure_endpoint
from tracking.meters.latency.percentiles import estimate

WARMUP = 5
BODY = {"model": "shop", "messages": [{"role": "user", "content": "shoes"}], "temperature": 0, "max_tokens": 8}
AIM = 0.10


def _drawn() -> Callable[[float], float]:
    draw = random.Random(0)
    return lambda t: draw.uniform(0.1, 0.4)


@dataclass(frozen=True)
class Setting:
    """A server and a load: ``slow`` gives the seconds of an answer, as ``Streaming`` takes it."""

    name: str
    slow: Callable[[float], float]
    rate: float
    requests: int
    one_by_one: bool = False


SETTINGS = (
    Setting("answers of 0.1 to 0.4 s", _drawn(), rate=10, requests=500),
    Setting("one at a time, 0.1 s each, 70 % of what it bears", lambda t: 0.1, 7, 500, one_by_one=True),
    Setting("0.05 s, but silent for 0.3 s of every 5 s", lambda t: 0.05 + max(0.0, 0.3 - t % 5), 20, 600),
)


def run() -> None:
    """Put each load on its server, and write the report."""
    program = find_aiperf()
    if program is None:
        raise SystemExit(f"no AIPerf here: {INSTALL}")
    rows = [_row(program, setting) for setting in SETTINGS]
    conditions = {
        "AIPerf": VERSION,
        "arrivals": "Poisson, open loop, seed 0",
        "warm-up": f"{WARMUP} requests, in neither figure",
        "seconds by AIPerf": "from the scheduled arrival to the whole answer",
        "seconds by the server": "from the request to the last byte, by the server's log",
        "aim": f"p95 of the two within {AIM:.0%}",
    }
    report("aiperf", rows, conditions)


def _row(program: Path, setting: Setting) -> dict[str, Any]:
    with Streaming(setting.slow, one_by_one=setting.one_by_one) as server, tempfile.TemporaryDirectory() as folder:
        load = Load(server.url, "shop", setting.rate, setting.requests, WARMUP)
        found = measure_endpoint(program, load, [BODY], Path(folder) / "aiperf", {})
        log = sorted(server.log, key=lambda request: request.arrived)[WARMUP:]
    own = [request.seconds for request in log]
    row: dict[str, Any] = {
        "server": setting.name,
        "requests/s": setting.rate,
        "n": found.n,
        "in the log": len(own),
        "errors": found.detail["num_errors"],
    }
    for percent in PERCENTILES:
        by_client = found.metrics[f"latency/formulation_p{percent}_s"]
        row |= {f"p{percent} by AIPerf, s": by_client, f"by the server, p{percent}": estimate(own, percent).value}
    p95, of_server = row["p95 by AIPerf, s"], row["by the server, p95"]
    apart = abs(p95 / of_server - 1) if p95 and of_server else None
    row |= {
        "p95 apart": None if apart is None else f"{apart:.1%}",
        "within the aim": None if apart is None else apart <= AIM,
        "latest sending, s": found.detail["largest_send_lag_s"],
    }
    print(f"{setting.name}: p95 {p95} by AIPerf, {of_server} by the server", flush=True)
    return row
