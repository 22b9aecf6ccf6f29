"""Checks of a sweep's trials: settings that give the trial's id, adapters that are whole, no folder without a trial."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import yaml

from analysis.certificate import settings as settings_of
from analysis.export import ADAPTER
from launchers.disk import FREED, scratch
from launchers.doctor.check import Check, Finding, failed, ok, warning
from launchers.doctor.sweep_ledger import few, fix
from launchers.doctor.sweep_mlflow import fetch
from launchers.events import events
from recipes.adapters import WEIGHTS
from recipes.schema import TRAINING_GROUPS, TRAINING_KEYS
from sweeps.errors import PodiumError
from sweeps.facts import RecipeFacts, StartFacts
from sweeps.trial import num_steps, trial_id, trial_settings
from tracking.ledger import State, SweepState, TrialState, is_open
from tracking.mlflow_runs import TRIAL_TAG

SETTINGS = "trial.yaml"
WHOLE = "restore the run folder from a copy"


def checks(state: SweepState) -> list[Check]:
    """All of this file."""
    return [
        Check("trials' settings", lambda: settings(state), limit_s=60),
        Check("adapters", lambda: adapters(state), limit_s=60),
        Check("folders", lambda: folders(state), limit_s=30),
    ]


def settings(state: SweepState) -> list[Finding]:
    """The settings in each trial's folder are those that its id was made of."""
    recipes = [event for _, event in events(state.folder, "sweep") if event is not None]
    findings = []
    drawn = [trial for trial in state.every_trial.values() if trial.stage is None]  # a stage looks after its own
    for trial in drawn:
        sweep = recipes[min(trial.version, len(recipes)) - 1]
        path = state.folder / "trials" / trial.id / SETTINGS
        problem = _settings_problem(state, trial, sweep)
        if problem is None:
            continue
        again = rebuilt(trial, sweep)
        if _id(again, sweep) == trial.id:
            findings.append(failed(f"trial {trial.number}: {problem}", fix(state.folder), _writer(path, again)))
        else:
            findings.append(failed(f"trial {trial.number}: {problem}", WHOLE))
    return findings or [ok(f"{SETTINGS} of {len(drawn)} trials give their ids again")]


def _settings_problem(state: SweepState, trial: TrialState, sweep: dict[str, Any]) -> str | None:
    """What is wrong with a trial's settings, or None."""
    try:
        found = settings_of(state.folder, trial)
    except Exception as error:  # a YAML parser's own, of which there are several
        return f"{SETTINGS} cannot be read: {type(error).__name__}"
    if found is None:
        return f"{SETTINGS} is missing"
    try:
        made = _id(found, sweep)
    except (KeyError, TypeError, ValueError) as error:
        return f"{SETTINGS} is not a trial's settings: {error!r}"
    return None if made == trial.id else f"{SETTINGS} was changed: it gives the id {made}, not {trial.id}"


def rebuilt(trial: TrialState, sweep: dict[str, Any]) -> dict[str, Any]:
    """A trial's settings, made again from the ledger: the recipe with the trial's values and seed."""
    return trial_settings(sweep["recipe"], trial.values, trial.repeat, _starts(sweep))


def _id(settings: dict[str, Any], sweep: dict[str, Any]) -> str:
    facts, recipe = sweep["facts"], sweep["recipe"]
    rows = int(facts["data"]["train"]["rows"])
    known = RecipeFacts(
        name="",
        settings=recipe,
        keys={},
        training_groups=TRAINING_GROUPS,
        training_keys=TRAINING_KEYS,
        engine=recipe["engine"],
        base_identity=facts["base_identity"],
        starts=_starts(sweep),
        data_identity=facts["data_identity"],
        num_parameters=0,
        train_rows=rows,
        tokens_per_row=0,
    )
    return trial_id(known, settings, num_steps(settings, rows))


def _starts(sweep: dict[str, Any]) -> dict[str, StartFacts]:
    return {where: StartFacts(**start) for where, start in sweep["facts"]["starts"].items()}


def _writer(path: Path, settings: dict[str, Any]) -> Any:
    def write() -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        return f"wrote {path} again, from the ledger"

    return write


def adapters(state: SweepState) -> list[Finding]:
    """Every adapter that the ledger names is there and whole; a trial that is done has one."""
    findings, there, freed = [], 0, 0
    for trial in state.every_trial.values():
        if trial.adapter is None:
            if trial.state is State.DONE:
                findings.append(failed(f"trial {trial.number} is DONE and has no adapter", WHOLE))
            continue
        folder = state.folder / trial.adapter
        if not folder.exists() and folder.with_name(FREED).exists():
            freed += 1
            continue
        problem = adapter_problem(folder)
        if problem is None:
            there += 1
        else:
            says = f"trial {trial.number}: {problem}"
            findings.append(failed(says, f"{fix(state.folder)} asks MLflow for its copy", _restorer(state, trial)))
    also = f"; {freed} were freed by `podium gc --adapters`" if freed else ""
    return findings or [ok(f"{there} adapters are there and whole{also}")]


def adapter_problem(folder: Path) -> str | None:
    """Why a folder is no whole adapter, or None."""
    missing = [name for name in ADAPTER if not (folder / name).is_file()]
    if missing:
        return f"{folder} has no {' and no '.join(missing)}" if folder.is_dir() else f"{folder} is missing"
    if not is_whole(folder / ADAPTER[0]):
        return f"{folder / ADAPTER[0]} is not the length that its header speaks of"
    try:
        json.loads((folder / ADAPTER[1]).read_bytes())
    except ValueError:
        return f"{folder / ADAPTER[1]} is not JSON"
    return None


def is_whole(weights: Path) -> bool:
    """Whether a safetensors file is as long as its header says. https://github.com/huggingface/safetensors#format"""
    with weights.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, weights.stat().st_size)))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (struct.error, ValueError, LookupError, TypeError, AttributeError):
            return False
    return bool(weights.stat().st_size == 8 + length + max(ends, default=0))


def _restorer(state: SweepState, trial: TrialState) -> Any:
    def restore() -> str:
        assert trial.adapter is not None
        folder = state.folder / trial.adapter
        part = folder.with_name("adapter.part")
        shutil.rmtree(part, ignore_errors=True)
        fetch(state, (TRIAL_TAG, trial.id), "adapter", part)
        problem = adapter_problem(part)
        if problem is not None:
            raise PodiumError(f"MLflow's copy is not whole either: {problem}")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        return f"restored the adapter of trial {trial.number} from MLflow's copy"

    return restore


def folders(state: SweepState) -> list[Finding]:
    """No folder without a trial, and nothing that is half-written."""
    if is_open(state.folder):
        return [ok("not looked at while the sweep is open: its driver makes folders before it tells of them")]
    findings = []
    known = state.every_trial
    place = state.folder / "trials"
    orphans = sorted(path for path in place.iterdir() if path.name not in known) if place.is_dir() else []
    for path in orphans:
        if any(path.rglob(WEIGHTS)):
            says = f"{path} is of no trial in the ledger, and holds an adapter"
            findings.append(warning(says, "look at it, and remove it by hand"))
        else:
            says = f"{path} is of no trial in the ledger"
            findings.append(warning(says, fix(state.folder), _remover([path])))
    halves = scratch(state.folder)
    if halves:
        says = f"left by a process that was ended: {few([str(path) for path in halves])}"
        findings.append(warning(says, fix(state.folder), _remover(halves)))
    return findings or [ok("every folder is of a trial, and nothing is half-written")]


def _remover(paths: list[Path]) -> Any:
    def remove() -> str:
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return f"removed {few([str(path) for path in paths])}"

    return remove
