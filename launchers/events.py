"""A ledger's lines one by one, for whoever asks more than the state of the sweep: in which order, and what was once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracking.ledger import FILE_NAME


def events(folder: Path, kind: str | None = None) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Number (from 1) and event of every whole line; None for a line that is no event. A torn last line is left out.

    Args:
        kind: Only events of this kind. Lines that cannot be of it are not even parsed.
    """
    mark = f'"event": "{kind}"'.encode() if kind else b""
    with (folder / FILE_NAME).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") or mark not in line:
                continue
            event = _event(line)
            if kind is None or (event is not None and event["event"] == kind):
                yield number, event


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event and "t" in event else None
