"""Whatever is killed, the sweep comes to the same end: no trial lost, none run twice, no run of MLflow left open."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import scenarios
from tests.chaos.kills import MOMENTS
from tracking.ledger import SweepState


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> SweepState:
    """The sweep with nothing killed."""
    return scenarios.undisturbed(tmp_path_factory.mktemp("undisturbed"))


def check(outcome: scenarios.Outcome) -> None:
    assert outcome.losses.none, outcome.losses
    assert outcome.left_behind == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_driver_is_killed_at_every_moment(tmp_path: Path, reference: SweepState) -> None:
    check(scenarios.driver_killed(tmp_path, reference, MOMENTS))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("find", "times"), [(scenarios.pack_worker, 2), (scenarios.client, 1), (scenarios.raylet, 2), (scenarios.gcs, 1)]
)
def test_a_process_of_a_running_sweep_is_killed(
    tmp_path: Path, reference: SweepState, find: Callable[[Path], int | None], times: int
) -> None:
    check(scenarios.process_killed(tmp_path, reference, find.__name__, find, times))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_trials_finish_whoever_is_killed(tmp_path: Path) -> None:
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    reference = scenarios.undisturbed(tmp_path / "undisturbed", trials=scenarios.MANY)
    assert len(reference.trials) == scenarios.MANY
    check(scenarios.many_trials_killed(tmp_path / "killed", reference))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_of_a_sweep_on_nemo_is_killed(tmp_path: Path) -> None:
    for name in ("undisturbed", "worker", "trainer"):
        (tmp_path / name).mkdir()
    reference = scenarios.undisturbed(tmp_path / "undisturbed", "nemo")
    for find in (scenarios.worker, scenarios.trainer):
        folder = tmp_path / find.__name__
        check(scenarios.process_killed(folder, reference, find.__name__, find, engine="nemo"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_mlflow_server_is_killed_in_mid_sweep(tmp_path: Path, reference: SweepState) -> None:
    check(scenarios.mlflow_killed(tmp_path, reference))
