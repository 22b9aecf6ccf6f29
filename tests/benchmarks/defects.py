"""Planted defects on the demo: how many of each its rubric finds, and how often it finds fault with right answers.

In all rows that no trial trains on. What plants and what scores share no code (tests/tracking/meters/defects/).
"""

from pathlib import Path
from typing import Any

from launchers.build import build
from launchers.evaluation import item_of
from sweeps.evaluating import Defects
from tests.benchmarks.report import ROOT, report
from tracking.meters.defects import load_defect
from tracking.meters.instrument import CLEAN, Reading, take_readings
from tracking.meters.shopping import shopping

SWEEP = ROOT / "sweeps" / "quickstart.yaml"
HELD_OUT = ("validation", "dev", "challenge")


def run() -> None:
    """Plant, score, and write the report."""
    built = build(SWEEP)
    rows = [row for split in HELD_OUT for row in built.rows.rows[split]]
    items = [item_of({**row, "id": number}, number) for number, row in enumerate(rows)]
    settings = Defects(rows=len(items))
    defects = [load_defect(name, Path()) for name in settings.plant]
    taken = take_readings(items, defects, settings, [shopping])
    conditions: dict[str, Any] = {
        "scorer": "shopping, the demo's rubric (code)",
        "data": f"{', '.join(HELD_OUT)} of {SWEEP.relative_to(ROOT)}",
        "rows": len(items),
        "found": f"at least {settings.drop:g} level below the clean answer's score",
        "false alarm": f"a right answer that scores below {settings.clean:g}",
        "interval": "95 %, Wilson",
    }
    report("defects", [_row(reading) for reading in taken.readings], conditions)


def _row(reading: Reading) -> dict[str, Any]:
    aim = f"at most {reading.limit:.0%}" if reading.defect == CLEAN else f"at least {reading.limit:.0%}"
    return {
        "defect": "none: false alarms" if reading.defect == CLEAN else reading.defect,
        "n": reading.n,
        "found": reading.found,
        "share": reading.rate,
        "low": reading.low,
        "high": reading.high,
        "aim": aim,
        "kept with 95 % confidence": _kept(reading),
        "why not": reading.skipped or "",
    }


def _kept(reading: Reading) -> bool | None:
    """Whether the whole interval lies on the right side of the aim."""
    if reading.low is None or reading.high is None:
        return None
    return reading.high <= reading.limit if reading.defect == CLEAN else reading.low >= reading.limit
