"""What an engine is: ``open`` a trial, ``advance`` it from report to report, ``save`` it, ``close`` it.

Every implementation passes the suite in ``tests/contract/``: losses fall, a resumed trial equals the uninterrupted one,
a stopped trial leaves an adapter that plain PEFT loads and that gives the same loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Protocol

from sweeps.errors import PodiumError

LOG_NAME = "engine.log"


class TrainingFailed(PodiumError):
    """A trial's engine failed; trying again may help. The message ends with what the engine last said."""


class Diverged(TrainingFailed):
    """A trial's loss is no longer finite; trying again cannot help."""


@dataclass(frozen=True)
class Report:
    """What a trial says at a report boundary.

    Attributes:
        step: Optimizer steps done.
        metrics: By the design's names: ``train/loss``, ``val/loss``, ``train/lr``, ``train/tokens_per_s``.
        done: The last step is done; ``advance`` must not be called again.
    """

    step: int
    metrics: dict[str, float]
    done: bool


@dataclass(frozen=True)
class Job:
    """What an engine is handed: a trial's settings and where its inputs and outputs lie, all paths absolute.

    Attributes:
        settings: The recipe with the trial's values applied, as in the YAML.
        base: The base model's folder, or its id on the Hugging Face hub.
        train: JSONL of chat rows whose contents are text.
        validation: The same, for ``val/loss``.
        folder: Where the engine may write; ``engine.log`` there holds what it says.
        device: "cpu" or "gpu".
        threads: CPU threads it may use.
        start: The folder of the adapter that the trial starts from, see ``recipe.start``; None for a fresh one.
    """

    settings: dict[str, Any]
    base: str
    train: Path
    validation: Path
    folder: Path
    device: str
    threads: int
    start: Path | None = None

    def fields(self) -> dict[str, Any]:
        """The same as texts and plain values, which travel to workers."""
        values = ((field.name, getattr(self, field.name)) for field in dataclass_fields(self))
        return {name: str(value) if isinstance(value, Path) else value for name, value in values}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Job":
        """The job of these fields."""
        paths = {
            name: Path(fields[name])
            for name in ("train", "validation", "folder", "start")
            if fields.get(name) is not None
        }
        return cls(**{**fields, **paths})


class Session(Protocol):
    """One trial in training. Used by one thread at a time; owned by whoever opened it, who must close it."""

    def advance(self) -> Report:
        """Train up to the next report boundary.

        Raises:
            Diverged: The loss is no longer finite.
            TrainingFailed: The trial cannot go on, e.g. its process died.
        """

    def save(self, folder: Path) -> None:
        """Write the state at the last boundary: ``folder/adapter`` in PEFT format, and all that resuming needs.

        Args:
            folder: Replaced where it is there. It may be renamed afterwards.
        """

    def close(self) -> None:
        """End the trial, wherever it is, and free what it holds. May be called twice."""


class Engine(Protocol):
    """Trains trials."""

    def open(self, job: Job, checkpoint: Path | None) -> Session:
        """Start a trial, or go on from a folder that ``save`` wrote.

        Raises:
            InvalidInput: The trial cannot be trained as asked, e.g. ``lora.targets`` matches no module.
            TrainingFailed: It did not start.
        """
