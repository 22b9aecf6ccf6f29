"""Which stages of a sweep's YAML a command is about: all of them, one after the other, or the one of ``--stage``.

A command that can go through several stages is handed all that are meant; one that makes a single thing has
:func:`one_stage` say that a stage must be named. A sweep without stages is, in both, a single one without a name.
"""

from collections.abc import Sequence
from pathlib import Path

from launchers.build import Built, build, read_plain
from launchers.staging import Stages, build_stages
from sweeps.errors import InvalidInput, Problem
from sweeps.loading import LoadedSpec
from sweeps.stages import Staged, read_staged

OPTION = "--stage"


def is_sweep(data: str) -> bool:
    """Whether what a command is given is a sweep's YAML, and not rows."""
    return data.endswith((".yaml", ".yml"))


def stages_in(data: str, stage: str | None) -> tuple[str | None, ...]:
    """The stages that are meant, in their order; one None for rows, and for a sweep without stages.

    Args:
        data: Rows, or a sweep's YAML.
        stage: The one that the user names.

    Raises:
        InvalidInput: There is no such stage, or the YAML cannot be read.
    """
    staged = read_staged(Path(data)) if is_sweep(data) else None
    if staged is None:
        refuse_stage(data, stage)
        return (None,)
    if stage is None:
        return tuple(one.name for one in staged.stages)
    return (staged.stages[staged.number_of(stage)].name,)


def one_stage(data: str, stage: str | None, what: str) -> str | None:
    """As :func:`stages_in`, for a command that makes one thing.

    Args:
        what: The option or argument that asks for it.

    Raises:
        InvalidInput: Also where the sweep has stages and none is named.
    """
    meant = stages_in(data, stage)
    if len(meant) > 1:
        raise not_named(what, data, [str(one) for one in meant])
    return meant[0]


def not_named(what: str, whole: str, names: Sequence[str]) -> InvalidInput:
    """The error that a stage must be named."""
    rule = f"{whole} has the stages {', '.join(names)}, and this is of one"
    return InvalidInput(Problem(what, rule, f"name it: {OPTION} {names[0]}"))


def refuse_stage(whole: str, stage: str | None, hint: str = "leave it out") -> None:
    """Refuse a stage of what has none.

    Raises:
        InvalidInput: One is named.
    """
    if stage is not None:
        raise InvalidInput(Problem(OPTION, f"{whole} has no stages, but got {stage}", hint))


def read_one(path: Path, stage: str | None) -> LoadedSpec:
    """One that is meant, by :func:`stages_in`, held against the schema.

    Raises:
        InvalidInput: It cannot be read, or the stages do not hang together.
    """
    if stage is None:
        return read_plain(path)
    staged = read_staged(path)
    assert staged is not None, "what has a stage has stages"
    return _sound(staged).stages[staged.number_of(stage)].loaded()


def read_judged(path: Path) -> LoadedSpec:
    """What has the rows that a sweep is judged on: itself, or the first of its stages. Raises as :func:`read_one`."""
    staged = read_staged(path)
    return read_plain(path) if staged is None else _sound(staged).stages[0].loaded()


def build_meant(path: Path, stage: str | None) -> dict[str | None, Built]:
    """The stages that are meant, by name, read and checked; a sweep without stages under None.

    Raises:
        InvalidInput: As :func:`stages_in`, and with all that is wrong with the sweep.
    """
    meant = stages_in(str(path), stage)
    stages = build_stages(path)
    return {None: build(path)} if stages is None else {name: named(stages, str(name)) for name in meant}


def named(stages: Stages, stage: str) -> Built:
    """A stage as it is before any has run.

    Raises:
        InvalidInput: There is no such stage.
    """
    return stages.every[stages.staged.number_of(stage)]


def _sound(staged: Staged) -> Staged:
    if staged.problems:
        raise staged.error()
    return staged
