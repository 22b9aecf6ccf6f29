"""A sweep in a real ledger whose arms have answered, with a decision where one is given: what a judge compares."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.ledger import FORMAT, Ledger, SweepState, read

RUBRIC = "5: the answer is long. 0: it is short."
PRICE = {"input_usd_per_1m": 2.0, "output_usd_per_1m": 10.0, "source": "list", "date": "2026-11-01"}


def settings(endpoint: str, **more: Any) -> dict[str, Any]:
    """A judge that is served there."""
    return {"model": "m", "endpoint": endpoint, "rubric": RUBRIC, "price": PRICE, "timeout": 0.2, "panel": [], **more}


def answered_sweep(
    home: Path,
    judge: Mapping[str, Any] | None,
    answers: Mapping[tuple[str, str], Sequence[str]],
    decided: tuple[Sequence[str], Sequence[str]] | None = None,
    gates: Mapping[str, Mapping[int, float | None]] | None = None,
    group: str | None = None,
) -> SweepState:
    """Write the ledger and the answers of a sweep called ``shop``.

    Args:
        home: Podium's.
        judge: ``evaluate.judge``; None for a sweep without one.
        answers: By arm and split, to items ``i0``, ``i1``, …. Arms named ``t…`` are its trials, from number 0 on; two
            items each are of one ``shopper``.
        decided: Contenders and references of the decision on the challenge set.
        gates: By arm, what its gate says of some items; 1 of the others.
        group: ``data.group``.
    """
    folder = home / "runs" / "shop"
    spec = {
        "evaluate": {"judge": judge and dict(judge)},
        "champion": {"maximize": "quality/score", "minimize": None, "subject_to": {}},
    }
    with Ledger(folder) as ledger:
        recipe = {"data": {"group": group}}
        ledger.append("sweep", name="shop", format=FORMAT, spec=spec, recipe=recipe, facts={})
        for number, arm in enumerate(dict.fromkeys(arm for arm, _ in answers if arm.startswith("t"))):
            ledger.append("trial", trial=arm, number=number, values={"lora.rank": 8}, pool="cpu", max_steps=1)
            ledger.append("adapter", trial=arm, folder=f"trials/{arm}/adapter")
            ledger.append("state", trial=arm, state="DONE")
        (folder / "evaluations").mkdir(parents=True)
        for (arm, split), texts in answers.items():
            write_answers(folder, arm, split, texts, (gates or {}).get(arm))
            metrics = {"quality/score": float(sum(map(len, texts))) / len(texts)}
            items = f"evaluations/{arm}-{split}.jsonl"
            ledger.append(
                "evaluation", id=f"{arm}-{split}", arm=arm, split=split, n=len(texts), metrics=metrics, items=items
            )
        if decided:
            rule = {"contenders": list(decided[0]), "references": list(decided[1])}
            ledger.append("champion", champion={"champion": decided[0][0], "outcome": {"rule": rule}})
        ledger.append("end", status="DONE")
    return read(folder)


def write_answers(
    folder: Path, arm: str, split: str, texts: Sequence[str], gate: Mapping[int, float | None] | None = None
) -> None:
    """An evaluation's file of answers."""
    lines = [
        {
            "id": f"i{number}",
            "messages": [{"role": "user", "content": f"Question {number}?"}],
            "reference": "A right answer.",
            "row": {"shopper": f"s{number // 2}"},
            "answer": text,
            "metrics": {"gate/json_schema": (gate or {}).get(number, 1.0)},
        }
        for number, text in enumerate(texts)
    ]
    path = folder / "evaluations" / f"{arm}-{split}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
