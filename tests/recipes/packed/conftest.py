"""A tiny base, rows, and packs of trials on them."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from recipes.engines.packed.rows import Rows
from recipes.engines.protocol import Job
from recipes.schema import Base, Recipe
from tests.peers import peft_losses
from tests.recipes.tiny import chat_rows, make_base, one_thread, tiny_settings, write_rows


@pytest.fixture(scope="session", autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


class Bench:
    """Trials on one base, in packs and in plain PEFT."""

    def __init__(self, folder: Path, base: Path, num_rows: int = 24) -> None:
        from transformers import AutoTokenizer

        self.folder, self.base = folder, base
        self.train = write_rows(folder / "train.jsonl", chat_rows(num_rows))
        self.validation = write_rows(folder / "validation.jsonl", chat_rows(6, start=40))
        self.rows = Rows(self.train, AutoTokenizer.from_pretrained(base))
        self._networks: dict[str, Any] = {}

    def job(self, **overrides: Any) -> Job:
        """A trial's job; without dropout unless it is asked for. ``packed`` overrides the engine's own block."""
        packed = overrides.pop("packed", {})
        settings = tiny_settings(self.base, **{"lora__dropout": 0.0, **overrides})
        return Job(
            {**settings, "engine": "packed", "packed": packed},
            str(self.base),
            self.train,
            self.validation,
            self.folder,
            "cpu",
            1,
        )

    def network(self, dtype: str = "float32") -> Any:
        from recipes.engines.packed.network import Network

        if dtype not in self._networks:
            self._networks[dtype] = Network(str(self.base), Base(path=str(self.base), dtype=dtype), "cpu")
        return self._networks[dtype]

    def pack(self, chunk: int | None = None, dtype: str = "float32") -> Any:
        """A pack; ``chunk`` fixes how many trials share a forward pass."""
        from recipes.engines.packed.pack import Pack
        from recipes.engines.packed.planner import Planner

        known = {str(1 << power): chunk for power in range(20)} if chunk else {}
        return Pack(self.network(dtype), Planner("cpu", known))

    def losses(self, jobs: Sequence[Job], chunk: int | None = None, dtype: str = "float32") -> list[list[float]]:
        """Every training loss of trials that share a pack from their first step to their last."""
        pack = self.pack(chunk, dtype)
        numbers = [pack.admit(job, None) for job in jobs]
        return run(pack, numbers)

    def peft(self, job: Job, **options: Any) -> list[float]:
        """The same trial in plain PEFT."""
        from transformers import AutoModelForCausalLM

        network = AutoModelForCausalLM.from_pretrained(self.base)
        return peft_losses(network, Recipe.model_validate(job.settings), self.rows, None, **options)


def run(pack: Any, numbers: Sequence[int]) -> list[list[float]]:
    """Have these trials train to their ends; each one's loss at every step."""
    losses: dict[int, list[float]] = {number: [] for number in numbers}
    while True:
        ready = [number for number in numbers if pack.trials[number].target is None]
        for number in ready:
            trial = pack.trials[number]
            if trial.step < trial.recipe.train.max_steps and not isinstance(trial.outcome, Exception):
                pack.ask(number)
        before = {number: pack.trials[number].step for number in numbers}
        if not pack.round():
            return [losses[number] for number in numbers]
        for number in numbers:
            if pack.trials[number].step > before[number]:
                losses[number].append(pack.trials[number].loss)


@pytest.fixture(scope="session")
def make_bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Bench]:
    return lambda base: Bench(tmp_path_factory.mktemp("bench"), base)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, make_bench: Callable[[Path], Bench]) -> Bench:
    return make_bench(make_base(tmp_path_factory.mktemp("base")))
