"""Checks of what a sweep measured and made: answers of evaluations, samples, bundles, and the rows they come from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis import manifest
from launchers.doctor.check import Check, Finding, failed, not_checked, ok, warning
from launchers.doctor.sweep_ledger import few, fix
from launchers.doctor.sweep_mlflow import fetch
from launchers.evaluation import SAMPLES, keep_samples
from recipes.files import sha256_of
from sweeps.errors import PodiumError
from tracking.ledger import Evaluation, SweepState
from tracking.mlflow_runs import ARM_TAG, TRIAL_TAG, answers_folder


def checks(state: SweepState) -> list[Check]:
    """All of this file."""
    return [
        Check("answers", lambda: answers(state), limit_s=120),
        Check("bundles", lambda: bundles(state), limit_s=300),
        Check("data", lambda: data(state), limit_s=120),
    ]


def _with_items(state: SweepState) -> Iterator[Evaluation]:
    of_history = (one for trial in state.history.values() for one in trial.evaluations)
    yield from (one for one in (*state.evaluations(), *of_history) if one.items)


def answers(state: SweepState) -> list[Finding]:
    """Each evaluation's answers are there, as many as it counted; each trial has its samples."""
    findings, there = [], 0
    for evaluation in _with_items(state):
        path = state.folder / str(evaluation.items)
        problem = _items_problem(path, evaluation.n)
        if problem is None:
            there += 1
        else:
            way_out = f"{fix(state.folder)} asks MLflow for its copy"
            findings.append(failed(problem, way_out, _restorer(state, evaluation, path)))
    samples = list(_missing_samples(state))
    if samples:
        says = f"{SAMPLES} is missing for {few([path.parent.name for path, _ in samples])}"
        findings.append(warning(says, fix(state.folder), lambda: _write_samples(samples)))
    return findings or [ok(f"the answers of {there} evaluations are there, each with all its lines")]


def _items_problem(path: Path, n: int) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    with path.open("rb") as file:
        lines = sum(1 for line in file if line.strip())
    return None if lines == n else f"{path} has {lines} answers, and the ledger speaks of {n}"


def _restorer(state: SweepState, evaluation: Evaluation, path: Path) -> Any:
    def restore() -> str:
        tag = TRIAL_TAG if evaluation.arm in state.every_trial else ARM_TAG
        part = path.with_name(f"{path.name}.part")
        try:
            fetch(state, (tag, evaluation.arm), f"{answers_folder(evaluation)}/{path.name}", part)
            problem = _items_problem(part, evaluation.n)
            if problem is not None:
                raise PodiumError(f"MLflow's copy is not whole either: {problem}")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return f"restored {path} from MLflow's copy"

    return restore


def _missing_samples(state: SweepState) -> Iterator[tuple[Path, Path]]:
    """Where a trial's samples should lie, and the answers that they are the first of."""
    for trial in state.every_trial.values():
        path = state.folder / "trials" / trial.id / SAMPLES
        for evaluation in trial.evaluations:
            items = state.folder / str(evaluation.items)
            if evaluation.split == "dev" and evaluation.items and items.is_file() and not path.is_file():
                yield path, items


def _write_samples(places: list[tuple[Path, Path]]) -> str:
    for path, items in places:
        keep_samples(items, path.parent)
    return f"wrote {SAMPLES} again for {few([path.parent.name for path, _ in places])}, from their answers"


def bundles(state: SweepState) -> list[Finding]:
    """Every bundle that the sweep exported is what its manifest says."""
    findings: list[Finding] = []
    places = {str(export["to"]): export["trial"] for export in state.exports}
    there = {trial for place, trial in places.items() if Path(place).is_dir()}
    for place, trial in places.items():
        if "://" in place:
            findings.append(not_checked(f"{place} is not on this machine", f"`podium verify {place}`"))
        elif not Path(place).is_dir() and trial in there:
            findings.append(not_checked(f"the bundle {place} is not there any more; another of the same trial is"))
        elif not Path(place).is_dir():
            way_out = f"`podium export {state.name}` makes it again"
            findings.append(warning(f"the bundle {place} is not there any more", way_out))
        elif wrong := manifest.problems(Path(place)):
            says = f"the bundle {place} is not what was exported: {few(wrong)}"
            findings.append(failed(says, f"remove it, and `podium export {state.name}` makes it again"))
        else:
            findings.append(ok(f"{place} is what its manifest says"))
    return findings or [not_checked("nothing was exported")]


def data(state: SweepState) -> list[Finding]:
    """The rows that the trials learnt from are in the cache, unchanged."""
    wrong = []
    for split, facts in state.facts.get("data", {}).items():
        path = Path(facts["path"])
        if not path.is_file():
            wrong.append(f"{split} is missing ({path})")
        elif sha256_of(path) != facts["sha256"]:
            wrong.append(f"{split} was changed ({path})")
    if not wrong:
        return [ok("all splits are in the cache, with the hashes in the ledger")]
    way_out = f"{fix(state.folder)} prepares them again where their source is unchanged"
    return [failed(f"prepared data: {few(wrong)}", way_out, lambda: _prepare(state))]


def _prepare(state: SweepState) -> str:
    """Split the source's rows again; they go to where the ledger says they were."""
    from recipes.compose import typed
    from recipes.data import splits

    recipe = typed(state.recipe)
    rows = splits.load(recipe.data, Path(state.facts["base_dir"]), method=recipe.method)
    if rows.identity != state.facts["data_identity"]:
        raise PodiumError("the source has other rows now than when the sweep was started")
    folder = Path(state.facts["data"]["train"]["path"]).parent
    for facts in state.facts["data"].values():
        path = Path(facts["path"])
        if path.is_file() and sha256_of(path) != facts["sha256"]:
            path.unlink()
    for left in folder.glob("validation-*.jsonl"):  # a part of the split, made again when it is needed
        left.unlink()
    paths = splits.write(rows, folder.parent.parent)
    assert all(path == Path(state.facts["data"][split]["path"]) for split, path in paths.items())
    return f"prepared the splits again, in {folder}"
