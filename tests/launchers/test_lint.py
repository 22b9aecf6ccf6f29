"""``podium lint`` and ``podium paper-table``, as a user runs them."""

import csv
import io
import json
from pathlib import Path

import pytest

from analysis.claims import Claim, check_markdown, mark, relative
from analysis.report import write_report
from tests.analysis.synthetic import synthetic
from tests.launchers.running import loaded, podium


def planted(page: str) -> str:
    """The page with a table that compares changes against two baselines."""
    champion = Claim("latency/agent_p95_s", "champion", 2.3, "challenge", 96)
    changes = [
        relative(champion, Claim("latency/agent_p95_s", arm, value, "challenge", 96))
        for arm, value in (("incumbent", 4.5), ("base", 3.0))
    ]
    rows = "\n".join(f"<tr><td>{mark(change)}</td></tr>" for change in changes if change)
    return page.replace("</main>", f"<table>\n{rows}\n</table></main>")


def test_a_report_passes_and_one_with_mixed_baselines_is_refused(tmp_path: Path) -> None:
    path = write_report(synthetic(tmp_path), tmp_path / "report.html")
    assert podium(tmp_path, "lint", str(path)).returncode == 0
    page = planted(path.read_text(encoding="utf-8"))
    path.write_text(page, encoding="utf-8")
    line = page[: page.index("−48.9 %")].count("\n") + 1
    run = podium(tmp_path, "lint", str(path), probe=True)
    assert run.returncode == 2
    assert f"line {line}: “−48.9 % against incumbent on challenge, n = 96" in run.stderr
    assert "percentages against different baselines do not stand side by side (one baseline a column" in run.stderr
    assert loaded(run) == []


def test_markdown_is_refused_with_line_rule_and_way_out(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("# Notes\n\nThe agent is 48.9 % faster.\n", encoding="utf-8")
    run = podium(tmp_path, "lint", str(path))
    assert run.returncode == 2
    assert run.stdout == ""
    assert (
        "line 3: “The agent is 48.9 % faster.”: a relative figure names its baseline (write: against WHAT)"
        in run.stderr
    )


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read: No such file"), (b"\xff\xfe", "not UTF-8 at byte 0")]
)
def test_what_is_no_text_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "notes.md"
    if content is not None:
        path.write_bytes(content)
    run = podium(tmp_path, "lint", str(path))
    assert run.returncode == 2
    assert message in run.stderr


def test_the_papers_table_in_every_format(tmp_path: Path) -> None:
    synthetic(tmp_path)
    table = podium(tmp_path, "paper-table", probe=True)
    assert table.returncode == 0
    assert loaded(table) == []
    assert "Figure 6 (b): SFT against its base model; ours: champion against incumbent" in table.stdout
    assert "does not hold  “achieving the critical sub-2-second performance target”" in table.stdout
    content = json.loads(podium(tmp_path, "paper-table", "shop", "-o", "json").stdout)
    assert {check["holds"] for check in content["checks"]} == {True, False}
    assert content["rows"][0]["paper"]["value"] == 2.03
    rows = list(csv.DictReader(io.StringIO(podium(tmp_path, "paper-table", "-o", "csv").stdout)))
    assert len(rows) == len(content["rows"])
    assert rows[0]["ours"] == "0 on challenge, n = 48"
    markdown = podium(tmp_path, "paper-table", "-o", "md").stdout
    assert "| quality score | 0 on challenge, n = 48 | incumbent was not measured | 2.03 |" in markdown
    assert check_markdown(markdown) == []
