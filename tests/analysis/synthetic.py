"""A synthetic sweep in a real ledger, stored items, and where a tiny model lies."""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracking.ledger import FORMAT, Ledger, SweepState, read

SPEC: dict[str, Any] = {
    "name": "shop",
    "recipe": "tiny_commerce_sft",
    "space": {"optimizer.lr": "loguniform(1e-4, 1e-1)", "optimizer.name": "choice(adam, adamw)"},
    "search": {"algorithm": "tpe", "trials": 20, "start_at": "default"},
    "champion": {"maximize": "quality/score", "minimize": None, "subject_to": {"quality/json_valid": ">= 0.9"}},
}
FACTS = {
    "base_identity": "hub:tiny@main",
    "default_trial": "00ab34ef",
    "data_identity": "d" * 64,
    "price": {"cpu": {"usd_per_hour": 0.05, "date": "2026-11-09"}},
}


def synthetic(home: Path, name: str = "shop", num_trials: int = 20, spec: dict[str, Any] | None = None) -> SweepState:
    """Write the ledger of a finished sweep whose quality depends on the learning rate, and read it back."""
    folder = home / "runs" / name
    rng = random.Random(7)
    with Ledger(folder) as ledger:
        ledger.append("sweep", name=name, format=FORMAT, spec={**(spec or SPEC), "name": name}, recipe={}, facts=FACTS)
        for number in range(num_trials):
            _trial(ledger, number, rng)
        for arm, score in (("base", 0.0), ("base+schema", 1.1)):
            for split in ("dev", "challenge"):
                metrics = {"quality/score": score, "quality/json_valid": 0.0 if arm == "base" else 1.0}
                ledger.append("evaluation", id=f"{arm}-{split}", arm=arm, split=split, n=48, metrics=metrics)
        ledger.append("cost", kind="idle", pool="cpu", unit_s=60.0, usd=0.0008)
        ledger.append("end", status="DONE")
    return read(folder)


def trial_id(number: int) -> str:
    """The id of a synthetic trial."""
    return f"{number:02d}ab34ef"


def _trial(ledger: Ledger, number: int, rng: random.Random) -> None:
    trial = trial_id(number)
    lr = 2e-3 if number == 0 else math.exp(rng.uniform(math.log(1e-4), math.log(1e-1)))
    adamw = rng.random() < 0.5
    values = {
        "optimizer.name": "adamw" if adamw else "adam",
        "optimizer.lr": lr,
        "optimizer.weight_decay": rng.choice((0.0, 0.01)) if adamw else 0.0,
        "schedule.min_lr_ratio": rng.uniform(0, 0.1),
        "lora.rank": rng.choice((4, 8, 16, 32)),
    }
    ledger.append("trial", trial=trial, number=number, values=values, pool="cpu", max_steps=80)
    ledger.append("state", trial=trial, state="RUNNING")
    miss = abs(math.log10(lr) + 2.1)  # the best rate is about 8e-3
    stopped = miss > 1.2
    for step in range(10, 41 if stopped else 81, 10):
        val = 0.15 + 0.25 * miss + 2.0 * math.exp(-step / (18 + 12 * miss)) + rng.gauss(0, 0.01)
        metrics = {"train/loss": val * rng.uniform(0.9, 1.05), "val/loss": val, "train/lr": lr * (1 - step / 100)}
        ledger.append("report", trial=trial, step=step, metrics=metrics)
    ledger.append("adapter", trial=trial, folder=f"trials/{trial}/adapter")
    ledger.append("state", trial=trial, state="STOPPED" if stopped else "DONE")
    ledger.append(
        "cost",
        kind="training",
        pool="cpu",
        unit_s=40.0 if stopped else 70.0 + rng.uniform(0, 9),
        usd=0.001,
        trial=trial,
    )
    ledger.append("cost", kind="evaluation", pool="cpu", unit_s=12.0, usd=0.0002 + rng.uniform(0, 1e-4), trial=trial)
    score = max(0.0, 4.8 - 2.2 * miss + rng.gauss(0, 0.15))
    for split in ("dev", "challenge"):
        metrics = {
            "quality/score": round(score - (0.1 if split == "challenge" else 0), 3),
            "quality/json_valid": 1.0 if miss < 0.8 else 0.5,
            "quality/exact_match": round(score / 12, 3),
        }
        items = f"trials/{trial}/items.jsonl" if split == "dev" else None
        ledger.append("evaluation", id=f"{trial}-{split}", arm=trial, split=split, n=48, metrics=metrics, items=items)
    if miss < 0.5:
        latency = {"latency/agent_p95_s": 1.2 + rng.uniform(0, 0.8), "latency/agent_p99_s": None}
        ledger.append("evaluation", id=f"{trial}-latency", arm=trial, split="latency", n=90, metrics=latency)


def items(num_items: int = 6) -> list[dict[str, Any]]:
    """Stored items, answered and scored."""
    return [
        {
            "id": f"i{index}",
            "messages": [{"role": "user", "content": f"w{index}"}],
            "reference": "w1",
            "row": {"index": index},
            "answer": f"w{index}",
            "metrics": {"quality/score": float(index % 6), "quality/json_valid": 1.0},
        }
        for index in range(num_items)
    ]


@dataclass(frozen=True)
class Tiny:
    """A base model's folder and a LoRA adapter of it."""

    base: Path
    adapter: Path
