"""docs/own_data.md, run as it stands: its commands, its edits, and what it says was written."""

import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.running import ROOT, environment
from tracking.ledger import read

PAGE = ROOT / "docs" / "own_data.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Reader:
    """Somebody who reads the page in a copy of the checkout and types what it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "docs").symlink_to(ROOT / "docs")
        tools = folder / "bin"
        tools.mkdir()
        commands = {
            "podium": f'exec "{sys.executable}" -m launchers.cli "$@"',
            "python": f'exec "{sys.executable}" "$@"',
            "nvidia-smi": "exit 1",  # the page is about a machine without a GPU
        }
        for name, command in commands.items():
            (tools / name).write_text(f"#!/bin/sh\n{command}\n")
            (tools / name).chmod(0o755)
        self.environment = {
            **environment(folder),
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PODIUM_HOME": ".podium",
        }

    def types(self, commands: str) -> str:
        """Run the commands of one block where the last one ended; return what they printed on stdout."""
        here = self.folder.parent / "where"
        run = subprocess.run(
            ["bash", "-euc", f"{commands}\npwd > {here}"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert run.returncode == 0, f"{commands}\n{run.stdout}\n{run.stderr}"
        self.folder = Path(here.read_text().strip())
        return run.stdout

    def edits(self, difference: str) -> None:
        """Replace every line with a minus by the one with a plus that follows."""
        first, *lines = difference.splitlines()
        file = self.folder / first.removeprefix("--- ")
        text = file.read_text()
        for old, new in zip(lines[::2], lines[1::2], strict=True):
            assert (old[0], new[0], text.count(old[1:] + "\n")) == ("-", "+", 1), f"{old!r} in\n{text}"
            text = text.replace(old[1:] + "\n", new[1:] + "\n")
        file.write_text(text)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("│")]


def walk(folder: Path, *, until: str = "") -> tuple[Reader, str]:
    """Follow the page, up to the block that holds the command ``until``; what was printed on the way."""
    folder.mkdir()
    reader, printed = Reader(folder), ""
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if until and kind == "sh" and until in text:
            return reader, printed + reader.types(text.split(until)[0])
        if kind == "sh":
            printed += reader.types(text)
        elif kind == "diff":
            reader.edits(text)
        elif kind == "json":
            assert text in (reader.folder / "tickets.jsonl").read_text()
        elif kind == "text":
            shown = [cells(line) for line in printed.splitlines()]
            assert all(cells(line) in shown for line in text.splitlines()), printed
        else:
            file = reader.folder / {"yaml": "tickets.yaml", "python": "metrics.py"}[kind]
            assert text in file.read_text(), f"the page shows another {file.name}"
    return reader, printed


def test_the_page_is_right_up_to_the_plan(tmp_path: Path) -> None:
    _, printed = walk(tmp_path / "checkout", until="podium submit")
    assert "tickets: 6 trials" in printed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_runs_as_it_stands_and_ends_with_a_champion_that_beats_the_base(tmp_path: Path) -> None:
    reader, printed = walk(tmp_path / "checkout")
    assert "verified" in printed
    beats_what_needs_no_learning(reader)


def beats_what_needs_no_learning(reader: Reader) -> None:
    state = read(reader.folder / ".podium" / "runs" / "tickets")
    assert state.champion is not None
    arms = json.loads(reader.types("podium compare -o json"))["arms"]
    scores = {arm["role"]: arm["quality/score"] for arm in arms}
    assert scores["champion"] > scores["base"]
    assert scores["champion"] > best_constant(reader.folder, Path(state.facts["data"]["challenge"]["path"]))


def best_constant(folder: Path, rows: Path) -> float:
    """The score of the best answer that is the same for every row."""
    spec = importlib.util.spec_from_file_location("example_metrics", folder / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)
    references = [json.loads(line)["messages"][-1]["content"] for line in rows.read_text().splitlines()]
    return max(
        statistics.fmean(metrics.triage({"reference": right}, answer)["score"] for right in references)
        for answer in set(references)
    )
