"""A staged sweep YAML as sweeps that can be planned and run: one for each stage, and what the earlier ones decide."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.champion import choose_on_dev
from launchers import home
from launchers.build import Built, build_loaded
from launchers.place import Place, StartTrial
from launchers.run_folder import exists
from recipes.adapters import WEIGHTS
from sweeps.errors import InvalidInput, Problem
from sweeps.preferring import scaled_by_starts
from sweeps.stages import Staged, read_staged
from tracking.ledger import SweepState, read

WAY_OUT = "change its space, its steps or the rule in the YAML and submit that; what was trained stays"


@dataclass(frozen=True)
class Stages:
    """A staged sweep with everything that was read to make it.

    Attributes:
        staged: As it is written.
        path: The YAML's; relative paths in it are taken from ``base_dir``.
        overrides: ``key=value`` texts on top of it.
        first: The first stage.
        later: The others, as they are before anybody knows what they start from.
    """

    staged: Staged
    path: Path
    base_dir: Path
    overrides: tuple[str, ...]
    first: Built
    later: tuple[Built, ...]

    @property
    def name(self) -> str:
        """Of the whole."""
        return self.staged.name

    @property
    def every(self) -> tuple[Built, ...]:
        """All stages, as they are before any has run."""
        return self.first, *self.later

    @property
    def folder(self) -> Path:
        """The run folder of the whole, which is that of its last stage."""
        return home.run_folder(self.name)

    def folder_of(self, number: int) -> Path:
        """The run folder of a stage."""
        return home.run_folder(self.every[number].sweep.spec.name)

    def source_of(self, number: int) -> SweepState | None:
        """The stage that a stage starts from; None for the first one, and where that has no champion yet."""
        start = self.staged.stages[number].start
        if start is None:
            return None
        folder = self.folder_of([stage.name for stage in self.staged.stages].index(start.stage))
        source = read(folder) if exists(folder) else None
        return source if source and best_of(source, 1) else None

    def can_start(self, number: int) -> bool:
        """Whether a stage has what it starts from."""
        return self.staged.stages[number].start is None or self.source_of(number) is not None

    def started(self, number: int) -> Built:
        """A stage with what it starts from, which its stage has decided.

        Raises:
            InvalidInput: That stage has no champion.
        """
        built = self.every[number]
        place, start = built.place, self.staged.stages[number].start
        if place is None or start is None:
            return built
        source = self.source_of(number)
        if source is None:
            rule = f"the stage {start.stage} has no champion, so {place.name} has nothing to start from"
            raise InvalidInput(Problem(built.sweep.spec.name, rule, WAY_OUT))
        trials = best_of(source, start.top)
        starts = tuple(StartTrial(start.stage, source.folder, trial) for trial in trials)
        adapters = [str((source.folder / str(source.trials[trial].adapter)).resolve()) for trial in trials]
        loaded = self.staged.stages[number].loaded(adapters)
        place = replace(place, starts=starts)
        return build_loaded(loaded, self.path, self.overrides, yes=True, base_dir=self.base_dir, place=place)


def best_of(state: SweepState, top: int) -> list[str]:
    """The champion of a stage, and with ``top`` above 1 the next best of it, as many as qualify."""
    champion = (state.champion or {}).get("champion")
    if champion is None:
        return []
    others = [trial for trial in choose_on_dev(state).ranking if trial != champion and _has_weights(state, trial)]
    return [champion, *others][:top]


def _has_weights(state: SweepState, trial: str) -> bool:
    """Whether its adapter is still there: `podium gc --adapters` may have freed it."""
    adapter = state.trials[trial].adapter
    return adapter is not None and (state.folder / adapter / WEIGHTS).is_file()


def build_stages(
    path: Path, overrides: Sequence[str] = (), *, yes: bool = False, base_dir: Path | None = None
) -> Stages | None:
    """Read and check every stage; start nothing. None where the YAML has no stages.

    Args:
        path: The sweep's YAML.
        overrides: ``key=value`` texts that are put on top of it.
        yes: Whether more trials than anybody means by accident are meant.
        base_dir: What relative paths are taken from; the YAML's own folder unless it is given.

    Raises:
        InvalidInput: With all that is wrong with the sweep, each with its line.
    """
    staged = read_staged(path, overrides)
    if staged is None:
        return None
    base_dir = base_dir or path.resolve().parent
    names = tuple(stage.name for stage in staged.stages)
    built: list[Built] = []
    problems: list[Problem] = []
    if staged.problems:  # then a stage may not be what it seems
        problems = [one for stage in staged.stages for one in stage.loaded().problems]
        raise staged.error(*problems)
    for stage in staged.stages:
        source = stage.start.stage if stage.start else None
        rows, data = (built[0].rows, built[0].judged) if built else (None, None)
        place = Place(staged.name, stage.name, names, staged.budget, data, rows, source)
        try:
            one = build_loaded(stage.loaded(), path, overrides, yes=yes, base_dir=base_dir, place=place)
        except InvalidInput as error:
            # Without the first one's rows a later stage can be sure of what is its own, and of nothing that all share.
            is_sure = built or stage.start is None
            problems += [one for one in error.problems if is_sure or one.where.startswith("stages")]
            continue
        built.append(one)
    if problems:
        raise staged.error(*problems)
    found = [problem for number in range(1, len(built)) for problem in _check(staged, built, number)]
    if found:
        raise staged.error(*found)
    return Stages(staged, path, base_dir, tuple(overrides), built[0], tuple(built[1:]))


def _check(staged: Staged, built: Sequence[Built], number: int) -> list[Problem]:
    """What is wrong with a stage in view of those before it."""
    stage, one = staged.stages[number], built[number].sweep
    start, source = stage.start, stage.source
    assert start is not None, "only the first stage has none"
    before = built[[other.name for other in staged.stages].index(start.stage)].sweep
    found = []
    if one.facts.base_identity != before.facts.base_identity:
        told, other = one.settings["base"]["path"], before.settings["base"]["path"]
        rule = f"its base is {told}, but {start.stage}, where it starts, has adapted {other}"
        key = ("set", "base.path") if "base.path" in source.block("set") else ("recipe",)
        found.append(source.problem(key, rule, "an adapter fits its own base: give both the same"))
    if start.top > (most := before.spec.search.trials):
        rule = f"must be at most {most}, the trials of {start.stage}, but got {start.top}"
        found.append(source.problem(("start", "top"), rule, f"write top: {most}, or give {start.stage} more trials"))
    if one.settings["engine"] == "nemo":
        rule = f"engine nemo trains fresh adapters, but {stage.name} starts from {start.stage}"
        found.append(source.problem(("recipe",), rule, "set engine: packed"))
    dropout, is_swept = one.settings["lora"]["dropout"], "lora.dropout" in one.space.dimensions
    if start.mode == "stack" and (is_swept or dropout > 0):
        rule = "lora.dropout must be 0 with start: {mode: stack}, where it would fall on the frozen adapter too"
        block = next((name for name in ("space", "set") if "lora.dropout" in source.block(name)), None)
        key = (block, "lora.dropout") if block else ("recipe",)
        got = "it is swept" if is_swept else f"got {dropout:g}"
        found.append(source.problem(key, f"{rule}, but {got}", "set lora.dropout: 0, or write mode: continue"))
    for path, name in scaled_by_starts(one) if start.top > 1 else ():
        rule = f"{name} has another scale in trials that differ in their start: it cannot compare those of {start.top}"
        way = "write start: {top: 1}, or name a metric of their answers that is evaluated, as quality/score"
        found.append(source.problem(path, rule, way))
    if check := one.spec.champion.cross_check:
        rule = f"{check} trains fresh adapters, and cannot train again what starts from another stage"
        found.append(source.problem(("champion", "cross_check"), rule, "leave it out"))
    return found
