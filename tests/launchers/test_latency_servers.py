"""What serves the champion at the points of a grid: Podium's own server, vLLM, SGLang, or a user's command."""

import json
import sys
from pathlib import Path

import pytest

from launchers.latency_grid import Bench, Point, run_grid
from launchers.latency_inputs import bodies_of, settings
from launchers.latency_servers import servers_of
from launchers.model_server import Command
from sweeps.errors import InvalidInput
from tests.analysis.synthetic import synthetic, trial_id
from tests.launchers.grids import pool
from tests.launchers.serving.bundles import make_bundle, make_place
from tracking.ledger import Ledger, SweepState
from tracking.meters.latency.aiperf import Load

CPU, H100 = pool(), pool("gpu", "H100")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> SweepState:
    """A sweep whose champion was exported, and another trial after it."""
    home = tmp_path_factory.mktemp("home")
    base, bundle = make_place(home)
    other = make_bundle(home / "other", base, seed=2)
    champion = synthetic(home).trials[trial_id(3)].id
    with Ledger(home / "runs" / "shop") as ledger:
        for trial, folder in ((champion, bundle), (trial_id(5), other)):
            ledger.append("export", export={"to": str(folder), "folder": str(folder), "trial": trial})
        return ledger.read()


def test_podium_serves_the_champions_bundle(state: SweepState) -> None:
    command = servers_of("podium", state, [Point(1, CPU)])(Point(1, CPU), 8123)
    assert command == Command(
        (sys.executable, "-m", "launchers.cli", "serve", str(state.folder.parents[1] / "bundle"), "--port", "8123"),
        "http://127.0.0.1:8123/v1",
        "http://127.0.0.1:8123/health",
        "champion",
        {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


@pytest.mark.parametrize(("server", "model"), [("vllm", "champion"), ("sglang", "acme/tiny:champion")])
def test_others_have_their_port_and_as_many_gpus_as_the_point(state: SweepState, server: str, model: str) -> None:
    point = Point(4, H100)
    command = servers_of(server, state, [point])(point, 8123)
    assert command.argv[-6:] == ("--host", "127.0.0.1", "--port", "8123", "--tensor-parallel-size", "4")
    assert f"champion={state.folder.parents[1] / 'bundle'}" in command.argv
    assert command.model == model


def test_a_template_has_the_points_values(state: SweepState) -> None:
    made = servers_of("x {bundle} {tp} {accelerator} {port}", state, [])(Point(2, H100), 7)
    assert made.argv == ("x", str(state.folder.parents[1] / "bundle"), "2", "H100", "7")
    assert made.model == "", "whatever it serves"


@pytest.mark.parametrize(
    ("serve", "point", "told"),
    [
        ("vlm", Point(1, H100), r'must be podium, vllm, sglang or a command with \{port\} in it, but got "vlm"'),
        ("podium", Point(2, H100), r"podium serve takes one device, and the grid has tp 2 \(--tp 1, or --serve vllm"),
        ("sglang", Point(1, CPU), r"sglang needs GPUs, and the pool cpu has none \(--serve podium"),
    ],
)
def test_what_cannot_serve_there_is_told(state: SweepState, serve: str, point: Point, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        servers_of(serve, state, [point])


def test_another_trials_bundle_is_not_the_champions(tmp_path: Path) -> None:
    synthetic(tmp_path)
    with Ledger(tmp_path / "runs" / "shop") as ledger:
        ledger.append("export", export={"to": str(tmp_path), "folder": str(tmp_path), "trial": trial_id(5)})
        state = ledger.read()
    with pytest.raises(InvalidInput, match="shop: its champion is not exported on this machine"):
        servers_of("podium", state, [Point(1, CPU)])


def test_a_guided_champion_is_asked_for_its_schema() -> None:
    [free], [guided] = bodies_of([[]], 8), bodies_of([[]], 8, {"type": "object"})
    assert "response_format" not in free
    assert guided["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.slow
def test_the_grid_measures_the_champion_behind_podiums_own_server(
    program: Path, state: SweepState, tmp_path: Path
) -> None:
    points = [Point(1, CPU)]
    bench = Bench(
        servers=servers_of("podium", state, points),
        load=Load("", "", rate=10, requests=95),
        bodies=bodies_of([[{"role": "user", "content": "A hat."}]], 8),
        slo=settings({"slo": {"formulation_p95": "2s"}}, {}).slo,
        runs=1,
        folder=tmp_path,
        ready_s=120,
    )
    [found] = run_grid(points, bench, [], lambda text: None)
    assert found["why"] == "", (tmp_path / "cpu-tp1" / "server.log").read_text()
    [run] = found["runs"]
    assert (run["n"], run["detail"]["num_errors"]) == (95, 0)
    assert 0 < found["goodput_rps"] < 20
    asked = json.loads((tmp_path / "cpu-tp1" / "run-1" / "requests.jsonl").read_text().splitlines()[0])
    assert asked["model"] == "champion"
