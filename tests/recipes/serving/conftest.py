"""A tiny base with two adapters, and what it is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recipes.schema import Base
from tests.recipes.tiny import make_adapter, make_base, one_thread

SYSTEM = "You are a helpful shopping assistant. Answer in one line, name products of the shop, and never gift cards."
QUESTIONS = [
    "A black hat.",
    "Please suggest leather boots for my wife, we have a long hiking trip ahead of us.",
    "Steel?",
    "I want a lamp of glass and oak, and a silent fan for the study.",
    "Something modern.",
    "Wool socks for the whole family, three of them are children.",
]


def conversation(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


@dataclass(frozen=True)
class Place:
    """Where the base and its adapters lie."""

    base: Path
    adapters: dict[str, Path]

    @property
    def served(self) -> dict[str, Path | None]:
        return {**self.adapters, "base": None}

    @property
    def settings(self) -> Base:
        return Base(path=str(self.base), dtype="float32")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("served")
    base = make_base(folder / "base")
    return Place(base, {name: make_adapter(base, folder / name, seed) for name, seed in (("first", 1), ("second", 2))})


@pytest.fixture(scope="session")
def models(place: Place) -> Iterator[Any]:
    from recipes.serving.models import Models

    with one_thread():
        yield Models(str(place.base), place.settings, place.served, "cpu")
