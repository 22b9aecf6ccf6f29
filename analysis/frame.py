"""A sweep as tables: one row per trial, per report, or per evaluated arm. Everything in this room reads these.

In a notebook::

    from analysis.frame import frame, open_sweep
    frame(open_sweep("commerce-sft", Path(".podium"))).sort_values("quality/score")
"""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.stages import whole_name
from tracking.folders import folder_of, run_folders, stage_folders
from tracking.ledger import FILE_NAME, SweepState, TrialState, read
from tracking.meters.cost import trial_cost
from tracking.state import DEFECTS

TRIAL_COLUMNS = ("number", "state", "pool", "step", "max_steps")
CURVE_METRICS = ("train/loss", "val/loss", "train/lr")


def list_sweeps(home: Path) -> list[str]:
    """The names of the sweeps under ``<home>/runs``, the latest started first; of a staged one that of the whole."""
    began: dict[str, float] = {}
    for name, folder in run_folders(home):
        began[whole_name(name)] = max(began.get(whole_name(name), -math.inf), _start_time(folder))
    return sorted(began, key=lambda name: (-began[name], name))


def _start_time(folder: Path) -> float:
    """The time of a ledger's first event; a ledger that is not readable yet counts as the oldest."""
    with (folder / FILE_NAME).open(encoding="utf-8", errors="replace") as file:
        try:
            return float(json.loads(file.readline())["t"])
        except (ValueError, KeyError, TypeError):
            return -math.inf


def open_sweep(name: str | None, home: Path) -> SweepState:
    """The state of a sweep by its name; of the latest by start time when ``name`` is None.

    A staged sweep is its last stage, or, before that has begun, the last one that has. ``<sweep>/<stage>`` names one.

    Raises:
        InvalidInput: There is no such sweep; the nearest existing names are told.
    """
    return read(run_folder(name, home))


def run_folder(name: str | None, home: Path) -> Path:
    """The run folder that :func:`open_sweep` reads, whose ledger may be unreadable. Raises as that does."""
    names = list_sweeps(home)
    if name is None:
        if not names:
            problem = Problem(str(home / "runs"), "no sweep here yet", "start one with `podium submit SWEEP.yaml`")
            raise InvalidInput(problem)
        name = names[0]
    sweep, _, stage = name.partition("/")
    stages = stage_folders(home, sweep) if sweep in names else {}
    begun = {one: folder for one, folder in stages.items() if (folder / FILE_NAME).is_file()}
    if stage and sweep in names:
        if stage not in stages:
            way = nearest(name, [f"{sweep}/{one}" for one in stages]) if stages else f"`podium status {sweep}` shows it"
            rule = f'{sweep} has no stage "{stage}"' if stages else f"{sweep} has no stages"
            raise InvalidInput(Problem("sweep", rule, way))
        if stage not in begun:
            rule = f"the stage {stage} of {sweep} has not begun"
            raise InvalidInput(Problem("sweep", rule, f"`podium status {sweep}` shows how far it is"))
        return begun[stage]
    if name not in names:
        every = [*names, *(one for one, _ in run_folders(home) if "/" in one)]
        hint = nearest(name, every) if names else "there are none yet: `podium submit SWEEP.yaml` starts one"
        if name.endswith((".yaml", ".yml")):
            hint = "a sweep that was started goes by the `name` in its YAML"
        raise InvalidInput(Problem("sweep", f'no sweep is called "{name}" under {home / "runs"}', hint))
    return list(begun.values())[-1] if begun else folder_of(home, name)


def swept_keys(state: SweepState) -> list[str]:
    """Every swept key by its path, in the order in which the trials name them."""
    return list(dict.fromkeys(key for trial in state.drawn.values() for key in trial.values))


def metric_names(state: SweepState) -> list[str]:
    """Every metric that some trial has, the cost of a trial included, sorted."""
    return sorted({name for trial in state.trials.values() for name in trial_metrics(state, trial)})


def trial_metrics(state: SweepState, trial: TrialState) -> dict[str, float]:
    """The finite metrics of one trial. Its cost is the sum of the ledger's cost entries, its evaluation included."""
    merged: dict[str, float | None] = dict(trial.metrics)
    merged.update(trial_cost(state, trial.id))
    return {name: float(value) for name, value in merged.items() if value is not None and math.isfinite(value)}


def frame(state: SweepState) -> pd.DataFrame:
    """One row per trial, indexed by its id, in the order of trial numbers.

    Columns: ``number state pool step max_steps``, every swept key by its path, every metric by its name (NaN where it
    was not measured), ``seconds`` (wall clock from the first start to the end, or to the last report of a trial that
    goes on) and ``adapter`` (folder, relative to the run folder, or None).
    """
    keys, names = swept_keys(state), metric_names(state)
    rows = []
    for trial in sorted(state.trials.values(), key=lambda trial: trial.number):
        metrics = trial_metrics(state, trial)
        rows.append(
            {
                "trial": trial.id,
                "number": trial.number,
                "state": str(trial.state),
                "pool": trial.pool,
                "step": trial.step,
                "max_steps": trial.max_steps,
                **{key: _value(state, trial, key) for key in keys},
                **{name: metrics.get(name, math.nan) for name in names},
                "seconds": _seconds(trial),
                "adapter": trial.adapter,
            }
        )
    columns = ["trial", *TRIAL_COLUMNS, *keys, *names, "seconds", "adapter"]
    table = pd.DataFrame(rows, columns=columns).set_index("trial")
    return table.astype(dict.fromkeys([*names, "seconds"], float) | {"adapter": object})


def _value(state: SweepState, trial: TrialState, key: str) -> Any:
    """A swept value; an adapter of an earlier stage by the trial that left it. A trial of that stage has none here."""
    if trial.stage is not None:
        return None
    value = trial.values.get(key)
    if key != "start.adapter" or not isinstance(value, str):
        return value
    left = next((name for name in state.starts if name in Path(value).parts), None)
    return state.starts[left].label if left else value


def _seconds(trial: TrialState) -> float:
    if trial.started is None:
        return math.nan
    end = trial.ended or max((report["t"] for report in trial.reports), default=trial.started)
    return float(end - trial.started)


def curves(state: SweepState) -> pd.DataFrame:
    """Every report in long form: ``trial number step train/loss val/loss train/lr``; NaN where a report lacks one."""
    rows = []
    for trial in sorted(state.trials.values(), key=lambda trial: trial.number):
        for report in trial.reports:
            metrics = {name: _number(report.get(name)) for name in CURVE_METRICS}
            rows.append({"trial": trial.id, "number": trial.number, "step": report["step"], **metrics})
    return pd.DataFrame(rows, columns=["trial", "number", "step", *CURVE_METRICS])


def arms(state: SweepState) -> pd.DataFrame:
    """One row per arm and split: ``arm number split n`` and every metric that was evaluated.

    An arm is a trial's id, with its number in ``number``, or a name such as ``base`` or ``base+schema``, without.
    """
    rows = []
    for evaluation in state.evaluations():
        arm = evaluation.arm
        if arm == DEFECTS:
            continue
        number = state.trials[arm].number if arm in state.trials else math.nan
        values = {name: _number(value) for name, value in evaluation.metrics.items()}
        rows.append({"arm": arm, "number": number, "split": evaluation.split, "n": evaluation.n, **values})
    names = sorted({name for row in rows for name in row} - {"arm", "number", "split", "n"})
    table = pd.DataFrame(rows, columns=["arm", "number", "split", "n", *names])
    return table.astype({"number": float} | dict.fromkeys(names, float))


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
