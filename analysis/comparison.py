"""The plain comparison that says whether a champion means something: the same items, the same code, n in every row."""

import math
from typing import Any

import pandas as pd

from analysis.champion import Choice, default_trial, median_trial
from analysis.frame import arms
from tracking.ledger import SweepState
from tracking.state import BASE, BASE_SCHEMA, INCUMBENT

LABELS = {BASE: "Base model", BASE_SCHEMA: "Base model, schema enforced"}


def standing(state: SweepState) -> dict[str, str]:
    """The arms that no trial made, by name, as people call them: the base and, where there are any, the others."""
    present = {arm: label for arm, label in LABELS.items() if arm == BASE or arm in state.arms}
    incumbent = (state.spec.get("evaluate") or {}).get("incumbent")
    if incumbent:
        present[INCUMBENT] = f"Incumbent, {incumbent['name']}" if incumbent.get("name") else "Incumbent"
    return present


def baseline(state: SweepState) -> str:
    """The arm that a sweep's relative figures are against: its incumbent, where there is one, else the base.

    An incumbent that could not be measured is the baseline all the same: no other takes its place without a word.
    """
    return INCUMBENT if INCUMBENT in standing(state) else BASE


def comparison(state: SweepState, choice: Choice, split: str = "challenge") -> pd.DataFrame:
    """Base, base with the schema enforced, incumbent, default recipe, median trial and champion on one split.

    In a later stage the trial that it starts from stands before those of its own.

    Returns:
        One row each, in that order; a trial appears under every role it has. Columns ``role label arm number n`` and
        the metrics; ``n`` is 0 and metrics are NaN where an arm was not evaluated on the split. Arms that do not
        exist in this sweep (no schema, no incumbent, no default trial, no champion) have no row.
    """
    evaluated = arms(state)
    evaluated = evaluated[evaluated["split"] == split].set_index("arm")
    names = [name for name in evaluated.columns if "/" in name and evaluated[name].notna().any()]
    trials = {"default": default_trial(state), "median": median_trial(state, choice.rule), "champion": choice.champion}
    words = {"default": "Default recipe", "median": "Median trial", "champion": "Champion"}
    roles = [(arm, label, arm) for arm, label in standing(state).items()]
    roles += [("start", f"Champion of {one.stage}", one.id) for one in list(state.starts.values())[:1]]
    roles += [(role, words[role], trial) for role, trial in trials.items() if trial is not None]
    rows: list[dict[str, Any]] = []
    for role, label, arm in roles:
        measured = evaluated.loc[arm] if arm in evaluated.index else None
        rows.append(
            {
                "role": role,
                "label": label,
                "arm": arm,
                "number": _number(state, arm),
                "n": 0 if measured is None else int(measured["n"]),
                **{name: math.nan if measured is None else float(measured[name]) for name in names},
            }
        )
    return pd.DataFrame(rows, columns=["role", "label", "arm", "number", "n", *names]).astype({"number": "Int64"})


def _number(state: SweepState, arm: str) -> int | None:
    trial = state.trials.get(arm)
    return None if trial is None else trial.own_number
