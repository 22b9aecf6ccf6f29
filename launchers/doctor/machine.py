"""Checks of this machine: Python, installed packages, processors, memory, GPUs."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from launchers.cluster import num_cores
from launchers.disk import human
from launchers.doctor.check import Check, Finding, failed, not_checked, ok, warning

ROOT = Path(__file__).resolve().parents[2]
INSTALL = "`make test` installs what is pinned, or `pip install -c constraints.txt -e .`"
MIN_MEMORY = 4 * 2**30  # bytes; a driver, a trainer and an evaluation of the demo take about 3 GB together
NVIDIA_LIMIT_S = 15.0
TORCH_LIMIT_S = 60.0


def checks() -> list[Check]:
    """All of this group."""
    return [
        Check("Python", python),
        Check("packages", packages),
        Check("processor and memory", processor),
        Check("GPU", gpu, limit_s=NVIDIA_LIMIT_S + TORCH_LIMIT_S + 5),
    ]


def python() -> Finding:
    """The interpreter is one that Podium supports."""
    from packaging.specifiers import SpecifierSet

    here = ".".join(map(str, sys.version_info[:3]))
    try:
        wanted = metadata("podium")["Requires-Python"]
    except PackageNotFoundError:
        return failed(f"Python {here}; Podium itself is not installed in {sys.prefix}", INSTALL)
    if here in SpecifierSet(wanted):
        return ok(f"Python {here}, {sys.executable}")
    return failed(f"Python {here} is outside of {wanted}, which Podium needs", "`make PYTHON=python3.11 test`")


def packages() -> list[Finding]:
    """Every package that Podium declares is installed in an allowed version; in a checkout, in the pinned one."""
    declared = requires("podium") or []
    wrong = mismatches(line for line in declared if "extra ==" not in line)
    findings = [failed(f"{text}, which Podium needs", INSTALL) for text in wrong]
    pins = ROOT / "constraints.txt"
    if not pins.is_file():
        return findings or [ok(f"{len(declared)} packages are in the versions that Podium declares")]
    lines = [line for line in pins.read_text(encoding="utf-8").splitlines() if re.match(r"\w", line)]
    findings += [
        warning(f"{text}, which {pins.name} pins and the tests ran with", INSTALL)
        for text in mismatches(lines, missing_too=False)
        if not any(text.split(" ", 1)[0] == other.split(" ", 1)[0] for other in wrong)
    ]
    return findings or [ok(f"all packages are in the versions that pyproject.toml declares and {pins.name} pins")]


def mismatches(requirements: Iterable[str], missing_too: bool = True) -> list[str]:
    """For every requirement that is not met on this machine, what is there instead: "ray 2.9.0 is not ray>=2.60"."""
    from packaging.requirements import Requirement

    found = []
    for line in requirements:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            here = version(wanted.name)
        except PackageNotFoundError:
            if missing_too:
                found.append(f"{wanted.name} is not installed, but {wanted.name}{wanted.specifier}")
            continue
        if not wanted.specifier.contains(here, prereleases=True):
            found.append(f"{wanted.name} {here} is installed, not {wanted.name}{wanted.specifier}")
    return found


def processor() -> Finding:
    """Cores that Podium may use, and memory that is free, within the container's limit."""
    total, available = memory()
    cores, of = num_cores(), os.cpu_count() or 1
    says = f"{cores} of {of} cores may be used; {human(available)} of {human(total)} memory is available"
    if available < MIN_MEMORY:
        return warning(f"{says}, and a trial beside an evaluation takes about 3 GB", "end what else runs here")
    return ok(says)


def memory() -> tuple[int, int]:
    """Total and available memory in bytes: the machine's, or the container's where that is less."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    fields = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    total, available = fields["MemTotal"], fields["MemAvailable"]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit() and int(text) < total:
        used = int(limit.with_name("memory.current").read_text())
        total, available = int(text), min(available, int(text) - used)
    return total, available


def gpu() -> list[Finding]:
    """GPUs by their driver and by torch, each in a process of its own. No GPU is no failure."""
    driver = by_driver()
    seen = by_torch()
    if isinstance(seen, Finding):
        return [seen]
    if not driver and not seen.count:
        return [ok("no GPU: trials run on this machine's cores, or on a cluster's GPUs")]
    names = ", ".join(driver) or f"{seen.count} GPUs"
    if not seen.cuda:
        rule = f"{names}; but this torch ({seen.version}) is built without CUDA"
        return [warning(rule, "install torch's CUDA build to train here")]
    if seen.count < len(driver):
        rule = f"the driver shows {names}, and torch can use {seen.count}: {seen.error or 'CUDA_VISIBLE_DEVICES?'}"
        return [warning(rule, "see whether the driver is as new as torch's CUDA, and CUDA_VISIBLE_DEVICES")]
    return [ok(f"{names}; torch {seen.version} with CUDA {seen.cuda} can use {seen.count}")]


def by_driver() -> list[str]:
    """A line for each GPU that ``nvidia-smi`` shows: name, memory, driver version."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run([tool, *query], capture_output=True, text=True, timeout=NVIDIA_LIMIT_S, check=False)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


_TORCH = """
import json, torch
error = None
try:
    torch.cuda.init() if torch.version.cuda else None
except Exception as problem:
    error = str(problem).splitlines()[0]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "count": torch.cuda.device_count(),
                  "error": error}))
"""


@dataclass(frozen=True)
class Torch:
    """What torch says of itself: the GPUs that it can use, and why it can use none."""

    version: str
    cuda: str | None
    count: int
    error: str | None


def by_torch() -> Torch | Finding:
    """What torch says, in a process of its own: importing it takes seconds, and a broken driver can take it down."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TORCH], capture_output=True, text=True, timeout=TORCH_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return not_checked(f"torch did not start within {TORCH_LIMIT_S:g} s", "try again when the machine is less busy")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return failed(f"torch cannot be imported: {last}", INSTALL)
    return Torch(**json.loads(done.stdout.strip().splitlines()[-1]))
