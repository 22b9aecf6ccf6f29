"""Checks of a sweep's ledger: every line can be read, events are in order, and the sweep has an end or a driver."""

import time
from pathlib import Path
from typing import Any

from launchers.allocation import charge_lost_session
from launchers.doctor.check import Check, Finding, failed, ok, warning
from launchers.events import events
from launchers.halt import Halt, settle
from sweeps.errors import PodiumError
from sweeps.stages import whole_name
from tracking.folders import name_of
from tracking.ledger import FILE_NAME, Ledger, State, SweepState, is_open, read

INTERRUPTED = 130
BACK_S = 1.0  # a clock that is synchronised goes back by less
FIX = "`podium doctor {name} --fix`"
SHOWN = 5  # of many lines or files that are wrong in the same way


def check(folder: Path) -> Check:
    """All of this file, for the ledger in a run folder."""
    return Check("ledger", lambda: look(folder), limit_s=60)


def fix(folder: Path) -> str:
    """The command that mends this sweep, as a way out."""
    return FIX.format(name=name_of(folder))


def few(things: list[str]) -> str:
    """The first of many things, and how many there are besides."""
    return ", ".join(things[:SHOWN]) + (f" and {len(things) - SHOWN} more" if len(things) > SHOWN else "")


def look(folder: Path) -> list[Finding]:
    """Read the ledger twice: line by line, and as the state that all commands see."""
    running = is_open(folder)
    wrong = order(folder)
    findings = [failed(sentence, f"restore {FILE_NAME} from a copy") for sentence in wrong[:SHOWN]]
    if torn(folder) and not running:
        says = f"the last line of {FILE_NAME} is cut off: its writer was ended while it wrote"
        findings.append(warning(says, fix(folder), lambda: _cut(folder)))
    if findings and wrong:
        return findings
    try:
        state = read(folder)
    except (PodiumError, AssertionError, LookupError, TypeError, ValueError) as error:
        return [*findings, failed(f"{FILE_NAME} cannot be read: {error}", f"restore {FILE_NAME} from a copy")]
    return [*findings, _driver(folder, state, running)]


def _driver(folder: Path, state: SweepState, running: bool) -> Finding:
    """A sweep without an end has a driver, which is the one that writes."""
    if running:
        owner = (folder / "lock").read_text(encoding="utf-8", errors="replace").strip() or "a process"
        return ok(f"the sweep is open, and {owner} alone writes it")
    if state.ended is None:
        last = state.sessions[-1] if state.sessions else None
        who = f"process {last.pid} on {last.host}, last heard of {_at(last.last)}," if last else "its driver"
        says = f"the sweep has no end, but {who} is gone"
        way_out = f"`podium resume {whole_name(name_of(folder))}` goes on, or {fix(folder)} closes it"
        return failed(says, way_out, lambda: close(folder))
    trials = len(state.every_trial)
    versions = f", {state.version} versions" if state.version > 1 else ""
    return ok(f"all events are in order: {trials} trials{versions}, {state.status} since {_at(state.ended)}")


def _at(t: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(t))


def torn(folder: Path) -> bool:
    """Whether the last line has no end."""
    with (folder / FILE_NAME).open("rb") as file:
        if not file.seek(0, 2):
            return False
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def order(folder: Path) -> list[str]:
    """Sentences on lines that do not follow from those before them."""
    wrong: list[str] = []
    trials: set[str] = set()
    latest = 0.0
    states = set(State)
    for number, event in events(folder):
        if event is None:
            wrong.append(f"line {number} is no event")
            continue
        kind, at = event["event"], event["t"]
        trial: Any = event.get("trial")
        if number == 1 and kind != "sweep":
            wrong.append(f"line 1 is {kind!r}, and a ledger begins with its sweep")
        if at < latest - BACK_S:
            back = latest - at
            wrong.append(f"line {number} was written {back:.0f} s before the one above it: did two processes write?")
        latest = max(latest, at)
        if kind == "trial":
            trials.add(str(trial))
        elif kind in ("state", "report", "adapter") and trial not in trials:
            wrong.append(f"line {number} is {kind!r} of {trial!r}, and no trial of that id stands above it")
        if kind == "state" and event.get("state") not in states:
            wrong.append(f"line {number} has state {event.get('state')!r}, which is none")
    return wrong


def _cut(folder: Path) -> str:
    with Ledger(folder):  # cuts it off by itself
        return f"cut the torn line off {FILE_NAME}"


def close(folder: Path) -> str:
    """Give a sweep whose driver is gone the end that the driver would have given it on Ctrl-C."""
    with Ledger(folder) as ledger:
        state = ledger.read()
        if state.ended is not None:
            return "the sweep has an end by now"
        charge_lost_session(ledger, state)
        halt = Halt(folder / "inbox")
        halt.stop("INTERRUPTED", "its driver was gone; closed by `podium doctor --fix`")
        settle(ledger, halt)
        heard = {"at": state.sessions[-1].last} if state.sessions else {}
        ledger.append("end", status=halt.status, reason=halt.reason, code=INTERRUPTED, **heard)
    return f"closed the sweep as INTERRUPTED; `podium resume {whole_name(name_of(folder))}` goes on from there"
