"""A recipe, pools and sweeps to test with, built by hand: sweeps/ is handed these by others."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.facts import KeyFacts, Pool, RecipeFacts
from sweeps.loading import check_source
from sweeps.source import parse_source
from sweeps.spec import Sweep, resolve
from tests.pools import pool

SETTINGS: dict[str, Any] = {
    "engine": "nemo",
    "base": {"path": "assets/tiny"},
    "start": {"adapter": None},
    "data": {"path": "assets/rows.jsonl"},
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.05, "targets": ["q_proj", "v_proj"]},
    "optimizer": {"name": "adamw", "lr": 5e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
    "schedule": {"name": "cosine", "warmup_steps": 5, "min_lr_ratio": 0.1},
    "train": {
        "max_steps": 60,
        "epochs": None,
        "batch_size": 8,
        "micro_batch_size": 8,
        "clip": 1.0,
        "validate_every": 20,
        "seed": 0,
    },
    "parallel": {"gpus": 1, "tp": 1},
    "generate": {"max_new_tokens": 64},
}
KEYS = {
    "base.path": KeyFacts("str"),
    "lora.rank": KeyFacts("int", low=1, high=1024),
    "lora.alpha": KeyFacts("float", low=0, exclusive_low=True),
    "lora.dropout": KeyFacts("float", low=0, high=1),
    "lora.targets": KeyFacts("list"),
    "optimizer.name": KeyFacts("str", choices=("adam", "adamw", "sgd")),
    "optimizer.lr": KeyFacts("float", low=0, exclusive_low=True),
    "optimizer.weight_decay": KeyFacts("float", low=0),
    "schedule.name": KeyFacts("str", choices=("cosine", "constant")),
    "schedule.min_lr_ratio": KeyFacts("float", low=0, high=1),
    "schedule.warmup_steps": KeyFacts("int", low=0),
    "train.max_steps": KeyFacts("int", low=1, optional=True),
    "train.epochs": KeyFacts("float", low=0, exclusive_low=True, optional=True),
    "train.batch_size": KeyFacts("int", low=1),
    "train.clip": KeyFacts("float", low=0, optional=True),
    "train.seed": KeyFacts("int", low=0),
    "parallel.gpus": KeyFacts("int", low=1),
}


@pytest.fixture(scope="session")
def facts() -> RecipeFacts:
    return RecipeFacts(
        name="tiny_commerce_sft",
        settings=copy.deepcopy(SETTINGS),
        keys=KEYS,
        training_groups=("lora", "optimizer", "schedule", "train"),
        engine="nemo",
        base_identity="b" * 64,
        data_identity="d" * 64,
        num_parameters=4_000_000,
        train_rows=700,
        tokens_per_row=400.0,
        sources={"tokens_per_row": "mean over 700 rows"},
    )


@pytest.fixture(scope="session")
def pools() -> dict[str, Pool]:
    made = (pool("cpu", 0.05, 0.02, 10), pool("h100", 4.0, 400, 60), pool("b200", 6.0, 900, 60))
    return {one.name: one for one in made}


Make = Callable[..., Sweep]


@pytest.fixture(scope="session")
def make_sweep(facts: RecipeFacts, pools: dict[str, Pool]) -> Make:
    """Makes a Sweep of the YAML below ``name`` and ``recipe``."""

    def make(text: str, recipe: RecipeFacts = facts) -> Sweep:
        source = parse_source(f"name: test\nrecipe: tiny_commerce_sft\n{text}")
        return resolve(check_source(source), recipe, pools)

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a sweep YAML and gives its path."""

    def write_text(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text
