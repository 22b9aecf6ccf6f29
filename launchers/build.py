"""From a sweep YAML to a sweep that can be planned and run: the recipe is composed, the rows read, the pools found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launchers import home
from launchers.incumbent import InUse, find
from launchers.place import Place
from launchers.pools import pools_beside
from recipes import objects
from recipes.compose import compose, typed
from recipes.data.preferences import prompt_key
from recipes.data.rows import canonical
from recipes.data.splits import SPLITS, SplitRows
from recipes.facts import key_facts, recipe_facts
from recipes.schema import Base
from sweeps.design_points import planned_points
from sweeps.errors import InvalidInput, Problem
from sweeps.facts import Pool
from sweeps.retrieving import written_tables
from sweeps.spec import LoadedSpec, Sweep, read_spec, resolve
from sweeps.starting import written_starts

INPUTS = ("base.", "data.", "lora.targets", "start.", "method")
"""What is set here decides the facts: size, rows, hashes, widths, the adapters to start from."""


@dataclass(frozen=True)
class Built:
    """A sweep with everything that was read to make it."""

    sweep: Sweep
    rows: SplitRows
    pools: tuple[Pool, ...]
    base_dir: Path  # what relative paths of the sweep are taken from
    text: str  # the YAML as it was written
    overrides: tuple[str, ...]
    incumbent: InUse | None = None
    serving: Pool | None = None  # what the champion is to be served on; None without ``traffic``
    place: Place | None = None  # among the stages of a whole; None for a plain sweep

    @property
    def judged(self) -> dict[str, Any]:
        """The ``data`` block that the dev and challenge rows are of."""
        return (self.place and self.place.data) or self.sweep.settings["data"]  # type: ignore[no-any-return]


def build(path: Path, overrides: Sequence[str] = (), *, yes: bool = False, base_dir: Path | None = None) -> Built:
    """Read and check everything; start nothing.

    Args:
        path: The sweep's YAML.
        overrides: ``key=value`` texts that are put on top of it.
        yes: Whether more trials than anybody means by accident are meant (see ``sweeps.design_points.MANY``).
        base_dir: What relative paths are taken from; the YAML's own folder unless it is given.

    Raises:
        InvalidInput: With all that is wrong with the sweep, each with its line.
    """
    return build_loaded(read_plain(path, overrides), path, overrides, yes=yes, base_dir=base_dir)


def read_plain(path: Path, overrides: Sequence[str] = ()) -> LoadedSpec:
    """Read a sweep that has no stages. Arguments and errors are those of :func:`build`."""
    loaded = read_spec(path, overrides)
    if "stages" in loaded.source.values:
        raise InvalidInput(loaded.problem(("stages",), "has stages, and this is for a sweep without"))
    return loaded


def build_loaded(
    loaded: LoadedSpec,
    path: Path,
    overrides: Sequence[str] = (),
    *,
    yes: bool = False,
    base_dir: Path | None = None,
    place: Place | None = None,
) -> Built:
    """:func:`build` what was read already.

    Args:
        place: Among the stages of a whole.
    """
    base_dir = base_dir or path.resolve().parent
    settings = composed(loaded, base_dir)
    loaded = replace(loaded, problems=(*loaded.problems, *_check_files(loaded, base_dir)))
    try:
        facts, rows = recipe_facts(settings, base_dir, home.cache_folder(), written_starts(loaded))
    except InvalidInput as error:
        raise loaded.error(*(_at_its_line(loaded, problem) for problem in error.problems)) from None
    if place is not None and place.rows is not None:
        rows = _judged_alike(loaded, rows, place.rows, (place.data or {}).get("group"))
        facts = replace(facts, data_identity=rows.identity)
    pools = pools_beside(base_dir, loaded.source.values.get("prices"))
    sweep = resolve(loaded, facts, pools, yes=yes)
    _refuse_swept(loaded, sweep)
    engine = sweep.settings["engine"]
    if sweep.spec.champion.cross_check == engine:
        rule = f"must name another engine than the trials', but got {engine} for both"
        raise loaded.error(loaded.problem(("champion", "cross_check"), rule, "leave it out, or set engine: packed"))
    if sweep.spec.champion.cross_check and (ours := ours_alone(sweep)):
        rule = f"{sweep.spec.champion.cross_check} trains fresh adapters by method sft, and not {ours}"
        raise loaded.error(loaded.problem(("champion", "cross_check"), rule, "leave it out"))
    regroups = sweep.settings["packed"]["regroup"] or "packed.regroup" in sweep.space.dimensions
    if regroups and (other := sweep.spec.champion.cross_check):
        rule = f"{other} cannot take rows in the order of packed.regroup, and would train another trial"
        hint = "leave it out, or set packed.regroup: false"
        raise loaded.error(loaded.problem(("champion", "cross_check"), rule, hint))
    devices = {pool.device for pool in sweep.pools}
    if len(devices) > 1:
        rule = "cpu and gpu pools cannot be mixed in one sweep: a trial's resources would differ"
        written = [pool.name for pool in sweep.pools]
        raise loaded.error(loaded.problem(("pools",), f"{rule}, but got {', '.join(written)}", "write two sweeps"))
    _check_recipes(loaded, sweep)
    _check_guided(loaded, sweep, place)
    incumbent = _incumbent(loaded, sweep, base_dir)
    traffic = sweep.spec.traffic
    serving = (pools[traffic.pool] if traffic.pool else sweep.pools[0]) if traffic else None
    return Built(sweep, rows, sweep.pools, base_dir, loaded.source.text, tuple(overrides), incumbent, serving, place)


def ours_alone(sweep: Sweep) -> str:
    """What no other engine than ``packed`` does, in words; empty where there is nothing of it."""
    if sweep.settings["method"] != "sft":
        return f"by {sweep.settings['method']}"
    starts = sweep.settings["start"]["adapter"] is not None or "start.adapter" in sweep.space.dimensions
    return "on from a start.adapter" if starts else ""


def _judged_alike(loaded: LoadedSpec, rows: SplitRows, first: SplitRows, group: str | None) -> SplitRows:
    """A later stage's rows: its own to train on, and those that all stages are judged on.

    Args:
        group: The field that the first stage's rows are split by.

    Raises:
        InvalidInput: A prompt to train on is one to be judged on, or its row is of a group to be judged on.
    """
    judged = {mark: split for split in ("dev", "challenge") for row in first.rows[split] for mark in _marks(row, group)}
    taught = [(split, at, row) for split in ("train", "validation") for at, row in enumerate(rows.rows[split], start=1)]
    both = [(split, at, row) for split, at, row in taught if any(mark in judged for mark in _marks(row, group))]
    if both:
        split, at, row = both[0]
        mark = next(mark for mark in _marks(row, group) if mark in judged)
        asked = next((one["content"] for one in row["messages"] if one["role"] == "user"), "")
        told = f"asks {asked[:60]!r}" if mark[0] is None else f"has {group} {mark[1][:60]!r}"
        more = f", and {len(both) - 1} more of its rows" if len(both) > 1 else ""
        rule = f"row {at} of its {split} rows {told}, which is in {judged[mark]} too{more}"
        way = "all stages are judged on the first one's dev and challenge rows: take these out of the data"
        key = next((one for one in ("data.path", "data.builtin") if one in loaded.source.block("set")), None)
        raise loaded.error(loaded.problem(("set", key) if key else ("recipe",), rule, way))
    kept = {split: rows if split in ("train", "validation") else first for split in SPLITS}
    return SplitRows(
        {split: of.rows[split] for split, of in kept.items()}, {one: of.sha256[one] for one, of in kept.items()}
    )


def _marks(row: Mapping[str, Any], group: str | None) -> Iterator[tuple[str | None, str]]:
    """What a row must not share with one that is held out: its prompt, and its group where it tells that."""
    yield None, prompt_key(row["messages"])
    if group is not None and group in row:
        yield group, canonical(row[group])


def _check_guided(loaded: LoadedSpec, sweep: Sweep, place: Place | None) -> None:
    """Answers can be forced into a schema only where there is one."""
    evaluate, serving = sweep.spec.evaluate, sweep.spec.serving
    if evaluate.json_schema or ((place and place.data) or sweep.settings["data"])["builtin"]:
        return
    asked = {
        ("serving", "guided"): serving.guided,
        ("serving", "rescore"): serving.rescore > 0,
        ("evaluate", "incumbent", "guided"): evaluate.incumbent is not None and evaluate.incumbent.guided,
    }
    rule, hint = "guided answers are forced into evaluate.schema, and there is none", "add it, or leave this out"
    if problems := [loaded.problem(path, rule, hint) for path, is_asked in asked.items() if is_asked]:
        raise loaded.error(*problems)


def composed(loaded: LoadedSpec, base_dir: Path) -> dict[str, Any]:
    """The sweep's recipe with the inputs that are set in its YAML; no rows are read. It raises as :func:`build`."""
    raw = loaded.source.values
    recipe = raw.get("recipe")
    if not isinstance(recipe, str):
        raise loaded.error()
    try:
        settings = compose(recipe, base_dir=base_dir)
    except InvalidInput as error:
        raise loaded.error(
            *(loaded.problem(("recipe",), _with_place(problem), problem.hint) for problem in error.problems)
        ) from None
    _apply_inputs(settings, raw.get("set"))
    return settings


