"""Latency of an endpoint under open load, by NVIDIA's AIPerf, a program in an environment of its own.

Requests arrive by a Poisson process at a given rate, whether or not earlier ones are answered, as shoppers do. Our own
items are sent as they are, greedy, so that every arm answers the same. AIPerf only sends and records; the figures are
made here, from its record of each request.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recipes.bases import BUILTIN
from sweeps.errors import InvalidInput, PodiumError, Problem
from sweeps.latency import Limit
from tracking.meters.chat import completions
from tracking.meters.latency.records import COUNTED, Record, read_records
from tracking.meters.latency.result import LatencyResult, Times, result_of
from tracking.meters.latency.slo import goodput

VERSION = "0.13.0"
VARIABLE = "PODIUM_AIPERF"
OWN = Path(__file__).parents[3] / ".venv-aiperf" / "bin" / "aiperf"  # in a checkout, where `make aiperf` puts it
INSTALL = f"`make aiperf` installs it; or name one of your own in {VARIABLE}"
_KEY = "PODIUM_AIPERF_KEY"  # the key goes by the environment: arguments and files can be read by others
_START_S = 90.0  # what its processes may take to start and to end
# Ours would lead its Python to our packages, and offline its loader refuses even a tokenizer on this disk.
_NOT_FOR_IT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class Load:
    """What is asked of an endpoint.

    Attributes:
        endpoint: The base (``http://host:8000/v1``) or the full address that ends in ``/chat/completions``.
        model: Its name there.
        rate: Requests a second.
        requests: That count.
        warmup: Made first, at the same rate, that do not count.
        timeout_s: After which a request has no answer.
        api_key_env: The environment variable that holds the key; None sends none.
    """

    endpoint: str
    model: str
    rate: float
    requests: int
    warmup: int = 1
    timeout_s: float = 60.0
    api_key_env: str | None = None

    @property
    def words(self) -> str:
        """How it comes, for people."""
        return f"open loop, Poisson arrivals, {self.rate:g} requests a second"


def find_aiperf() -> Path | None:
    """The program: what ``$PODIUM_AIPERF`` names, else the checkout's own, else one on PATH; None without any.

    Raises:
        InvalidInput: The variable names what is no program.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            rule = f"must name the program aiperf, but {named} is none that can be run"
            raise InvalidInput(Problem(VARIABLE, rule, "unset it, or give the path of bin/aiperf"))
        return Path(named)
    if os.access(OWN, os.X_OK):
        return OWN
    found = shutil.which("aiperf")
    return Path(found) if found else None


def measure_endpoint(
    program: Path, load: Load, bodies: Sequence[Mapping[str, Any]], folder: Path, slo: Mapping[str, Limit]
) -> LatencyResult:
    """Put a load on an endpoint and measure what it answers.

    What the endpoint does not answer, or answers with something that is no chat completion, is a request without an
    answer and counts as such; so do those that AIPerf has no record of, if it is ended before it is done.

    Args:
        program: AIPerf, see :func:`find_aiperf`.
        load: What is asked.
        bodies: Of the requests, as they are posted; round and round if need be.
        folder: For AIPerf's own files, the record of each request among them. Emptied first.
        slo: Limits for goodput.

    Raises:
        PodiumError: AIPerf did not run; its last words are told.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    questions = folder / "requests.jsonl"
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    lines = [json.dumps({**body, **streamed}, ensure_ascii=False) for body in bodies]
    questions.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    config = folder / "aiperf.yaml"
    config.write_text(json.dumps(_config(load, questions, folder / "artifacts"), indent=2), encoding="utf-8")
    ended = _run([str(program), "profile", "--config", str(config)], _environment(load), _limit_s(load))
    records = read_records(folder / "artifacts")
    if not records:
        raise PodiumError(f"AIPerf {ended or 'ended'} without a record of a request; see {folder / 'artifacts'}")
    return measured(records, load, slo, ended)


def measured(records: Sequence[Record], load: Load, slo: Mapping[str, Limit], ended: str = "") -> LatencyResult:
    """The figures of a load from its records.

    Args:
        records: By arrival, of one or more requests that count.
        load: What was asked.
        slo: Limits for goodput.
        ended: How AIPerf ended, where that was not as it should be.
    """
    formulation: list[float | None] = [record.seconds for record in records]
    first: list[float | None] = [record.ttft_s for record in records]
    errors = [record.error for record in records if record.error is not None]
    if lost := load.requests - len(records):
        formulation += [None] * lost
        first += [None] * lost
        errors += ["AIPerf has no record of it"] * lost
    times: dict[str, Times] = {"formulation": formulation, "ttft": first}
    seconds = max(record.ended for record in records) - records[0].arrived
    rate, why = goodput(slo, times, seconds)
    lag = max(record.sent - record.arrived for record in records)
    told: dict[str, Any] = {
        "load": load.words,
        "rate": load.rate,
        "arrival_rate": _arrival_rate(records),
        "warmup": load.warmup,
        "seconds_of_load": seconds,
        "counted_from": "the scheduled arrival",
        "largest_send_lag_s": lag,
        "num_answers": len(records) + max(lost, 0) - len(errors),
        "aiperf": VERSION,
        **({"ended": ended} if ended else {}),
    }
    result = result_of(times, errors, **told)
    result.metrics["latency/goodput_rps"] = rate
    if rate is None:
        result.detail["missing"] = {**result.detail.get("missing", {}), "latency/goodput_rps": why}
    return result


def _arrival_rate(records: Sequence[Record]) -> float | None:
    """Requests a second, as they were scheduled: by chance not quite the rate that was asked for."""
    span = records[-1].arrived - records[0].arrived
    return (len(records) - 1) / span if span > 0 else None


def _config(load: Load, questions: Path, artifacts: Path) -> dict[str, Any]:
    parts = urlsplit(completions(load.endpoint))
    phase = {"type": "poisson", "rate": load.rate}
    warmup = [{"name": "warmup", **phase, "requests": load.warmup, "exclude_from_results": True}]
    return {
        "schemaVersion": "2.0",
        "randomSeed": 0,  # the same arrivals for every arm at the same rate
        "benchmark": {
            "model": load.model,
            "endpoint": {
                "url": f"{parts.scheme}://{parts.netloc}",
                "path": parts.path,
                "type": "chat",
                "streaming": True,
                "timeout": load.timeout_s,
                "use_server_token_count": True,
                **({"api_key": f"${{{_KEY}}}"} if load.api_key_env else {}),
            },
            "dataset": {"type": "file", "path": str(questions), "format": "raw_payload", "sampling": "sequential"},
            "phases": [*(warmup if load.warmup else []), {"name": COUNTED, **phase, "requests": load.requests}],
            # It loads one whatever is counted; the server's counts are used, so any that lies on this disk will do.
            "tokenizer": {"name": str(BUILTIN["builtin:tiny_commerce"])},
            "artifacts": {"dir": str(artifacts)},
            "gpu_telemetry": {"enabled": False},
            "server_metrics": {"enabled": False},
            "runtime": {"workers": 1, "ui": "none"},
        },
    }


def _environment(load: Load) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_IT}
    return kept | ({_KEY: os.environ.get(load.api_key_env, "")} if load.api_key_env else {})


def _limit_s(load: Load) -> float:
    """What a load may take: its arrivals, which chance may draw out, the last answer, and AIPerf itself."""
    return 2 * (load.requests + load.warmup) / load.rate + load.timeout_s + _START_S


def _run(command: list[str], environment: dict[str, str], limit_s: float) -> str:
    """Run it to its end in a session of its own, which ends with it; how it ended, where that was not with 0."""
    child = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"was ended after {limit_s:.0f} s"
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
    if child.returncode == 0:
        return ""
    last = [line.strip(" │") for line in said.splitlines() if line.strip(" │╭╮╰╯─")]
    return f"ended with exit code {child.returncode} ({' '.join(last[-4:])[:300]})"
