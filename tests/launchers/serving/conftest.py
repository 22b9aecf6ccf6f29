"""One bundle, served once for all tests that change nothing of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.launchers.serving.bundles import make_bundle, make_place, served
from tests.recipes.tiny import one_thread


@dataclass(frozen=True)
class Running:
    """A server of a bundle and a second adapter.

    Attributes:
        log: Its requests.
    """

    url: str
    base: Path
    bundle: Path
    log: Path

    @property
    def client(self) -> Any:
        """OpenAI's own client, which asks once."""
        import openai

        return openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    base, bundle = make_place(folder)
    second = make_bundle(folder / "second", base, seed=2)
    log = folder / "log" / "requests.jsonl"
    with one_thread(), served(bundle, more={"second": second}, log=log) as url:
        yield Running(url, base, bundle, log)
