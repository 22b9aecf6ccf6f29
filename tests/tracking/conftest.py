"""A small sweep in a ledger, written as the driver writes one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tracking.ledger import FORMAT, Ledger, SweepState, read
from tracking.mlflow_client import check, default_uri

TRIALS = ("t-aaaa", "t-bbbb", "t-cccc")


class Driver:
    """Appends to a ledger what the real driver would."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.folder = ledger.folder

    def begin(self, name: str = "shoes") -> None:
        spec = {"name": name, "recipe": "tiny", "search": {"algorithm": "tpe", "trials": 3, "seed": 0}}
        self.folder.joinpath("spec.yaml").write_text("name: shoes\n")
        self.ledger.append("sweep", name=name, format=FORMAT, spec=spec, recipe={}, facts={})

    def trial(self, number: int) -> str:
        trial = TRIALS[number]
        values = {"optimizer.lr": 10.0**-number, "lora.targets": ["*.q_proj"], "optimizer.name": "adam"}
        self.ledger.append("trial", trial=trial, number=number, values=values, pool="cpu", max_steps=40)
        self.ledger.append("state", trial=trial, state="RUNNING")
        return trial

    def report(self, trial: str, step: int, loss: float) -> None:
        self.ledger.append("report", trial=trial, step=step, metrics={"train/loss": loss, "val/loss": loss + 0.1})

    def evaluation(self, arm: str, split: str = "dev", **metrics: float | None) -> None:
        named = {key.replace("__", "/"): value for key, value in metrics.items()}
        items = self.folder / "trials" / arm / f"{split}.jsonl"
        items.parent.mkdir(parents=True, exist_ok=True)
        items.write_text('{"id": "1", "answer": "yes"}\n')
        relative = str(items.relative_to(self.folder))
        self.ledger.append(
            "evaluation", id=f"{arm}-{split}", arm=arm, split=split, n=1, metrics=named, items=relative, detail={}
        )

    def finish(self, trial: str, state: str = "DONE", **fields: Any) -> None:
        folder = self.folder / "trials" / trial
        (folder / "adapter").mkdir(parents=True, exist_ok=True)
        (folder / "adapter" / "adapter_config.json").write_text("{}")
        (folder / "trial.yaml").write_text("lr: 1\n")
        self.ledger.append("adapter", trial=trial, folder=f"trials/{trial}/adapter")
        self.ledger.append("cost", kind="training", pool="cpu", unit_s=10.0, usd=0.5, trial=trial)
        self.ledger.append("state", trial=trial, state=state, **fields)

    def end(self, status: str = "DONE") -> None:
        self.folder.joinpath("report.html").write_text("<html></html>")
        self.ledger.append("end", status=status)

    def state(self) -> SweepState:
        return read(self.folder)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with Ledger(tmp_path / "runs" / "shoes") as ledger:
        yield Driver(ledger)


@pytest.fixture
def whole_sweep(driver: Driver) -> Driver:
    """Three trials (done, stopped, failed), an untrained arm, a champion."""
    driver.begin()
    for number in range(3):
        trial = driver.trial(number)
        for step in range(1, 5):
            driver.report(trial, step * 10, 2.0 - 0.1 * step)
    driver.evaluation("t-aaaa", quality__score=4.5, latency__formulation_p99_s=None)
    driver.evaluation("t-aaaa", "challenge", quality__score=4.25)
    driver.evaluation("base", quality__score=0.5)
    driver.finish("t-aaaa")
    driver.finish("t-bbbb", "STOPPED", reason="asha")
    driver.finish("t-cccc", "FAILED", error="loss is NaN")
    driver.ledger.append("cost", kind="idle", pool="cpu", unit_s=4.0, usd=0.25)
    driver.ledger.append("champion", champion={"champion": "t-aaaa"})
    driver.end()
    return driver


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Making the tables takes seconds, copying the file none.
    home = tmp_path_factory.mktemp("mlflow")
    check(default_uri(home), limit_s=120)
    return home / "mlflow.db"


@pytest.fixture
def mlflow_home(_empty_database: Path, tmp_path: Path) -> Path:
    shutil.copy(_empty_database, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture(autouse=True)
def _environment_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    for key in os.environ.keys() - before.keys():
        del os.environ[key]
