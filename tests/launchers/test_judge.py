"""``podium judge``: what it prints, what it refuses, and that it loads and asks nothing."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launchers.forked import Forks
from tests.tracking.meters.judge.sweeps import SETTINGS, judged_sweep
from tracking.meters.judge import Verdict

SCORES = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks")) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    answers = {
        f"i{number}": (f"[bold]answer[/] {number}", Verdict(score, f"reason {number}", judge="m"), 5.0 - score)
        for number, score in enumerate(SCORES)
    }
    judged_sweep(tmp_path, {"t-a": answers}, {**SETTINGS, "calibration": {"min_kappa": 0.6}})
    return tmp_path


def labels(home: Path, values: list[float]) -> str:
    path = home / "labels.csv"
    path.write_text("item,label\n" + "".join(f"i{number},{value}\n" for number, value in enumerate(values)))
    return str(path)


def test_calibrate(forks: Forks, home: Path) -> None:
    run = forks.podium(home, "judge", "calibrate", labels(home, SCORES), "-o", "json")
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert (content["kappa"]["value"], content["n"], content["blocks"]) == (1.0, 6, None)
    assert json.loads((home / "runs" / "shop" / "calibration.json").read_text())["kappa"]["value"] == 1.0
    table = forks.podium(home, "judge", "calibrate", labels(home, SCORES[::-1]), "shop")
    assert table.returncode == 0, table.stderr
    for word in ("quadratic weighted kappa", "Spearman's ρ", "-1", "6 labels of 6 items"):
        assert word in table.stdout
    assert "note: the judge's kappa with people is -1.00" in table.stderr
    run = forks.podium(home, "judge", "calibrate", labels(home, SCORES), "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(run.stdout)))
    assert rows[0]["measure"] == "quadratic weighted kappa"
    assert float(rows[0]["value"]) == 1.0


def test_show(forks: Forks, home: Path) -> None:
    forks.podium(home, "judge", "calibrate", labels(home, [5.0, *SCORES[1:]]))
    run = forks.podium(home, "judge", "show", "-o", "json", "--top", "2")
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert (content["num_judged"], content["num_missing"], content["flip_rate"]) == (6, 0, None)
    assert [(one["kind"], one["item"], one["gap"]) for one in content["disagreements"]] == [
        ("human", "i0", 5.0),
        ("metric", "i0", 5.0),
        ("metric", "i5", 5.0),
    ]
    table = forks.podium(home, "judge", "show", "shop", "--by", "human")
    assert table.returncode == 0, table.stderr
    for word in ("worst disagreements", "reason 0", "[bold]answer[/] 0", "6 answers judged, 0 without verdict"):
        assert word in table.stdout
    rows = list(csv.DictReader(io.StringIO(forks.podium(home, "judge", "show", "--by", "metric", "-o", "csv").stdout)))
    assert {row["kind"] for row in rows} == {"metric"}
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("calibrate", "gone.csv"), "gone.csv: the labels cannot be read: No such file or directory"),
        (("show", "--by", "humans"), '--by: must be one of human, panel, metric, flip, but got "humans"'),
        (("show", "shoop"), 'no sweep is called "shoop"'),
        (("show", "--split", "challenge"), "no answer of the challenge split has a verdict of the sweep's judge yet"),
    ],
)
def test_what_is_refused(forks: Forks, home: Path, command: tuple[str, ...], told: str) -> None:
    run = forks.podium(home, "judge", *command)
    assert run.returncode == 2
    assert told in run.stderr
    assert run.stdout == ""


def test_labels_for_unknown_items(forks: Forks, home: Path) -> None:
    run = forks.podium(home, "judge", "calibrate", labels(home, [*SCORES, 1.0, 2.0]))
    assert run.returncode == 2
    assert "the judge has scored no such items: i6, i7" in run.stderr
    assert not (home / "runs" / "shop" / "calibration.json").exists()


def test_help_has_examples(forks: Forks, home: Path) -> None:
    for command, example in (("calibrate", "podium judge calibrate labels.csv"), ("show", "podium judge show")):
        run = forks.podium(home, "judge", command, "--help")
        assert run.returncode == 0
        assert example in run.stdout
