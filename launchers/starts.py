"""The trials that a stage starts from, as trials of its own that are there already and compete with the others."""

import os
import shutil
from pathlib import Path
from typing import Any

from launchers.place import Place, StartTrial
from tracking.ledger import Evaluation, Ledger, SweepState, TrialState, read
from tracking.meters.cost import trial_cost


def enter(ledger: Ledger, place: Place) -> None:
    """Write the starts that the sweep's present version lacks, with what their stage has measured of them.

    The base's answers come along too: they are the same in every stage, and nobody is asked twice.
    """
    state = ledger.read()
    sources: dict[Path, SweepState] = {}
    for number, start in enumerate(place.starts, start=1):
        source = sources.setdefault(start.folder, read(start.folder))
        _enter(ledger, state, source, start, -number)
    for source in sources.values():
        have = {evaluation.id for evaluation in ledger.read().evaluations()}
        for arm, evaluations in source.arms.items():
            if not state.arms.get(arm):
                _copy(ledger, source, [one for one in evaluations if one.id not in have], place.starts[0].stage)


def _enter(ledger: Ledger, state: SweepState, source: SweepState, start: StartTrial, number: int) -> None:
    trial = source.trials[start.trial]
    assert trial.adapter is not None, "only what left an adapter is started from"
    _keep_settings(source.folder, ledger.folder, trial.id)
    fields: dict[str, Any] = {
        "number": number,
        "values": trial.values,
        "pool": trial.pool,
        "max_steps": trial.max_steps,
        "known": {**_settled(trial), **_loss(state, source, trial)},
        "adapter": _seen_from(ledger.folder, source.folder / trial.adapter),
        "stage": trial.stage or start.stage,  # which may have taken it over from one before
        "stage_number": trial.own_number,
        "spent": trial_cost(source, trial.id),
    }
    there = state.trials.get(trial.id)
    if there is None or any(getattr(there, name) != value for name, value in fields.items()):
        ledger.append("start", trial=trial.id, **fields)
    known = _ids(state.every_trial.get(trial.id))
    _copy(ledger, source, [one for one in (*trial.superseded, *trial.evaluations) if one.id not in known], start.stage)


def _settled(trial: TrialState) -> dict[str, float]:
    """What its settings decide, without the loss of a stage before, which says something else here."""
    return {name: value for name, value in trial.known.items() if name != "val/loss"}


def _loss(state: SweepState, source: SweepState, trial: TrialState) -> dict[str, float]:
    """Its validation loss, where that says the same in both stages: of method sft, on the same rows."""
    here, there = (
        (one.recipe["method"], one.facts["data"]["validation"]["sha256"], one.recipe["train"]["validation_rows"])
        for one in (state, source)
    )
    loss = trial.metrics.get("val/loss")
    return {"val/loss": loss} if here == there and here[0] == "sft" and loss is not None else {}


def _ids(trial: TrialState | None) -> set[str]:
    return {one.id for one in (*trial.superseded, *trial.evaluations)} if trial else set()


def _copy(ledger: Ledger, source: SweepState, evaluations: list[Evaluation], stage: str) -> None:
    """Evaluations as they are, with the stage that has paid for them; their answers stay where they lie."""
    for one in evaluations:
        items = _seen_from(ledger.folder, source.folder / one.items) if one.items else None
        ledger.append("evaluation", **{**vars(one), "items": items, "stage": one.stage or stage})


def _seen_from(folder: Path, path: Path) -> str:
    """A path relative to a run folder: both may move together."""
    return os.path.relpath(path.resolve(), folder.resolve())


def _keep_settings(source: Path, folder: Path, trial: str) -> None:
    """The trial's settings and answers, which stand in its folder in every run folder that has it."""
    for name in ("trial.yaml", "samples.jsonl"):
        there, here = source / "trials" / trial / name, folder / "trials" / trial / name
        if there.is_file() and not here.is_file():
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there, here)
