"""What the instrument that scored a sweep is worth: how many planted defects it finds, and how often it cries wolf."""

from typing import Any

import pandas as pd

from tracking.ledger import SweepState
from tracking.meters.instrument import CLEAN
from tracking.state import DEFECTS

COLUMNS = ["scorer", "defect", "n", "found", "rate", "low", "high", "limit", "met", "missing", "skipped"]


def readings(state: SweepState) -> pd.DataFrame:
    """The readings of a sweep's scorers, the one that counts first; empty where none were taken.

    Returns:
        One row a scorer and defect, the false alarms first (``defect`` is "clean"). ``rate`` is the share that was
        found among ``n``, ``low`` and ``high`` its 95 % Wilson interval; ``limit`` the least that should be found, of
        clean answers the most; ``met`` whether the rate keeps to it, NA without answers. ``missing`` answers had no
        score. ``skipped`` says why a defect was planted nowhere.
    """
    found: list[dict[str, Any]] = []
    for evaluation in state.arms.get(DEFECTS, []):
        found += evaluation.detail.get("readings", [])
    rows = [{**one, "rate": one["found"] / one["n"] if one["n"] else None, "met": _met(one)} for one in found]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"rate": float, "low": float, "high": float, "limit": float, "met": "boolean"})


def _met(reading: dict[str, Any]) -> bool | None:
    if not reading["n"]:
        return None
    rate = reading["found"] / reading["n"]
    return bool(rate <= reading["limit"] if reading["defect"] == CLEAN else rate >= reading["limit"])


def in_words(state: SweepState) -> list[str]:
    """A line for each scorer: what it finds, what it misses, and its false alarms, each with its n."""
    return [_line(str(scorer), rows) for scorer, rows in readings(state).groupby("scorer", sort=False)]


def _line(scorer: str, rows: pd.DataFrame) -> str:
    planted = rows[(rows["defect"] != CLEAN) & (rows["n"] > 0)]
    clean = rows[rows["defect"] == CLEAN].iloc[0]
    met = planted["met"].fillna(False)
    parts = [f"{int(met.sum())} of {len(planted)} planted defects are found often enough"]
    parts += [f"{row.defect} in {row.found} of {row.n}" for row in planted[~met].itertuples()]
    alarms = f"{clean['found']} false alarms in {clean['n']} clean answers"
    return f"scored by {scorer}: {', '.join(parts)}; {alarms}"
