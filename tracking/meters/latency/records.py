"""AIPerf's record of each request, read as times. Its format is that of the pinned version."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "profile_export.jsonl"
COUNTED = "profiling"  # the phase whose requests count; those of the warm-up stand in the same file
_NS = 1e9


@dataclass(frozen=True)
class Record:
    """One request.

    Attributes:
        arrived: When it was due, epoch seconds: AIPerf's schedule let it go then, whether or not it was sent at once.
        sent: When it was sent.
        ended: When its answer was whole, or its error came.
        ttft_s: Seconds from ``arrived`` to the first token; None where none came.
        error: Why it has no answer; None where it has one.
    """

    arrived: float
    sent: float
    ended: float
    ttft_s: float | None
    error: str | None

    @property
    def seconds(self) -> float | None:
        """From its arrival to its whole answer; None without one.

        From the arrival, not from the sending: what waited because the load generator was held up counts as waiting
        (Tene's coordinated omission). AIPerf's own ``request_latency`` begins with the sending and ends with the last
        token, before the stream does.
        """
        return None if self.error is not None else self.ended - self.arrived


def read_records(folder: Path) -> list[Record]:
    """The requests that count, by their arrival. A torn last line, as a killed AIPerf leaves it, is left out."""
    path = folder / FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        return sorted(_records(file), key=lambda record: record.arrived)


def _records(lines: Any) -> Iterator[Record]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        about, error = row["metadata"], row.get("error")
        if about["benchmark_phase"] != COUNTED:
            continue
        arrived, sent = about["credit_issued_ns"] / _NS, about["request_start_ns"] / _NS
        first = row.get("metrics", {}).get("time_to_first_token")
        ttft_s = sent - arrived + first["value"] / 1000 if first and not error else None
        told = _told(error) if error else "was cancelled" if about["was_cancelled"] else None
        yield Record(arrived, sent, about["request_end_ns"] / _NS, ttft_s, told)


def _told(error: dict[str, Any]) -> str:
    """An error without what differs between two of its kind."""
    cause = str(error.get("cause") or error.get("message") or error.get("type"))
    return " ".join(cause.split())[:200]
