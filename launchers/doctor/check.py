"""A check: a function that looks at one thing and says in a sentence what it saw, and the way out where it is wrong."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sweeps.errors import InvalidInput, PodiumError, ServiceUnreachable
from tracking.deadline import call_within
from tracking.mlflow_client import told

_log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    MENDED = "mended"


@dataclass(frozen=True)
class Finding:
    """What a check saw.

    Attributes:
        says: One sentence.
        way_out: What the user can do; empty where there is nothing to do.
        unreachable: A service that the user configured does not answer, which has an exit code of its own.
        mend: Puts it right, and says in a sentence what it did; None where that takes the user.
    """

    outcome: Outcome
    says: str
    way_out: str = ""
    unreachable: bool = False
    mend: Callable[[], str] | None = None


def ok(says: str) -> Finding:
    """All is as it must be."""
    return Finding(Outcome.OK, says)


def warning(says: str, way_out: str, mend: Callable[[], str] | None = None) -> Finding:
    """It works, but not as it should."""
    return Finding(Outcome.WARNING, says, way_out, mend=mend)


def failed(says: str, way_out: str, mend: Callable[[], str] | None = None) -> Finding:
    """A sweep would fail, or what a sweep left is not what it should be."""
    return Finding(Outcome.FAILED, says, way_out, mend=mend)


def unreachable(says: str, way_out: str) -> Finding:
    """A service that the user configured does not answer."""
    return Finding(Outcome.FAILED, says, way_out, unreachable=True)


def not_checked(says: str, way_out: str = "") -> Finding:
    """There was nothing to look at, or no way to look."""
    return Finding(Outcome.NOT_CHECKED, says, way_out)


Look = Callable[[], Finding | Sequence[Finding]]


@dataclass(frozen=True)
class Check:
    """A thing to look at. ``look`` may raise and may hang: ``run`` makes a finding of either.

    Attributes:
        limit_s: Wall-clock seconds after which the check is given up.
        service: It asks a service that the user configured, so that no answer means "unreachable".
    """

    name: str
    look: Look
    limit_s: float = 10.0
    service: bool = False


@dataclass(frozen=True)
class Checked:
    """A check's name with one of its findings."""

    check: str
    finding: Finding

    def to_dict(self) -> dict[str, str | bool | None]:
        """Plain values for JSON."""
        finding = self.finding
        return {
            "check": self.check,
            "outcome": str(finding.outcome),
            "says": finding.says,
            "way_out": finding.way_out or None,
            "mendable": finding.mend is not None,
        }


def run(checks: Iterable[Check], begin: Callable[[str], None] = lambda name: None) -> Iterator[Checked]:
    """Every finding of every check, in order. Never raises, and never takes longer than the checks' limits."""
    for check in checks:
        begin(check.name)
        for finding in _look(check):
            yield Checked(check.name, finding)


def _look(check: Check) -> Sequence[Finding]:
    wrong = unreachable if check.service else failed
    try:
        found = call_within(check.limit_s, check.look)
    except TimeoutError as error:
        return [wrong(f"gave no answer: {told(error)}", "see what holds it up, and try again")]
    except ServiceUnreachable as error:
        return [unreachable(str(error), "start it, or correct its address")]
    except InvalidInput as error:
        return [failed(f"{problem.where}: {problem.rule}", problem.hint) for problem in error.problems]
    except PodiumError as error:
        return [failed(str(error), "correct it, and try again")]
    except Exception as error:  # a check that breaks is itself a finding, and the other checks go on
        _log.debug("check %s failed", check.name, exc_info=True)
        return [wrong(f"could not be checked: {type(error).__name__}: {told(error)}", "try again, or report it")]
    return [found] if isinstance(found, Finding) else found


def mend(one: Checked) -> Checked:
    """Put a finding right; what cannot be is a finding again. Never raises."""
    assert one.finding.mend is not None
    try:
        return Checked(one.check, Finding(Outcome.MENDED, one.finding.mend()))
    except Exception as error:  # as in a check: the others are mended all the same
        _log.debug("mending %s failed", one.check, exc_info=True)
        return Checked(one.check, failed(f"could not be mended: {told(error)}", one.finding.way_out))


def exit_code(checked: Iterable[Checked]) -> int:
    """0 when nothing failed, 5 when a configured service cannot be reached, 1 otherwise."""
    wrong = [one.finding for one in checked if one.finding.outcome is Outcome.FAILED]
    if any(finding.unreachable for finding in wrong):
        return ServiceUnreachable.exit_code
    return 1 if wrong else 0
