"""A line for each request that a server answered, to hold a load generator's figures against."""

import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class RequestLog:
    """A JSONL file that grows. Safe to use from several threads.

    Each line has ``id``, ``model``, ``arrival`` (epoch seconds), ``first_token_s`` (from then to the first token:
    waiting, and computing the prompt), ``total_s`` (from then to the last token), ``prompt_tokens``, ``cached_tokens``
    (of the prompt, not computed again), ``completion_tokens``, ``stream``, ``guided``, ``finish_reason`` and
    ``status``: that of HTTP, or 499 where the client went away. What there was none of is null.

    Args:
        path: Its folder is made; what is in the file stays. None keeps no log.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """One line, on the disk's way before the next request is answered."""
        if self._file is not None:
            line = json.dumps(record, allow_nan=False)
            with self._lock:
                self._file.write(line + "\n")
                self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
