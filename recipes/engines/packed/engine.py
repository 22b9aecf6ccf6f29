"""The ``packed`` engine behind the protocol of all engines: trials of one base share a pack in this process."""

from functools import cache
from pathlib import Path

from recipes.engines.packed.network import Network
from recipes.engines.packed.pack import Pack
from recipes.engines.protocol import Diverged, Job, Report, Session
from recipes.schema import Recipe


class PackedEngine:
    """Trains the trials that are open at the same time together. Used by one thread."""

    def open(self, job: Job, checkpoint: Path | None) -> Session:
        """See :class:`recipes.engines.protocol.Engine`."""
        base = Recipe.model_validate(job.settings).base.model_dump_json()
        pack = _pack(job.base, base, job.device)
        return PackedSession(pack, pack.admit(job, checkpoint))


@cache
def _pack(path: str, base: str, device: str) -> Pack:
    from recipes.schema import Base

    return Pack(Network(path, Base.model_validate_json(base), device))


class PackedSession:
    """One trial of a pack."""

    def __init__(self, pack: Pack, number: int) -> None:
        self._pack, self._number = pack, number

    def advance(self) -> Report:
        """See :class:`recipes.engines.protocol.Session`. The others advance with it, as far as they were asked to."""
        trial = self._pack.trials[self._number]
        self._pack.ask(self._number)
        while trial.outcome is None:
            self._pack.round()
        if isinstance(trial.outcome, Diverged):
            raise trial.outcome
        return trial.outcome

    def save(self, folder: Path) -> None:
        """See :class:`recipes.engines.protocol.Session`."""
        self._pack.save(self._number, folder)

    def close(self) -> None:
        """See :class:`recipes.engines.protocol.Session`."""
        self._pack.retire(self._number)
