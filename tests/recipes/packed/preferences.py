"""Preference pairs whose rejected answer is the chosen one, corrupted."""

import json
from pathlib import Path
from typing import Any

from recipes.engines.protocol import Job
from tests.recipes.packed.conftest import Bench
from tests.recipes.tiny import WORDS, chat_rows


def pairs(number: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows in the common form: of the two words that the shopper names, the rejected answer has one wrong."""
    rows = []
    for place, messages in enumerate(chat_rows(number, start), start=start):
        answer = json.loads(messages[-1]["content"])["products"]
        answer[place % 2] = WORDS[(place * 7 + 3) % 12]
        rejected = json.dumps({"products": [*answer, "gift card"][: 2 + place % 2]}, separators=(",", ":"))
        rows.append({"messages": messages, "rejected": rejected})
    return rows


def write_pairs(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The pairs as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def dpo_job(bench: Bench, folder: Path, start: Path | None = None, mode: str = "continue", **overrides: Any) -> Job:
    """A trial of method dpo over pairs in ``folder``; keys of the preference by ``preference__key``."""
    preference = {
        key.removeprefix("preference__"): overrides.pop(key)
        for key in list(overrides)
        if key.startswith("preference__")
    }
    job = bench.job(**overrides)
    settings = {**job.settings, "method": "dpo", "preference": preference}
    settings["start"] = {"adapter": str(start) if start else None, "mode": mode}
    train, validation = folder / "train.jsonl", folder / "validation.jsonl"
    if not train.exists():
        write_pairs(train, pairs(24))
        write_pairs(validation, pairs(6, start=40))
    return Job(settings, job.base, train, validation, folder, "cpu", 1, start)
