"""Replies that were paid for, on disk: an append-only JSONL file, for many threads and processes.

A reply is appended, under the file's lock, and on the disk before anyone uses it, so an evaluation that is killed
pays for none twice. A line that is cut short, at the end or within, is skipped: what it held is asked for again.
"""

import fcntl
import hashlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_START = b'{"key": "'  # of each record: a quote within a JSON string is escaped, so this stands nowhere else


class ReplyCache:
    """Records by key. Safe to use from several threads, and the file from several processes.

    Args:
        path: The file, made when the first record comes; None keeps records in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._records: dict[str, dict[str, Any]] = {}
        self._read = 0  # bytes of the file that were read, up to the end of a line
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key, also where another process has just written it."""
        with self._lock:
            if key not in self._records:
                self._read_on()
            return self._records.get(key)

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep a record: on the disk when this returns. A disk that refuses is told of once; it still counts."""
        line = json.dumps({"key": key, **record, "sha": _sha(key, record)}).encode() + b"\n"
        with self._lock:
            self._records[key] = record
            if self._path is None:
                return
            try:
                self._append(line)
            except OSError as error:
                why = error.strerror or error
                self._tell(f"{self._path}: verdicts cannot be kept, so they may have to be paid for again: {why}")

    def _append(self, line: bytes) -> None:
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                line = b"\n" + line  # a writer died within its line: what it left stays a line of its own
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _read_on(self) -> None:
        """Read what was appended since; a line that has no end yet is left for the next time."""
        if self._path is None:
            return
        try:
            size = self._path.stat().st_size
            if size == self._read:
                return
            if size < self._read:  # somebody has put another file there
                self._read = 0
            with self._path.open("rb") as file:
                file.seek(self._read)
                block = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            self._tell(f"{self._path}: verdicts that were kept cannot be read: {error.strerror or error}")
            return
        whole = block[: block.rfind(b"\n") + 1]
        self._read += len(whole)
        torn = 0
        for line in whole.splitlines():
            found = _parse(line)
            torn += found is None or not line.startswith(_START)
            if found is not None:
                self._records[found[0]] = found[1]
        if torn:
            self._tell(f"{self._path}: lines that were cut short are skipped, and their verdicts asked for again")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            _log.warning("%s", text)


def _parse(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """Key and record of a line, or of the end of one that was run into another; None where it is not as it was written.

    What is cut out of a line can leave JSON behind, hence the checksum.
    """
    start = line.rfind(_START)
    try:
        record = json.loads(line[start:]) if start >= 0 else {}
        key, sha = record.pop("key"), record.pop("sha")
    except (ValueError, LookupError):
        return None
    return (key, record) if sha == _sha(key, record) else None


def _sha(key: str, record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([key, record]).encode()).hexdigest()[:16]
