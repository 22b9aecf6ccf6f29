"""How likely the start finds every answer of a file: computed once for all trials of a sweep, and kept beside the file.

A preference loss compares with the adapter that a trial starts from, or with the base where it starts afresh. Neither
changes while trials train, so each answer's log-probability is computed once. The file that keeps them is named by
everything that they follow from: base, start, rows and chat template.
"""

import fcntl
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from recipes import adapters, bases
from recipes.engines.packed.chunk import Chunk
from recipes.engines.packed.decode import load_adapter
from recipes.engines.packed.network import Network
from recipes.engines.packed.rows import Row
from recipes.engines.protocol import Diverged
from recipes.files import sha256_of, write_whole

FOLDER = "reference"  # beside the rows
FORMAT = 1  # of the file; another number where what it means has changed
TOKENS = 2048  # of one forward pass
WAIT_S = 0.2


class Reference:
    """Log-probabilities by a start, for one file of rows after the other. Used by one thread.

    Args:
        beat: Called while work or waiting goes on, so that whoever watches knows.
    """

    def __init__(self, network: Network, beat: Callable[[], None]) -> None:
        self._network, self._beat = network, beat
        self._known: dict[str, tuple[float, ...]] = {}

    def of(
        self, path: Path, rows: Sequence[Row], start: Path | None, say: Callable[[str], None] = lambda words: None
    ) -> tuple[float, ...]:
        """The log-probability of each row's targets in nats, in the order of the rows.

        Several processes that ask for the same ones at once wait for the first of them.

        Args:
            path: The file of the rows.
            start: The adapter's folder; None for the base alone.
            say: Is told where they are from.

        Raises:
            Diverged: One is not finite: every loss that compares with it would not be either. Nothing is kept.
        """
        key = self._key(path, start)
        if key not in self._known:
            kept = path.parent / FOLDER / f"{key[:32]}.json"
            with _one_at_a_time(kept.with_suffix(".lock"), self._beat):
                found, began = _read(kept, len(rows)), time.perf_counter()
                values = found or self._computed(rows, start)
                if not all(map(math.isfinite, values)):
                    raise _not_finite(path, values, start)
                self._known[key] = values
                if found is None:
                    _keep(kept, values)
            how = "kept from before" if found else f"computed in {time.perf_counter() - began:.1f} s"
            by = "the base" if start is None else "the start"
            say(f"log-probabilities of the {len(rows)} answers in {path.name} by {by}: {how}")
        return self._known[key]

    def _key(self, path: Path, start: Path | None) -> str:
        network = self._network
        content = {
            "format": FORMAT,
            "base": bases.identity(network.base.model_copy(update={"path": network.path}), Path()),
            "dtype": network.base.dtype,
            "quantize": network.base.quantize,
            "start": None if start is None else adapters.identity(start),
            "rows": sha256_of(path),
            "template": network.tokenizer.chat_template,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _computed(self, rows: Sequence[Row], start: Path | None) -> tuple[float, ...]:
        chunk = Chunk(self._network, [load_adapter(self._network, start)], training=False)
        found = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda place: rows[place].ids)  # in which most is shared
        for places, batch in self._network.passes(rows, [[place] for place in order], TOKENS):
            nats = chunk.nats([batch], [batch.layout.counts])[0].tolist()
            for place, one in zip(places, nats, strict=True):
                found[place] = -one
            self._beat()
        return tuple(found)


def _not_finite(path: Path, values: Sequence[float], start: Path | None) -> Diverged:
    at = [place for place, value in enumerate(values) if not math.isfinite(value)]
    who = "the base" if start is None else f"the start ({start})"
    told = f"{who} gives {len(at)} of the {len(values)} answers in {path.name} no finite log-probability"
    return Diverged(f"{told}, the first {values[at[0]]}: look for NaN in its weights, or set base.dtype: float32")


@contextmanager
def _one_at_a_time(path: Path, beat: Callable[[], None]) -> Iterator[None]:
    """Wait for others who hold this lock; where the disk knows none, or cannot be written, everybody goes on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):
            while not _locks(file.fileno()):
                beat()
                time.sleep(WAIT_S)
        yield


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path, number: int) -> tuple[float, ...] | None:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not (isinstance(kept, list) and len(kept) == number and all(map(math.isfinite, kept))):
        return None
    return tuple(kept)


def _keep(path: Path, values: Sequence[float]) -> None:
    with suppress(OSError):  # the next one computes them again
        write_whole(path, [json.dumps(values)])
