"""Running a staged sweep: its stages in their order, each from wherever its ledger stands.

A lock of the whole decides who walks; who does not get it follows the stage that runs. A stage that is finished and
unchanged is passed over, so that a changed later stage repeats nothing of those before it.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from analysis.stages import stages_named
from launchers import home
from launchers.build import Built
from launchers.halt import clear
from launchers.join import follow
from launchers.output import say
from launchers.run_folder import exists, what_changed, writable_folder
from launchers.session import ORDER
from launchers.staging import WAY_OUT, Stages, build_stages
from launchers.submit import check_services, is_finished, num_failed, run
from recipes.files import write_whole
from sweeps.errors import InvalidInput, Problem
from tracking.folders import STAGES, WHOLE, whole_of
from tracking.ledger import SweepState, is_open, read, take_lock

YAML = "sweep.yaml"
HELD = ("PAUSED", "INTERRUPTED", "FAILED")  # after which no later stage runs
NO_CHAMPION = 6
LOOK_S = 0.3


def walk(stages: Stages, *, retry: bool = False) -> tuple[SweepState, int]:
    """Run what is left of every stage; return the state of the last one that ran and the exit code of the whole.

    Raises:
        InvalidInput: Before anything starts: the run folder, or a changed YAML while the sweep runs.
        ServiceUnreachable: A service that the sweep needs does not answer at the start.
    """
    writable_folder(stages.name)
    while True:
        with _lock(stages.folder) as mine:
            if mine:
                return _walk(stages, retry=retry)
        refuse_another(stages)
        say(f"another process is running {stages.name}: following it. Ctrl-C leaves it running.")
        watch_stages(stages.name)
        if ended := outcome(stages, retry=retry):
            return ended
        say("its driver is gone, and there is something left to do: this process goes on with the sweep")


def _walk(stages: Stages, *, retry: bool) -> tuple[SweepState, int]:
    clear(stages.folder / "inbox")  # requests that were meant for a session that is over
    if not _is_over(stages.first, stages.folder_of(0)):
        check_services(stages.later[-1])  # what the end needs is asked for now, and not after the first stage
    keep(stages)
    codes: list[int] = []
    number, count = 0, len(stages.every)
    while True:
        built = stages.started(number)
        place = built.place
        assert place is not None, "a stage has its place"
        say(f"stage {number + 1} of {count}: {place.name}{_from(built)}")
        stop = (stages.folder / "inbox" / "stop").exists()
        state, code = run(built, retry=retry, stop=stop)
        codes.append(code)
        if place.is_last or state.status in HELD:
            break
        number += 1
        if not stages.can_start(number):
            start = stages.staged.stages[number].start
            assert start is not None, "the first stage can"
            say(f"the stage {start.stage} chose no champion, so {place.names[number]} has nothing to start from:")
            say(WAY_OUT)
            codes.append(NO_CHAMPION)
            break
    return state, whole_code(codes)


def _from(built: Built) -> str:
    place = built.place
    if place is None or not place.starts:
        return ""
    state = read(place.starts[0].folder)
    labels = [state.trials[start.trial] for start in place.starts]
    numbers = ", ".join(str(one.own_number) for one in labels)
    return f", from trial{'s' if len(labels) > 1 else ''} {numbers} of {place.starts[0].stage}"


def whole_code(codes: list[int]) -> int:
    """The exit code of several stages: the first of the order that any of them ended with."""
    return next((code for code in ORDER if code in codes), 0)


def outcome(stages: Stages, *, retry: bool = False) -> tuple[SweepState, int] | None:
    """Where the stages have come to, as :func:`walk` returns it; None where another process was lost on the way.

    The stages are gone through as a walk does, so that what one of them has kept of an earlier version is no end.
    """
    states: list[SweepState] = []
    for number in range(len(stages.every)):
        if not stages.can_start(number):
            return states[-1], whole_code([*(state.code for state in states), NO_CHAMPION])
        folder = stages.folder_of(number)
        if not exists(folder) or what_changed(stages.started(number), folder):
            return None
        state = read(folder)
        if state.ended is None or (retry and num_failed(state)):
            return None
        states.append(state)
        if state.status in HELD:
            break
    return states[-1], whole_code([state.code for state in states])


def _is_over(built: Built, folder: Path) -> bool:
    return exists(folder) and is_finished(read(folder)) and not what_changed(built, folder)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Whether this process walks: it holds the lock of the whole while it does."""
    (folder / STAGES).mkdir(parents=True, exist_ok=True)
    with (folder / STAGES / "lock").open("a+") as lock:
        if not take_lock(lock):
            yield False
            return
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield True


def is_walking(folder: Path) -> bool:
    """Whether some process runs the stages of the sweep in this run folder."""
    return is_open(folder / STAGES)


def keep(stages: Stages) -> None:
    """Keep the YAML of the whole, from which ``podium resume`` makes it again."""
    folder = stages.folder / STAGES
    write_whole(folder / YAML, [stages.staged.source.text])  # the file may have been edited since
    write_whole(folder / WHOLE, [json.dumps(told(stages), indent=1, default=str) + "\n"])