def _incumbent(loaded: LoadedSpec, sweep: Sweep, base_dir: Path) -> InUse | None:
    """What the sweep is compared with, its files found."""
    spec = sweep.spec.evaluate.incumbent
    if spec is None:
        return None
    base, packed = Base.model_validate(sweep.settings["base"]), sweep.settings["engine"] == "packed"
    try:
        return find(spec, base, base_dir, home.cache_folder(), packed=packed)
    except InvalidInput as error:
        places = [(tuple(problem.where.split(".")), problem) for problem in error.problems]
        raise loaded.error(*(loaded.problem(path, one.rule, one.hint) for path, one in places)) from None


def _with_place(problem: Problem) -> str:
    """The rule of a problem within a recipe's file, and where in it."""
    if problem.where == "recipe":
        return problem.rule
    return (
        f"{problem.where}, line {problem.line}: {problem.rule}" if problem.line else f"{problem.where}: {problem.rule}"
    )


def _apply_inputs(settings: dict[str, Any], written: Any) -> None:
    known = key_facts()
    for key, value in (written or {}).items() if isinstance(written, dict) else ():
        if isinstance(key, str) and key.startswith(INPUTS) and key in known:
            group, _, name = key.rpartition(".")
            (settings.setdefault(group, {}) if group else settings)[name] = value


