"""Checks of what a sweep uses beside itself: Ray, AIPerf, and the dashboard's port."""

import email.utils
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from launchers import pools
from launchers.doctor.check import Check, Finding, failed, not_checked, ok, unreachable, warning
from tracking.meters.latency.aiperf import INSTALL, VERSION, find_aiperf

CONNECT_S = 3.0
RAY_LIMIT_S = 90.0
SKEW_WARNING_S, SKEW_FAILED_S = 30.0, 15 * 60.0  # S3 refuses requests that are 15 minutes off
AIPERF_LIMIT_S = 60.0
DASHBOARD_PORT = 5000


def ray_check() -> Check:
    """Ray starts here and runs a task, or the cluster at ``$RAY_ADDRESS`` does."""
    return Check("Ray", ray, limit_s=RAY_LIMIT_S + 15, service=bool(os.environ.get("RAY_ADDRESS")))


def ray() -> list[Finding]:
    """Reach Ray as a sweep would, and compare its nodes with the pools."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address and not answers(address):
        rule = f"RAY_ADDRESS={address} does not answer within {CONNECT_S:g} s"
        return [unreachable(rule, "start the cluster, or unset RAY_ADDRESS to run on this machine")]
    code, out, error = _run([sys.executable, "-m", "launchers.doctor.ray_probe"], RAY_LIMIT_S)
    where = f"the cluster at {address}" if address else "Ray on this machine"
    if code != 0:
        last = (error.strip().splitlines() or [f"exit code {code}"])[-1]
        last = f"no answer within {RAY_LIMIT_S:g} s" if code is None else last
        wrong = unreachable if address else failed
        return [wrong(f"{where} cannot be used: {last}", "`ray status` and the logs under /tmp/ray may say why")]
    told = json.loads(out.strip().splitlines()[-1])
    nodes = [node for node in told["nodes"] if node["Alive"]]
    cores = sum(node["Resources"].get("CPU", 0) for node in nodes)
    many = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
    return [ok(f"{where} (Ray {told['ray']}) ran a task: {many}, {cores:g} cores"), *accelerators(nodes)]


def accelerators(nodes: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """The GPUs of a cluster against the pools: which have machines, and which GPUs belong to no pool."""
    with_gpus = [dict(node) for node in nodes if node["Resources"].get("GPU")]
    gpus = sum(node["Resources"]["GPU"] for node in with_gpus)
    if not gpus:
        return []
    known = [pool for pool in pools.load_pools(Path("pools")).values() if pool.device == "gpu"]
    have = {pool.name: pools.units(pool, with_gpus) for pool in known}
    found = ", ".join(f"{name} {count}" for name, count in have.items() if count)
    lost = gpus - sum(have.values())
    if lost > 0:
        types = sorted({_type_of(node) for node in with_gpus if not any(pools.units(pool, [node]) for pool in known)})
        rule = f"{lost:g} of {gpus:g} GPUs belong to no pool: their nodes have {', '.join(types)}"
        way_out = f"label the nodes with {pools.LABEL}, or describe them in a pool's file (docs/pools.md)"
        return [warning(rule, way_out)]
    return [ok(f"GPUs by pool: {found}")]


def _type_of(node: Mapping[str, Any]) -> str:
    label = (node.get("Labels") or {}).get(pools.LABEL)
    return f"{pools.LABEL}={label}" if label else f"no label {pools.LABEL}"


def aiperf_check() -> Check:
    """AIPerf is here in the version whose records Podium reads. Without it endpoints are timed one by one."""
    return Check("AIPerf", aiperf, limit_s=AIPERF_LIMIT_S + 5)


def aiperf() -> Finding:
    """The program that ``evaluate.latency.rate`` needs; not having it is no failure."""
    program = find_aiperf()
    if program is None:
        return not_checked("no AIPerf: endpoints are timed one request at a time", INSTALL)
    code, out, error = _run([str(program), "--version"], AIPERF_LIMIT_S)
    if code != 0:
        last = ((error or out).strip().splitlines() or [f"exit code {code}"])[-1]
        return failed(f"{program} cannot be run: {last}", INSTALL)
    found = (out.strip().splitlines() or [""])[-1]
    if found != VERSION:
        return warning(f"{program} is version {found or 'unknown'}, and Podium reads the records of {VERSION}", INSTALL)
    return ok(f"AIPerf {found}, {program}")


def answers(address: str) -> bool:
    """Whether something listens at ``host:port``, with or without a scheme. An address without a port is let pass."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname is None or parts.port is None:
        return True
    try:
        socket.create_connection((parts.hostname, parts.port), CONNECT_S).close()
    except OSError:
        return False
    return True


def _run(command: list[str], limit_s: float) -> tuple[int | None, str, str]:
    """Exit code (None when it was ended at the limit), stdout and stderr of a process and all that it started."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        out, error = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return None, "", ""
    return child.returncode, out, error


def skew(url: str, name: str) -> Finding:
    """This machine's clock against the ``Date`` header of a server."""
    request = urllib.request.Request(url, method="HEAD")
    before = time.time()
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_S) as response:
            date = response.headers.get("Date")
    except urllib.error.HTTPError as error:  # an error is an answer too, and has a date
        date = error.headers.get("Date")
    except OSError:
        return not_checked(f"the clock was not compared with {name}: it does not answer")
    sent = email.utils.parsedate_to_datetime(date).timestamp() if date else None
    if sent is None:
        return not_checked(f"the clock was not compared with {name}: its answers have no Date")
    # The header has whole seconds, and stands for a moment between question and answer.
    apart = max(0.0, before - sent - 1, sent - time.time())
    synchronise = "let both machines' time be synchronised (chrony, systemd-timesyncd)"
    if apart > SKEW_FAILED_S:
        return failed(f"the clock is {apart / 60:.0f} min apart from that of {name}", synchronise)
    if apart > SKEW_WARNING_S:
        return warning(f"the clock is {apart:.0f} s apart from that of {name}", synchronise)
    return ok(f"the clock agrees with that of {name}")


def port_check() -> Check:
    """The dashboard's port is free, or who has it."""
    return Check("dashboard port", port)


def port() -> Finding:
    """Port 5000 of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DASHBOARD_PORT))
            return ok(f"port {DASHBOARD_PORT} is free")
        except OSError:
            pass
    who = f"port {DASHBOARD_PORT} is in use by {holder(DASHBOARD_PORT) or 'a process of another user'}"
    if _is_mlflow(f"http://127.0.0.1:{DASHBOARD_PORT}"):
        return ok(f"{who}; MLflow answers there")
    return warning(who, f"`podium dashboard --port {DASHBOARD_PORT + 1}`")


def holder(number: int) -> str | None:
    """The process that listens on a TCP port of this machine, by pid and command; None where that cannot be seen."""
    import psutil

    for process in psutil.process_iter():
        try:
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == number:
                    return f"{' '.join(process.cmdline()[:4])} (pid {process.pid})"
        except psutil.Error:  # gone, or another user's
            continue
    return None


def _is_mlflow(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/version", timeout=CONNECT_S) as response:
            return bool(response.status == 200 and response.read(20)[:1].isdigit())
    except (OSError, ValueError):
        return False
