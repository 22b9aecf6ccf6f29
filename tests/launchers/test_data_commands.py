"""``podium data check`` and ``podium data split``, as a user runs them."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from launchers.commands.data_split import notes
from tests.launchers.running import loaded, podium


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    words = ["".join(rng.choices("bcdfgklmnprst", k=5)) for _ in range(400)]
    with (made / "rows.jsonl").open("w") as file:
        for n in range(120):
            asked = " ".join(rng.choices(words, k=10))
            for ending in ("now", "please") if n % 4 == 0 else ("now",):
                file.write(json.dumps({"prompt": f"{asked} {asked[::-1]} {ending}?", "completion": f"{n}"}) + "\n")
    return made


def run(folder: Path, *arguments: str, **more: Any) -> Any:
    return podium(folder / "home", "data", *arguments, **more)


def test_a_check_that_finds_no_error_loads_nothing_heavy_and_ends_with_0(folder: Path) -> None:
    done = run(folder, "check", str(folder / "rows.jsonl"), probe=True)
    assert done.returncode == 0, done.stderr
    assert loaded(done) == []
    for words in ("rows.jsonl", "150", "prompt and completion 150", "█", "near-duplicates"):
        assert words in done.stdout
    assert "note: tokens are estimated by characters" in done.stderr
    assert "no error stands: look at the warnings" in done.stderr


def test_a_check_with_an_error_prints_it_and_ends_with_2(folder: Path) -> None:
    path = folder / "bad.jsonl"
    path.write_text((folder / "rows.jsonl").read_text() + '{"prompt": "x"}\nhello\n')
    done = run(folder, "check", str(path), "-o", "json")
    assert done.returncode == 2
    seen = json.loads(done.stdout)
    assert (seen["is_usable"], seen["num_rows"], seen["num_usable"]) == (False, 152, 150)
    assert {(one["level"], *one["lines"]) for one in seen["findings"] if one["name"] == "form"} == {
        ("error", 151),
        ("error", 152),
    }
    assert sum(one["num_rows"] for one in seen["lengths"]["bins"]) == 150
    assert "2 errors: not usable as it is" in done.stderr
    table = list(csv.DictReader(io.StringIO(run(folder, "check", str(path), "-o", "csv").stdout)))
    assert [row["lines"] for row in table if row["name"] == "form"] == ["151", "152"]


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_has_no_encoding_is_quoted_and_breaks_nothing(folder: Path, form: str) -> None:
    (folder / "half.jsonl").write_text('{"\\ud800": 1}\n')
    done = run(folder, "check", str(folder / "half.jsonl"), "-o", form)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "ud800" in done.stdout


def test_prompts_that_are_held_out_are_an_error_in_rows_and_in_pairs(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    (folder / "challenge.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    pairs = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "no"} for row in rows[2:]]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    for name, lines in (("rows.jsonl", [1, 2, 3]), ("pairs.jsonl", [1])):
        held = ("--held-out", str(folder / "challenge.jsonl"))
        done = run(folder, "check", str(folder / name), *held, "-o", "json")
        assert done.returncode == 2
        found = [one for one in json.loads(done.stdout)["findings"] if one["name"] == "held out"]
        assert [(one["count"], one["lines"]) for one in found] == [(len(lines), lines)]
        assert f"is also in {folder / 'challenge.jsonl'}, which is held out" in found[0]["rule"]
    (folder / "lost.jsonl").touch()
    done = run(folder, "check", str(folder / "rows.jsonl"), "--held-out", str(folder / "lost.jsonl"))
    assert done.returncode == 2
    assert f"--held-out: {folder / 'lost.jsonl'} has no rows, so nothing would be held out" in done.stderr
    to = folder / "held"
    assert run(folder, "split", str(folder / "rows.jsonl"), "--to", str(to)).returncode == 0
    for side, is_told in (("train", False), ("dev", True), ("challenge", True)):
        done = run(folder, "check", str(to / f"{side}.jsonl"), "--held-out", str(to), "-o", "json")
        assert (f"the {side} rows of {to}, which is held out" in done.stdout) is is_told
        assert done.returncode == (2 if is_told else 0), done.stderr
    (folder / "cut.jsonl").write_text('{"prompt": "x"}\n')
    done = run(folder, "check", str(folder / "rows.jsonl"), "--held-out", str(folder / "cut.jsonl"))
    assert done.returncode == 2
    assert "mend the row: its prompt is held out" in done.stderr


def test_a_sweep_is_checked_by_its_own_base_schema_and_limit(folder: Path) -> None:
    sweep = folder / "small.yaml"
    sweep.write_text(
        "name: small\nrecipe: tiny_commerce_sft\nset: {data.rows: 40, data.max_tokens: 300}\n"
        "space: {optimizer.lr: loguniform(1e-3, 1e-2)}\nchampion: {minimize: val/loss}\n"
    )
    done = run(folder, "check", str(sweep), "-o", "json", probe=True)
    assert done.returncode == 2, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["base"], seen["max_tokens"], seen["num_masked"]) == ("builtin:tiny_commerce", 300, 40)
    assert [one["name"] for one in seen["findings"] if one["level"] == "error"] == ["too long"]
    assert not {"ray", "mlflow"} & set(loaded(done))
    sweep.write_text(
        "name: own\nrecipe: tiny_commerce_sft\n"
        "set: {data.builtin: null, data.path: rows.jsonl, data.group: null, data.rows: 40}\n"
        "space: {optimizer.lr: loguniform(1e-3, 1e-2)}\nchampion: {minimize: val/loss}\n"
    )
    told = json.loads(run(folder, "check", str(sweep), "--held-out", str(sweep), "-o", "json").stdout)
    assert told["num_rows"] == 40
    held = [one for one in told["findings"] if one["name"] == "held out"]
    assert 0 < sum(one["count"] for one in held) < 30, "its own dev and challenge rows, and not those it trains on"


def test_a_split_is_written_told_and_read_by_a_sweep(folder: Path) -> None:
    to = folder / "splits"
    done = run(folder, "split", str(folder / "rows.jsonl"), "--to", str(to), "-o", "json", probe=True)
    assert done.returncode == 0, done.stderr
    assert loaded(done) == []
    record = json.loads(done.stdout)
    assert json.loads((to / "split.json").read_text()) == record
    assert sum(one["num_rows"] for one in record["files"].values()) == 150
    assert record["groups"]["links"]["near"] >= 28
    assert record["across"] is None or record["across"]["similarity"] < 0.8
    assert "note: 150 rows in 12" in done.stderr
    sweep = folder / "split.yaml"
    sweep.write_text(
        "name: split\nrecipe: tiny_commerce_sft\n"
        "set: {data.builtin: null, data.path: splits, data.group: null, data.rows: null, train.max_steps: 6}\n"
        "space: {optimizer.lr: loguniform(1e-3, 1e-2)}\nchampion: {minimize: val/loss}\n"
    )
    planned = podium(folder / "home", "plan", str(sweep), "-o", "csv")
    assert planned.returncode == 0, planned.stderr
    (to / "train.jsonl").write_text("")
    refused = podium(folder / "home", "plan", str(sweep))
    assert refused.returncode == 2
    assert "line 3: set.data.path: " in refused.stderr
    assert "is not the file that split.json tells" in refused.stderr


def test_shares_that_are_not_given_take_what_the_others_leave(folder: Path) -> None:
    done = run(
        folder,
        "split",
        str(folder / "rows.jsonl"),
        "--to",
        str(folder / "three"),
        "--train",
        "0.5",
        "--dev",
        "0",
        "-o",
        "csv",
    )
    assert done.returncode == 0, done.stderr
    asked = {row["split"]: float(row["asked"]) for row in csv.DictReader(io.StringIO(done.stdout))}
    assert asked == {"train": 0.5, "validation": 0.25, "dev": 0.0, "challenge": 0.25}


def test_notes_tell_of_a_giant_component_and_of_what_was_left_out() -> None:
    giant = {"share": 0.4, "num_rows": 40, "links": {"near": 39}, "without": {"near": 0.02}, "lines": [1, 2, 3]}
    record = {
        "components": {"num": 61, "largest": 40, "giants": [giant]},
        "near_duplicates": {"similarity": 0.8, "recall": 0.997, "num_left_out": 1234},
        "across": {"similarity": 0.79, "lines": [4, 5]},
        "groups": {"links": {"near": 39, "prompt": 0}},
        "source": {"num_rows": 100},
        "num_moved": 3,
    }
    assert notes(record) == [
        "100 rows in 61 components, the largest of 40; links: near 39",
        "a component has 40 rows, 40% of all (lines 1, 2, 3 …), so the shares can be far off; its largest part would "
        "have 2% without its near links",
        "the most alike prompts on different sides, lines 4 and 5, have a similarity of 0.79, compared word for word; "
        "from 0.8 on they would be on one side (of pairs so alike 99.7% are compared, of closer ones more)",
        "1,234 pairs of prompts with a band in common were too many to compare",
        "3 rows of the earlier split moved, as new rows join what was apart",
    ]