def forget_stages(name: str) -> None:
    """A sweep of this name has stages no more: its earlier ones stay where they are, and nobody goes by them."""
    folder = home.run_folder(name)
    if whole_of(folder) is not None and not is_walking(folder):
        (folder / STAGES / WHOLE).unlink(missing_ok=True)


def told(stages: Stages) -> dict[str, Any]:
    """What is kept of the whole; see ``tracking.folders.whole_of``."""
    content = {
        "stages": [stage.name for stage in stages.staged.stages],
        "values": stages.staged.source.values,
        "overrides": list(stages.overrides),
        "base_dir": str(stages.base_dir),
    }
    return json.loads(json.dumps(content, default=str))  # type: ignore[no-any-return]


def next_stage(stages: Stages, *, retry: bool = False) -> Built:
    """The stage that some process is at; else the first that has something left to do; the last where none has.

    Args:
        retry: Whether failed trials are something to do.
    """
    numbers = range(len(stages.every))
    running = (number for number in numbers if is_open(stages.folder_of(number)))
    left = (number for number in numbers if _is_left(stages, number, retry=retry))
    number = next(chain(running, left), numbers[-1])
    return stages.started(number) if stages.can_start(number) else stages.every[number]


def _is_left(stages: Stages, number: int, *, retry: bool) -> bool:
    folder = stages.folder_of(number)
    if not stages.can_start(number) or not _is_over(stages.started(number), folder):
        return True
    return retry and num_failed(read(folder)) > 0


def refuse_another(stages: Stages) -> None:
    """A sweep that runs is what it is until it ends.

    Raises:
        InvalidInput: The YAML is another.
    """
    running = whole_of(stages.folder)
    if running is not None and running["values"] != told(stages)["values"]:
        before, after = running["values"], told(stages)["values"]
        differ = ", ".join(key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key))
        rule = f"this sweep is running, and the YAML is another: {differ}"
        raise InvalidInput(Problem("name", rule, "wait for its end, `podium stop` it, or choose another name"))


def running_stage(name: str) -> Path | None:
    """The run folder of the stage that some process is at; None where none is."""
    return next((stage.folder for stage in stages_named(name, home.home()) if is_open(stage.folder)), None)


def watch_stages(name: str) -> None:
    """Show each stage that another process runs, until that is done with all of them."""
    while is_walking(home.run_folder(name)):
        folder = running_stage(name)
        if folder is not None and exists(folder):
            follow(folder)
        time.sleep(LOOK_S)


def reopen_stages(name: str, overrides: tuple[str, ...] = ()) -> Stages | None:
    """A staged sweep as it was submitted last, or None where the sweep has no stages.

    Args:
        name: Of the whole, or of one of its stages.
        overrides: On top of those that it was submitted with.

    Raises:
        InvalidInput: The data, the base or anything else that a YAML names is not what it was.
    """
    folder = home.run_folder(name.partition("/")[0])
    whole = whole_of(folder)
    if whole is None:
        return None
    named = {override.partition("=")[0] for override in overrides}
    kept = [override for override in whole["overrides"] if override.partition("=")[0] not in named]
    base_dir = Path(whole["base_dir"])
    stages = build_stages(folder / STAGES / YAML, [*kept, *overrides], yes=True, base_dir=base_dir)
    assert stages is not None, "what is kept has stages"
    if not overrides:
        _refuse_changed(stages)
    return stages


def _refuse_changed(stages: Stages) -> None:
    """Refuse to go on with a sweep whose files are not what they were; as ``podium resume`` of a plain one does."""
    for number in range(len(stages.every)):
        folder = stages.folder_of(number)
        if not (exists(folder) and stages.can_start(number)):
            return
        built = stages.started(number)
        if changed := what_changed(built, folder):
            if number and not is_finished(read(stages.folder_of(number - 1))):
                return  # what it starts from is still open
            if all(change.startswith(("recipe.start", "set.start", "starts", "space.start")) for change in changed):
                return  # the stage before has another champion by now, which is no change of the YAML
            rule = f"it is not what it was: {'; '.join(changed)}"
            raise InvalidInput(Problem(built.sweep.spec.name, rule, "`podium submit` its YAML to make a new version"))
        if not is_finished(read(folder)):
            return


def extended_stages(name: str, stage: str | None, trials: int) -> Stages | None:
    """A staged sweep with so many more trials in one stage, the last by default; None where it has no stages.

    Raises:
        InvalidInput: There is no such stage, or its search cannot be extended.
    """
    stages = reopen_stages(name)
    if stages is None:
        return None
    named = stage or stages.staged.stages[-1].name
    search = stages.every[stages.staged.number_of(named)].sweep.spec.search
    if search.algorithm == "grid":
        rule = f"a grid has all its points, and this one has {search.trials}"
        raise InvalidInput(Problem(f"{name}/{named}", rule, "widen the space in its YAML and submit that"))
    return reopen_stages(name, (f"stages.{named}.search.trials={search.trials + trials}",))
