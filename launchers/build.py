"""From a sweep YAML to a sweep that can be planned and run: the recipe is composed, the rows read, the pools found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.pools import load_pools
from recipes.compose import compose, typed
from recipes.data.splits import SplitRows
from recipes.facts import key_facts, recipe_facts
from sweeps.design_points import planned_points
from sweeps.errors import InvalidInput, Problem
from sweeps.facts import Pool
from sweeps.spec import LoadedSpec, Sweep, read_spec, resolve

INPUT_GROUPS = ("base.", "data.")  # what is set here decides the facts: size, rows, hashes


@dataclass(frozen=True)
class Built:
    """A sweep with everything that was read to make it."""

    sweep: Sweep
    rows: SplitRows
    pools: tuple[Pool, ...]
    base_dir: Path  # what relative paths of the sweep are taken from
    text: str  # the YAML as it was written
    overrides: tuple[str, ...]


def build(path: Path, overrides: Sequence[str] = ()) -> Built:
    """Read and check everything; start nothing.

    Raises:
        InvalidInput: With all that is wrong with the sweep, each with its line.
    """
    loaded = read_spec(path, overrides)
    base_dir = path.resolve().parent
    raw = loaded.source.values
    recipe = raw.get("recipe")
    if not isinstance(recipe, str):
        raise loaded.error()
    try:
        settings = compose(recipe, base_dir=base_dir)
    except InvalidInput as error:
        raise loaded.error(
            *(loaded.problem(("recipe",), problem.rule, problem.hint) for problem in error.problems)
        ) from None
    _apply_inputs(settings, raw.get("set"))
    try:
        facts, rows = recipe_facts(settings, base_dir)
        _check_files(loaded, base_dir)
    except InvalidInput as error:
        raise loaded.error(*(_at_its_line(loaded, problem) for problem in error.problems)) from None
    pools = load_pools(base_dir / "pools")
    sweep = resolve(loaded, facts, pools)
    _refuse_swept_data(loaded, sweep)
    devices = {pool.device for pool in sweep.pools}
    if len(devices) > 1:
        rule = "cpu and gpu pools cannot be mixed in one sweep: a trial's resources would differ"
        raise loaded.error(loaded.problem(("pools",), rule, "write two sweeps"))
    _check_recipes(loaded, sweep)
    return Built(sweep, rows, sweep.pools, base_dir, path.read_text(encoding="utf-8"), tuple(overrides))


def _apply_inputs(settings: dict[str, Any], written: Any) -> None:
    known = key_facts()
    for key, value in (written or {}).items() if isinstance(written, dict) else ():
        if isinstance(key, str) and key.startswith(INPUT_GROUPS) and key in known:
            group, _, name = key.partition(".")
            settings[group][name] = value


def _at_its_line(loaded: LoadedSpec, problem: Problem) -> Problem:
    """A problem of a recipe's key, with the line where the sweep sets that key; as it is where it does not."""
    if problem.where in (loaded.source.values.get("set") or {}):
        return loaded.problem(("set", problem.where), problem.rule, problem.hint)
    return problem


def _check_files(loaded: LoadedSpec, base_dir: Path) -> None:
    """Every file that evaluation will read is there, and the export goes where this version can put it."""
    evaluate = loaded.source.block("evaluate")
    entries = evaluate.get("metrics") or []
    named = [entry.rpartition(":")[0] for entry in entries if isinstance(entry, str) and ".py:" in entry]
    keyed = [("metrics", name) for name in named] + [("schema", evaluate.get("schema"))]
    problems = [
        loaded.problem(("evaluate", key), f"no such file: {name}", f"relative paths are taken from {base_dir}")
        for key, name in keyed
        if isinstance(name, str) and not (base_dir / Path(name).expanduser()).is_file()
    ]
    to = loaded.source.block("export").get("to")
    if isinstance(to, str) and "://" in to:
        rule = f"this version exports to folders only, got {to!r}"
        problems.append(loaded.problem(("export", "to"), rule, "give a folder, and copy the bundle from there"))
    if problems:
        raise InvalidInput(problems)


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


def _refuse_swept_data(loaded: LoadedSpec, sweep: Sweep) -> None:
    problems: list[Problem] = [
        loaded.problem(("space", key), "data cannot be swept: trials are compared on the same rows", "put it under set")
        for key in sweep.space.dimensions
        if key.startswith("data.")
    ]
    if problems:
        raise loaded.error(*problems)
