"""The notebook answers its questions with the numbers of a real sweep, and is kept without outputs."""

import os
import re
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from analysis.champion import agreement, choose
from analysis.frame import curves, frame
from tests.launchers.running import ROOT, Finished, environment
from tracking.meters.cost import summary

PATH = ROOT / "notebooks" / "finished_sweep.ipynb"


@pytest.fixture(scope="module")
def outputs(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each cell printed and showed, by the cell's id: text as it is, tables as HTML."""
    notebook = nbformat.read(PATH, as_version=4)
    # Files of ours, not ports for everybody.
    kernel = AsyncKernelManager(transport="ipc", ip=str(tmp_path_factory.mktemp("kernel") / "k"), kernel_name="python3")
    before = dict(os.environ)
    os.environ.update(environment(finished.home))
    try:
        NotebookClient(notebook, km=kernel, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return {cell.id: "\n".join(map(shown, cell.get("outputs", []))) for cell in notebook.cells}


def shown(output: Any) -> str:
    """One output: what was printed, or the table, or the value."""
    data = output.get("data", {})
    return str(output.get("text") or data.get("text/html") or data.get("text/plain") or "")


def numbers(html: str) -> list[float]:
    """The numbers in the cells of a table, its index left out."""
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html)
    return [float(cell) for cell in cells if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)]


def close(value: float) -> Any:
    """As a table shows it: with six digits."""
    return pytest.approx(value, rel=1e-3, abs=1e-6)


def test_it_is_kept_without_outputs() -> None:
    cells = nbformat.read(PATH, as_version=4).cells
    assert all(cell.get("outputs", []) == [] and cell.get("execution_count") is None for cell in cells)


def test_it_opens_the_sweep_of_the_home_and_says_who_won(finished: Finished, outputs: dict[str, str]) -> None:
    state = finished.state
    choice = choose(state)
    assert choice.champion is not None
    assert f"small: DONE, {len(state.trials)} trials" in outputs["open"]
    assert f"Trial {state.trials[choice.champion].number} has the lowest val/loss" in outputs["why"]
    objectives = [verdict.objective for verdict in choice.verdicts.values()]
    for objective in objectives:
        assert objective is not None
        assert close(objective) in numbers(outputs["why"])


def test_it_relates_rank_and_learning_rate_to_the_objective(finished: Finished, outputs: dict[str, str]) -> None:
    table = frame(finished.state)
    by_rank, by_rate = outputs["rank"].split("</table>")[:2]
    for mean in table.groupby("lora.rank")["val/loss"].mean():
        assert close(mean) in numbers(by_rank)
    for rate in table["optimizer.lr"]:
        assert close(rate) in numbers(by_rate)
    assert "Too few trials to tell: 3 have val/loss" in outputs["importance"]


def test_it_tells_whether_loss_and_quality_agree(finished: Finished, outputs: dict[str, str]) -> None:
    found = agreement(finished.state, "quality/field_f1")
    assert found["n"] == 3
    assert numbers(outputs["agreement"]).count(3.0) >= 2
    if found["spearman"] is not None:
        assert close(found["spearman"]) in numbers(outputs["agreement"])


def test_it_averages_the_curves(finished: Finished, outputs: dict[str, str]) -> None:
    reports = curves(finished.state)
    for _, losses in reports.groupby("step")["val/loss"]:
        assert close(losses.mean()) in numbers(outputs["losses"])


def test_it_adds_up_the_cost(finished: Finished, outputs: dict[str, str]) -> None:
    assert close(summary(finished.state)["cost/gpu_s"]) in numbers(outputs["shares"])
    for spent in frame(finished.state)["cost/gpu_s"]:
        assert close(spent) in numbers(outputs["trials"])


def test_it_tries_tighter_limits(finished: Finished, outputs: dict[str, str]) -> None:
    [measured] = frame(finished.state)["latency/formulation_p50_s"].dropna()
    assert numbers(outputs["tighter"])[0] == close(measured)
    assert close(measured / 2) in numbers(outputs["tighter"])
    assert "None" in outputs["tighter"], "nobody is twice as fast"