def _at_its_line(loaded: LoadedSpec, problem: Problem) -> Problem:
    """A problem of a recipe's key, with the line where the sweep sets that key; as it is where it does not."""
    if problem.where in (loaded.source.values.get("set") or {}):
        return loaded.problem(("set", problem.where), problem.rule, problem.hint)
    return problem


def _entries(written: Any) -> list[str]:
    """The ``file.py:function`` entries of a list, of one name, or of a block that plants them."""
    if isinstance(written, dict):
        written = written.get("plant")
    values = [written] if isinstance(written, str) else written if isinstance(written, list) else []
    return [value for value in values if isinstance(value, str) and ".py:" in value]


def _check_files(loaded: LoadedSpec, base_dir: Path) -> list[Problem]:
    """What is wrong with the files that evaluation will read, and with the place of the export."""
    from tracking.meters.rehearsal import find_function, read_schema

    evaluate = loaded.source.block("evaluate")
    schema = evaluate.get("schema")
    found: list[tuple[str, Problem | None]] = [
        (key, find_function(entry, base_dir, f"evaluate.{key}"))
        for key in ("metrics", "gates", "defects")
        for entry in _entries(evaluate.get(key))
    ]
    pipeline = evaluate.get("pipeline")
    for key, name in written_tables(pipeline).items():
        if not (base_dir / Path(name).expanduser()).is_file():
            rule = f"no such file: {name}"
            found.append((f"pipeline.{key}", Problem("", rule, f"relative paths are taken from {base_dir}")))
    if isinstance(pipeline, dict) and isinstance(function := pipeline.get("formulation"), str) and ".py:" in function:
        found.append(("pipeline.formulation", find_function(function, base_dir, "evaluate.pipeline.formulation")))
    if isinstance(schema, str) and schema:
        found.append(("schema", read_schema(schema, base_dir)))
    problems = [
        loaded.problem(("evaluate", *key.split(".")), problem.rule, problem.hint)
        for key, problem in found
        if problem is not None
    ]
    to = loaded.source.block("export").get("to")
    if isinstance(to, str) and objects.is_url(to):
        try:
            objects.folder_of(to)
        except InvalidInput as error:
            problems += [
                loaded.problem(("export", "to"), f"{problem.where}: {problem.rule}", problem.hint)
                for problem in error.problems
            ]
    return problems


def _check_recipes(loaded: LoadedSpec, sweep: Sweep) -> None:
    """Rules between keys (a warm-up shorter than the training, whole micro-batches) hold for every planned trial."""
    problems: dict[str, Problem] = {}
    for trial in planned_points(sweep).trials:
        try:
            typed(trial.settings)
        except InvalidInput as error:
            for problem in error.problems:
                problems.setdefault(
                    problem.rule, loaded.problem((problem.where,), problem.rule, f"as in trial {trial.number}")
                )
    if problems:
        raise loaded.error(*problems.values())


def _refuse_swept(loaded: LoadedSpec, sweep: Sweep) -> None:
    rules = {
        "data": "data cannot be swept: trials are compared on the same rows",
        "engine": "the engine cannot be swept: all trials of a sweep train on one",
        "method": "the method cannot be swept: losses of two kinds cannot be compared",
    }
    problems: list[Problem] = [
        loaded.problem(("space", key), rules[key.split(".")[0]], "put it under set")
        for key in sweep.space.dimensions
        if key.split(".")[0] in rules
    ]
    if problems:
        raise loaded.error(*problems)
