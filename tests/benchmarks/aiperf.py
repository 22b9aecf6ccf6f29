"""AIPerf's latencies against the server's own: percentiles of the same requests, by the client and by the server's log.

The server is Podium's own, with a bundle of the demo's base. AIPerf counts from a request's scheduled arrival to its
whole answer, the server from the request that it has read to the last token. What waits for a place in the batch is in
both; what waits to be connected, accepted and read is in AIPerf's alone. Aimed at: p95 of the two within 10 %, where
the server takes in what comes.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.bases import BUILTIN
from sweeps.metrics import PERCENTILES
from tests.benchmarks.report import report
from tests.launchers.serving.bundles import make_bundle, served
from tests.launchers.serving.stalling import EVERY_S, STALL_S, Stalling
from tests.recipes.tiny import one_thread
from tracking.meters.latency.aiperf import INSTALL, VERSION, Load, find_aiperf, measure_endpoint
from tracking.meters.latency.percentiles import estimate

WARMUP = 5
AIM = 0.10
TOKENS = 32
BODIES = [
    {
        "model": "champion",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": TOKENS,
        "ignore_eos": True,
    }
    for text in ("waterproof trail shoes for my wife", "a lamp of glass and oak", "something warm, and not black")
]


@dataclass(frozen=True)
class Setting:
    """A load on the server; ``wrap`` puts a middleware around it."""

    name: str
    rate: float
    requests: int = 500
    wrap: Callable[[Any], Any] = lambda app: app


SETTINGS = (
    Setting("seldom two at a time", 3),
    Setting("several at a time", 8),
    Setting(f"lets nothing in for {STALL_S:g} s of every {EVERY_S:g} s", 8, wrap=Stalling),
)


def run() -> None:
    """Put each load on the server, and write the report."""
    program = find_aiperf()
    if program is None:
        raise SystemExit(f"no AIPerf here: {INSTALL}")
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder) / "bundle", BUILTIN["builtin:tiny_commerce"])
        rows = [_row(program, setting, bundle, Path(folder)) for setting in SETTINGS]
    conditions = {
        "server": f"as podium serve, one thread: the demo's base, random adapter, {TOKENS} tokens an answer",
        "AIPerf": f"{VERSION}, on the same machine",
        "arrivals": "Poisson, open loop, seed 0",
        "warm-up": f"{WARMUP} requests, in neither figure",
        "seconds by AIPerf": "from the scheduled arrival to the whole answer",
        "seconds by the server": "from the request that is read to the last token, by its log: waiting for a place in "
        "the batch is in it, waiting to be accepted and read is not",
        "aim": f"p95 of the two within {AIM:.0%}, where the server takes in what comes",
    }
    report("aiperf", rows, conditions)


def _row(program: Path, setting: Setting, bundle: Path, folder: Path) -> dict[str, Any]:
    log = folder / f"{setting.name}.jsonl"
    with served(bundle, setting.wrap, log=log) as url:
        load = Load(url, "champion", setting.rate, setting.requests, WARMUP)
        found = measure_endpoint(program, load, BODIES, folder / "aiperf", {})
    lines = sorted((json.loads(line) for line in log.read_text().splitlines()), key=lambda line: float(line["arrival"]))
    own = [line["total_s"] for line in lines[WARMUP:]]
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
        "within the aim": None if apart is None or setting.wrap is Stalling else apart <= AIM,
        "latest sending, s": found.detail["largest_send_lag_s"],
    }
    print(f"{setting.name}: p95 {p95} by AIPerf, {of_server} by the server", flush=True)
    return row
