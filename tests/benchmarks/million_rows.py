"""A million rows through ``podium data check`` and ``podium data split``: time, rows a second, peak of memory.

Both run as a user runs them, as processes of their own; memory is the sum over them and the processes that they start,
read five times a second. How it grows with the rows is read off a tenth of the file and all of it. CPU seconds are told
beside the seconds on the wall, which depend on what else the machine does.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.data.links import BYTES_A_ROW
from recipes.data.signatures import BYTES_A_ROW as BYTES_ON_DISK
from tests.benchmarks.report import ROOT, report

NUM_ROWS = 1_000_000
EVERY_S = 0.2
SYSTEM = (
    "You are the clerk of a shop for tools, furniture and clothes. Answer the customer's latest question in one short "
    "sentence, and name the department that goes on with it. Answer with JSON alone: the keys department and reply."
)
CLOSING = "Answer with the JSON object and nothing else."
DEPARTMENTS = ("returns", "repairs", "orders", "advice", "complaints", "invoices")
TEMPLATES = 400
WORDS = 30_000


def vocabulary(rng: random.Random) -> tuple[list[str], list[float]]:
    """Words that look like words, and how often they are used, as in a language (Zipf)."""
    syllables = [first + second for first in "bdfgklmnprstvw" for second in "aeiou"]
    words = sorted({"".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(WORDS)})
    rng.shuffle(words)
    total, sums = 0.0, []
    for rank in range(1, len(words) + 1):
        total += 1 / (rank + 20)
        sums.append(total)
    return words, sums


def rows(num_rows: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of a help desk: 8 % from templates, 2 % nearly the same as another, 1 % repeated, 5 % later turns."""
    rng = random.Random(seed)
    words, sums = vocabulary(rng)
    templates = [rng.choices(words, cum_weights=sums, k=rng.randint(14, 24)) for _ in range(TEMPLATES)]
    recent: list[list[str]] = []
    last: dict[str, Any] = {}
    for number in range(num_rows):
        kind = rng.random()
        if kind < 0.01 and last:
            yield last
            continue
        if kind < 0.09:
            asked = list(rng.choice(templates))
            for place in (3, 8, 13):
                asked[place] = str(rng.randrange(10**6))
        elif kind < 0.11 and recent:
            asked = list(rng.choice(recent))
            asked[rng.randrange(len(asked))] = rng.choice(words)
        else:
            asked = rng.choices(words, cum_weights=sums, k=rng.randint(18, 50))
            recent = [*recent[-200:], asked]
        question = f"{' '.join(asked).capitalize()}?\n{CLOSING}"
        reply = {"department": rng.choice(DEPARTMENTS), "reply": " ".join(asked[2:8]).capitalize() + "."}
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        if kind > 0.95 and last:
            messages = [*last["messages"], {"role": "user", "content": question}]
        answer = json.dumps(reply, separators=(",", ":"))
        row = {"messages": [*messages, {"role": "assistant", "content": answer}], "id": number}
        if kind <= 0.95:
            last = row
        yield row


def write(path: Path, num_rows: int) -> None:
    """The rows as JSONL."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows(num_rows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def measured(home: Path, *arguments: str) -> tuple[float, float, float, str]:
    """Seconds on the wall, CPU seconds and peak MiB of a command, and what it printed."""
    environment = {**os.environ, "PODIUM_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "launchers.cli", *arguments]
    began, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(command, stdout=out, stderr=messages, env=environment)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)  # with what its own processes used
            if pid:
                break
            peak = max(peak, _memory(process.pid))
            time.sleep(EVERY_S)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        out.seek(0)
        messages.seek(0)
        assert process.returncode == 0, messages.read()
        return seconds, usage.ru_utime + usage.ru_stime, peak / 2**20, out.read()


def _memory(pid: int) -> int:
    """Bytes of a process and all that it started."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:  # it ended meanwhile
        pass
    return total


def run(num_rows: int = NUM_ROWS) -> None:
    """Measure, and write ``results/million_rows.md``."""
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="podium-million-") as scratch:
        folder = Path(scratch)
        for count in (num_rows // 10, num_rows):
            path = folder / f"{count}.jsonl"
            write(path, count)
            for name, more in (("check", ()), ("split", ("--to", str(folder / f"split-{count}")))):
                found = measured(folder / "home", "data", name, str(path), *more, "-o", "json")
                table.append(line_of(name, count, path.stat().st_size, *found[:3]))
                print(" · ".join(f"{key} {value}" for key, value in table[-1].items()), flush=True)
            path.unlink()
    tell(table, json.loads(found[3]))


def line_of(name: str, count: int, num_bytes: int, seconds: float, cpu: float, peak: float) -> dict[str, Any]:
    """One line of the table."""
    return {
        "command": f"podium data {name}",
        "rows": count,
        "MB": round(num_bytes / 1e6),
        "s": seconds,
        "rows/s": count / seconds,
        "CPU s": cpu,
        "rows/CPU s": count / cpu,
        "peak MiB": peak,
    }


def tell(table: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Write ``results/million_rows.md``; ``record`` is that of the largest split."""
    growth = {}
    for name in dict.fromkeys(line["command"] for line in table):
        few, *_, many = [line for line in table if line["command"] == name]
        grown = (many["peak MiB"] - few["peak MiB"]) * 2**20 / (many["rows"] - few["rows"])
        growth[f"{name}: bytes a row, by the growth of the peak"] = grown
    conditions = {
        "rows are": "a help desk's, generated: 8% from 400 templates, 2% near copies, 1% repeated, 5% later turns",
        "memory": "of all processes together, read 5 times a second; pages that they share are counted in each",
        "bytes a row, by design": f"{BYTES_A_ROW} in memory, beside links, and {BYTES_ON_DISK} on the disk",
        **growth,
        "achieved shares": " · ".join(f"{side} {share:.4f}" for side, share in record["achieved"].items()),
        "components": record["components"]["num"],
        "largest component": record["components"]["largest"],
        "links": " · ".join(f"{kind} {count:,}" for kind, count in record["groups"]["links"].items()),
        "largest similarity across sides": record["across"]["similarity"] if record["across"] else None,
    }
    report("million_rows", table, conditions)


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else NUM_ROWS)
