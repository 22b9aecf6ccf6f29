"""What tests of several rooms share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.launchers.running import Finished, loaded, podium, write_sweep
from tests.storage import Server, moto, rclone
from tracking.meters.latency.aiperf import find_aiperf

# `make test` tries the same examples each time, so that what fails is what changed; `make test-properties` draws
# others. No deadline: other programs may have the cores.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="module", params=["moto", "rclone"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two servers that speak S3, one after the other: moto for its semantics, rclone for its signatures."""
    with moto() if request.param == "moto" else rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def server(storage: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The same, with the environment that boto3 reads pointing at it."""
    storage.use(monkeypatch)
    return storage


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """``podium submit`` on three trials of six steps: Ray, NeMo, MLflow and evaluation as in any sweep."""
    folder = tmp_path_factory.mktemp("sweep")
    home = folder / "home"
    run = podium(home, "submit", str(write_sweep(folder)), probe=True)
    return Finished(home, run.stdout, run.stderr, run.returncode, tuple(loaded(run)))


@pytest.fixture
def program() -> Path:
    """AIPerf; where it is not, the test is left out, and fails in CI."""
    found = find_aiperf()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no AIPerf: `make aiperf`")
        pytest.skip("no AIPerf here: `make aiperf`")
    return found
