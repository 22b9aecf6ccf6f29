"""The errors a user can meet, each with the exit code that the command line ends with.

Everything a user can get wrong is collected as :class:`Problem` and raised together in one :class:`InvalidInput`. What
is our own mistake is an ``assert`` or any other exception, and ends with exit code 1.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it stands, the rule it breaks with the value quoted, and the way out."""

    where: str  # a path into the YAML ("search.trials"), a file name, or a command line argument
    rule: str  # quotes the value: "low must be below high, but got low=0.1, high=0.01"
    hint: str = ""  # the way out: 'did you mean "optimizer.lr"?'
    line: int | None = None  # 1-based line in the file

    def __str__(self) -> str:
        place = f"line {self.line}: {self.where}" if self.line else self.where
        return f"{place}: {self.rule}" + (f" ({self.hint})" if self.hint else "")


class PodiumError(Exception):
    """Any error that is told to the user in a sentence, without a traceback."""

    exit_code = 1


class InvalidInput(PodiumError):
    """What the user wrote cannot be done. Carries every problem that was found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Problem | Iterable[Problem], source: str = "") -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        self.source = source  # the file that the lines belong to
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[Self], tuple[list[Problem], str]]:
        return type(self), (self.problems, self.source)  # a worker's error comes to the driver pickled


class ServiceUnreachable(PodiumError):
    """A service that the user configured does not answer."""

    exit_code = 5


class NoChampion(PodiumError):
    """No trial meets the constraints."""

    exit_code = 6


class VerificationFailed(PodiumError):
    """A bundle is not what its manifest or its certificate says."""

    exit_code = 7


def nearest(name: str, valid: Sequence[str], limit: int = 12) -> str:
    """A hint for a misspelt name: the nearest valid one, or the list of valid names where none is near."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    shown = ", ".join(valid[:limit]) + (", …" if len(valid) > limit else "")
    return f"valid: {shown}"
