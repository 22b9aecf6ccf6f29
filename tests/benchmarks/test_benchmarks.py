"""Reports say what was measured and under which conditions; the GPU's benchmark runs, rehearsed on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.report import ROOT, alternate, ratios, report, table

FAST = ("single", "pack", "tree", "memory", "exact")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", *arguments],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_a_report_holds_every_measurement_and_where_it_was_made(tmp_path: Path) -> None:
    rows = [
        {"what": "a | b", "s": [3.0, 1.0, 2.0], "n": 12_345, "none": None},
        {"what": "c", "s": [1500.5], "right": True},
    ]
    report("some", rows, {"threads": 1}, tmp_path / "new")
    content = json.loads((tmp_path / "new" / "some.json").read_text())
    assert content["rows"] == rows
    assert content["conditions"] == {"threads": 1}
    about = content["measured"]
    assert about["torch"].startswith("2.")
    assert about["cores"] >= 1
    assert {"date", "commit", "dirty", "python", "transformers", "peft", "cpu", "gpu", "cuda"} <= set(about)
    text = (tmp_path / "new" / "some.md").read_text()
    assert text.splitlines()[:6] == [
        "# some",
        "",
        "| what | s | n | none | right |",
        "|-|-:|-:|-:|-:|",
        r"| a \| b | 2 (1–3) | 12,345 | – | – |",
        "| c | 1,500 | – | – | yes |",
    ]
    assert "- threads: 1" in text.splitlines()
    assert f"- torch: {about['torch']}" in text.splitlines()


def test_functions_take_turns() -> None:
    order: list[str] = []
    for wall in (False, True):
        times = alternate(lambda: order.append("one"), lambda: order.append("other"), repeats=3, wall=wall)
        assert [len(one) for one in times] == [3, 3]
        assert all(seconds >= 0 for one in times for seconds in one)
    assert order == ["one", "other"] * 6
    assert ratios([2.0, 3.0], [1.0, 2.0]) == [2.0, 1.5]


def test_numbers_stand_right() -> None:
    assert table([{"a": 1, "b": "x"}, {"c": 0.12345}]) == [
        "| a | b | c |",
        "|-:|-|-:|",
        "| 1 | x | – |",
        "| – | – | 0.123 |",
    ]


def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    done = run("--to", str(tmp_path / "to"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "nothing was measured. --small rehearses every part on the CPU." in done.stderr.splitlines()[-1]
    assert not (tmp_path / "to").exists()


def check(folder: Path, parts: tuple[str, ...]) -> dict[str, list[dict[str, object]]]:
    rows = {}
    for part in parts:
        content = json.loads((folder / f"gpu-{part}.json").read_text())
        assert content["conditions"]["rehearsal"].endswith("these figures mean nothing")
        assert content["rows"]
        rows[part] = content["rows"]
    return rows


@pytest.mark.slow
def test_a_rehearsal_of_the_parts_on_a_cpu(tmp_path: Path) -> None:
    done = run("--small", "--repeats", "2", "--to", str(tmp_path), "--only", *FAST)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = check(tmp_path, FAST)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"gpu-{part}.{kind}" for part in FAST for kind in ("json", "md")
    )
    for row in rows["exact"]:
        assert float(str(row["largest relative difference from PEFT"])) < 1e-6
    assert [round(float(str(row["tokens fall by"])), 1) for row in rows["tree"]] == [1.9, 3.7]
    assert rows["memory"][0]["estimated / measured"] == pytest.approx(1.0)
    assert rows["memory"][1]["measured, GiB"] is None, "a CPU tells no figure for a GPU"
    assert "## tree" in done.stdout


@pytest.mark.slow
def test_a_rehearsal_of_everything(tmp_path: Path) -> None:
    done = run("--small", "--repeats", "1", "--to", str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = check(tmp_path, (*FAST, "contract"))
    assert rows["contract"][0]["tests"] == 2
    assert rows["contract"][0]["failures"] == rows["contract"][0]["errors"] == 0
