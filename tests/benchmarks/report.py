"""Reports of benchmarks: what was measured, under which conditions, on which machine, with which code.

``results/NAME.json`` holds every single measurement, ``results/NAME.md`` the same as a table for people.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[2]
NOT_CODE = f":(exclude){RESULTS.relative_to(ROOT)}"  # results that were just written make no checkout dirty
PACKAGES = ("torch", "transformers", "peft")


def alternate(*functions: Callable[[], object], repeats: int, wall: bool = False) -> list[list[float]]:
    """Run functions in turns, so that what else the machine does meets all of them alike.

    Args:
        repeats: How often each is run.
        wall: Measure wall seconds, as for a GPU, which the functions must wait for; else this process's CPU seconds.

    Returns:
        Seconds of each run, by function.
    """
    clock = time.perf_counter if wall else time.process_time
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for place, function in enumerate(functions):
            began = clock()
            function()
            seconds[place].append(clock() - began)
    return seconds


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """How many times faster, turn by turn of ``alternate``."""
    return [one / other for one, other in zip(slower, faster, strict=True)]


def report(name: str, rows: list[dict[str, Any]], conditions: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write ``NAME.json`` and ``NAME.md``.

    Args:
        rows: Of the table, with like keys. A list of numbers is several measurements of one quantity: the table shows
            their median with the lowest and the highest. None is what was not measured.
        conditions: What must be known to read the rows, or to measure again.
        folder: Made where it is not there.
    """
    about = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), **_code(), **_machine()}
    folder.mkdir(parents=True, exist_ok=True)
    content = {"name": name, "rows": rows, "conditions": conditions, "measured": about}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    lines = [f"# {name}", "", *table(rows), ""]
    lines += [f"- {key}: {_cell(value)}" for key, value in {**conditions, **about}.items()]
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as lines of a Markdown table; a column for each key, in the order in which they first occur."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    are_words = [any(isinstance(row.get(column), str) for row in rows) for column in columns]
    marks = ["-" if words else "-:" for words in are_words]
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(marks)}|"]
    return lines + [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list) and value and all(isinstance(one, int | float) for one in value):
        middle = _cell(statistics.median(value))
        return middle if len(value) == 1 else f"{middle} ({_cell(min(value))}–{_cell(max(value))})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", "\\|")


def _code() -> dict[str, Any]:
    head, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "-uno", "--", ".", NOT_CODE)
    return {
        "commit": os.environ.get("PODIUM_COMMIT") or head,  # said by hand where the code was copied, not cloned
        "dirty": None if changes is None or "PODIUM_COMMIT" in os.environ else bool(changes),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in PACKAGES},
    }


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None outside of one."""
    try:
        said = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() if said.returncode == 0 else None


def _machine() -> dict[str, Any]:
    import torch

    available = torch.cuda.is_available()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if available else None,
        "gpus": torch.cuda.device_count() if available else 0,
        "cuda": torch.version.cuda,
    }


def _cpu() -> str:
    """The model as Linux tells it, and the kind of processor elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()
