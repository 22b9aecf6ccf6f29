"""A sweep in a real ledger whose arms have answered and were judged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracking.ledger import FORMAT, Ledger, SweepState, read
from tracking.meters.judge import Verdict

SETTINGS: dict[str, Any] = {
    "panel": [],
    "model": "m",
    "endpoint": "http://127.0.0.1:9/v1",
    "rubric": "5 is good.",
    "revision": None,
    "parameters": {"temperature": 0.0},
}

Answers = Mapping[str, tuple[str, Verdict, float | None]]
"""By item: the answer, the verdict, and the score by code beside it."""


def judged_sweep(
    home: Path, arms: Mapping[str, Answers], settings: Mapping[str, Any] | None = None, name: str = "shop"
) -> SweepState:
    """Write the ledger and the evaluations of a sweep. Arms that are named ``t…`` are its trials, from number 0 on."""
    settings = SETTINGS if settings is None else settings
    folder = home / "runs" / name
    spec = {"evaluate": {"judge": dict(settings) or None}}
    with Ledger(folder) as ledger:
        ledger.append("sweep", name=name, format=FORMAT, spec=spec, recipe={}, facts={})
        for number, arm in enumerate(arm for arm in arms if arm.startswith("t")):
            ledger.append("trial", trial=arm, number=number, values={}, pool="cpu", max_steps=1)
            ledger.append("state", trial=arm, state="DONE")
        for arm, answers in arms.items():
            items = f"evaluations/{arm}-dev.jsonl"
            (folder / "evaluations").mkdir(exist_ok=True)
            (folder / items).write_text("".join(_line(item, *entry) for item, entry in answers.items()))
            ledger.append(
                "evaluation",
                id=f"{arm}-dev",
                arm=arm,
                split="dev",
                n=len(answers),
                metrics={},
                items=items,
                detail={"judge": dict(settings)},
            )
        ledger.append("end", status="DONE")
    return read(folder)


def _line(item: str, answer: str, verdict: Verdict, by_code: float | None) -> str:
    metrics = {} if by_code is None else {"quality/rubric_score": by_code}
    record = {"id": item, "messages": [], "reference": "", "row": {}, "answer": answer, "metrics": metrics}
    return json.dumps({**record, "judge": verdict.to_dict()}) + "\n"
