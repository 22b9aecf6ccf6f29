"""Stages: one sweep after another, each starting from the best adapters of one before.

A staged sweep YAML has ``stages:`` in place of what a plain one has only once. It is taken apart here into one plain
source per stage, which everything that knows sweeps then reads; the lines stay those of the file.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.fields import Block, Count
from sweeps.grammar import quote
from sweeps.loading import LoadedSpec, check_source, explain
from sweeps.metrics import SERVING
from sweeps.schema import Budget
from sweeps.source import STAGE_KEYS, Source, read_source

TIMED = "latency/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ALONE = tuple(key for key in STAGE_KEYS if key not in ("start", "budget"))  # what has no place beside stages


class StageStart(Block):
    """Where the trials of a stage start.

    Attributes:
        stage: The stage, written ``from``, whose best trials are started from.
        top: So many of them; with more than one, ``start.adapter`` is swept over them.
        mode: As ``start.mode`` of a recipe.
    """

    stage: str
    top: Count = 1
    mode: Literal["continue", "stack"] = "continue"


@dataclass(frozen=True)
class Stage:
    """One stage of a sweep, as a sweep of its own.

    Attributes:
        name: The stage's.
        sweep: The name that its own sweep has: that of the whole for the last stage, else ``<sweep>/<stage>``.
        source: Its plain source; of trials that start from nothing, while ``start`` is not yet decided.
        start: Where its trials start; None in the first stage.
        is_last: Whether its champion is the whole sweep's.
    """

    name: str
    sweep: str
    source: Source
    start: StageStart | None
    is_last: bool

    def loaded(self, adapters: Sequence[str] = ()) -> LoadedSpec:
        """The stage held against the schema.

        Args:
            adapters: The folders of those that it starts from, best first; none where they are not decided yet.
        """
        source = self.source
        if adapters:
            assert self.start is not None, "the first stage starts from nothing"
            values = copy.deepcopy(source.values)
            values["set"] = {**(values.get("set") or {}), "start.adapter": adapters[0], "start.mode": self.start.mode}
            if len(adapters) > 1:
                values["space"] = {**values["space"], "start.adapter": {"values": list(adapters)}}
            source = replace(source, values=values)
        return check_source(source)


@dataclass(frozen=True)
class Staged:
    """A staged sweep.

    Attributes:
        source: As it is written.
        name: Of the whole.
        stages: In their order.
        budget: Of all of them together.
        problems: What is wrong with how they hang together.
    """

    source: Source
    name: str
    stages: tuple[Stage, ...]
    budget: Budget
    problems: tuple[Problem, ...] = field(default=())

    def number_of(self, stage: str) -> int:
        """The place of a stage among them.

        Raises:
            InvalidInput: There is none of this name.
        """
        names = [one.name for one in self.stages]
        if stage not in names:
            raise InvalidInput(Problem("--stage", f'{self.name} has no stage "{stage}"', nearest(stage, names)))
        return names.index(stage)

    def error(self, *more: Problem) -> InvalidInput:
        """All problems, with some that the caller found, as one error to raise."""
        problems = sorted((*self.problems, *more), key=lambda problem: problem.line or 0)
        return InvalidInput(dict.fromkeys(problems), source=self.source.name)


def whole_name(name: str) -> str:
    """The name of the whole sweep, of the name of one of its stages: ``quickstart`` of ``quickstart/sft``."""
    return name.partition("/")[0]


def read_staged(path: Path, overrides: Sequence[str] = ()) -> Staged | None:
    """A sweep YAML taken apart; None where it has no stages.

    Raises:
        InvalidInput: The file cannot be read, or ``stages`` is no list of two stages or more.
    """
    source = read_source(path, overrides)
    return staged(source) if "stages" in source.values else None


def staged(source: Source) -> Staged:
    """A source with ``stages`` taken apart.

    Raises:
        InvalidInput: ``stages`` is no list of two stages or more.
    """
    written = source.values["stages"]
    if not isinstance(written, list) or not all(isinstance(one, dict) for one in written):
        rule = f"must be a list of stages, but got {'a block of keys' if isinstance(written, dict) else quote(written)}"
        raise InvalidInput(source.problem(("stages",), rule, "begin each with - name: …"), source.name)
    if len(written) < 2:
        rule = f"must be two stages or more, but got {len(written)}"
        way = "write recipe, set, space and search at the top: a plain sweep has no stages"
        raise InvalidInput(source.problem(("stages",), rule, way), source.name)
    problems = [*_beside(source), *_names(source, written)]
    stages = []
    for number in range(len(written)):
        start, found = _start(source, written, number)
        problems += found
        stages.append(_stage(source, written, number, start))
        problems += _by_hand(stages[-1].source, start) if start else []
    budget = Budget()
    try:
        budget = Budget.model_validate(source.values.get("budget") or {})
    except ValidationError as error:
        problems += explain(error, source, ("budget",))
    name = source.values.get("name")
    return Staged(source, name if isinstance(name, str) else "sweep", tuple(stages), budget, tuple(problems))


def _beside(source: Source) -> Iterator[Problem]:
    """Blocks that each stage has of its own, at the top."""
    for key in _ALONE:
        if key in source.values:
            yield source.problem((key,), f"{key} stands beside stages", f"write it in each stage that it is for: {key}")


def _names(source: Source, written: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    if isinstance(whole := source.values.get("name"), str) and "/" in whole:
        yield source.problem(("name",), f"must be a folder name, but got {quote(whole)}", "leave out the slash")
    known: list[Any] = []
    for number, stage in enumerate(written):
        path, name = ("stages", number, "name"), stage.get("name")
        if name is None:
            yield source.problem(path, "is missing", "name each stage: its run folder is called so")
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            shape = "letters, digits, '-' and '_', at most 64, beginning with a letter or a digit"
            yield source.problem(path, f"must be a folder name, but got {quote(name)}", f"use {shape}")
        elif name in known:
            yield source.problem(path, f'two stages are called "{name}"', "give each a name of its own")
        known.append(name)
        for key in stage:
            if key not in ("name", *STAGE_KEYS):
                shared = "it is for all stages: write it at the top" if key in _SHARED else ""
                yield source.problem(
                    ("stages", number, key), f'unknown key "{key}"', shared or nearest(key, ("name", *STAGE_KEYS))
                )


_SHARED = (
    *("pools", "evaluate", "champion", "serving", "export"),
    *("retries", "give_up_after", "concurrency", "prices", "traffic"),
)


def _start(
    source: Source, written: Sequence[Mapping[str, Any]], number: int
) -> tuple[StageStart | None, list[Problem]]:
    """Where a stage starts, and what is wrong with how it says so."""
    block, path = written[number].get("start"), ("stages", number, "start")
    names = [stage.get("name") for stage in written]
    if number == 0:
        way = "leave it out, or put start.adapter under set to start from an adapter of your own"
        found = [source.problem(path, "the first stage has no stage before it", way)] if "start" in written[0] else []
        return None, found
    before = StageStart(stage=str(names[number - 1]))
    if block is None:
        return before, []
    if not isinstance(block, dict):
        rule = f"must be a block of keys, but got {quote(block)}"
        return before, [source.problem(path, rule, f"write {{from: {names[number - 1]}}}")]
    problems = [
        source.problem((*path, key), f'unknown key "{key}"', nearest(str(key), ("from", "top", "mode")))
        for key in block
        if key not in ("from", "top", "mode")
    ]
    told = {"stage" if key == "from" else key: value for key, value in block.items() if key in ("from", "top", "mode")}
    if (name := told.get("stage", names[number - 1])) not in names[:number]:
        there = f"before it: {', '.join(map(str, names[:number]))}"
        rule = f'no stage is called "{name}"'
        if name in names:
            rule = f'"{name}" is {"this stage itself" if name == names[number] else "a later stage"}'
        problems.append(source.problem((*path, "from"), rule, there))
        return before, problems
    try:
        return StageStart.model_validate({"stage": names[number - 1], **told}), problems
    except ValidationError as error:
        return before, [*problems, *explain(error, source, path, StageStart)]


_STARTS_OWN = ("lora.rank", "lora.alpha", "lora.targets")  # what a trial takes over that goes on from an adapter


def _by_hand(source: Source, start: StageStart) -> Iterator[Problem]:
    """Keys that a stage sets or sweeps although its start decides them."""
    for block in ("set", "space"):
        for key in source.block(block):
            if key in _STARTS_OWN and start.mode == "continue":
                rule = f"trials go on from those of {start.stage} and have their {key}, so that no other can be tried"
                way = "leave it out, or write start: {mode: stack} to put a new adapter beside it"
                yield source.problem((block, key), rule, way)
            if str(key).startswith("start."):
                rule = f"{key} is set by hand, but the stage starts from the one before it"
                yield source.problem((block, key), rule, "leave it out; start: {from, top, mode} says where it starts")
    if "base.path" in source.block("space"):
        rule = "base.path is swept, but an adapter of the stage before fits its own base alone"
        yield source.problem(("space", "base.path"), rule, "write a staged sweep for each base")


def _stage(source: Source, written: Sequence[Mapping[str, Any]], number: int, start: StageStart | None) -> Stage:
    name, is_last = str(written[number].get("name")), number == len(written) - 1
    whole = source.values.get("name")
    values = {key: value for key, value in source.values.items() if key not in (*STAGE_KEYS, "stages")}
    values |= {key: value for key, value in written[number].items() if key in STAGE_KEYS and key != "start"}
    values = copy.deepcopy(values)
    called = whole if is_last else f"{whole}/{name}"
    if not is_last:
        values["name"] = called if isinstance(whole, str) else "sweep/stage"  # the last stage tells what is wrong
        _chosen_on_dev(values)
    # What is wrong with the YAML itself is told once, with the last stage.
    own = replace(source, values=values, within=("stages", number), problems=source.problems if is_last else ())
    return Stage(name, str(called), own, start, is_last)


def _chosen_on_dev(values: dict[str, Any]) -> None:
    """Make a stage's sweep one that ends with a choice on dev: the challenge set is for the last stage's.

    Only what its rule names is timed, and nothing is asked a second time or of another model.
    """
    champion = values.get("champion") or {}
    if isinstance(champion, dict):
        confirm = champion.get("confirm") or {}
        champion.pop("cross_check", None)
        values["champion"] = {**champion, "confirm": {**confirm, "top": 0} if isinstance(confirm, dict) else {"top": 0}}
    evaluate = values.get("evaluate") or {}
    if isinstance(evaluate, dict):
        evaluate.pop("incumbent", None)
        latency = evaluate.get("latency") or {}
        if isinstance(latency, dict) and not _is_timed(champion):
            values["evaluate"] = {**evaluate, "latency": {**latency, "top": 0}}
        judge = evaluate.get("judge")
        if isinstance(judge, dict) and isinstance(calibration := judge.get("calibration"), dict):
            calibration.pop("min_kappa", None)  # the last stage asks for it
    serving = values.get("serving")
    if isinstance(serving, dict):
        serving.pop("rescore", None)
    values.pop("export", None)


def _is_timed(champion: Any) -> bool:
    """Whether the rule of the champion names what only a measurement of latency tells."""
    if not isinstance(champion, dict):
        return False
    limits = champion.get("subject_to") or {}
    named = [champion.get("maximize"), champion.get("minimize"), *(limits if isinstance(limits, dict) else ())]
    return any(isinstance(name, str) and (name.startswith(TIMED) or name in SERVING) for name in named)
