"""A split as a folder: rows as they were, a record that is checked, and sweeps that read it."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from recipes.data import split_files, splits
from recipes.data.rows import to_chat
from recipes.data.split_files import RECORD, earlier, read_record, refuse_existing
from recipes.data.splits import SPLITS
from recipes.data.splitting import Settings, decide
from recipes.data.stream import RowWriter, Source, opened, read_rows
from recipes.schema import Data
from sweeps.errors import InvalidInput
from tests.storage import BUCKET, Server


def rows(count: int = 90) -> list[dict[str, Any]]:
    rng = random.Random(0)
    words = ["".join(rng.choices("bcdfgklmnprst", k=5)) for _ in range(500)]
    return [{"prompt": f"{' '.join(rng.choices(words, k=9))}?", "completion": str(n), "n": n} for n in range(count)]


def write(folder: Path, given: list[dict[str, Any]], to: str, name: str = "rows.jsonl", **more: Any) -> dict[str, Any]:
    with RowWriter(folder / name) as writer:
        for row in given:
            writer.write(row)
    settings = Settings(**more)
    with opened(str(folder / name)) as source:
        return split_files.write(source, decide(source, settings), settings, to)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_rows_are_copied_as_they_are_in_their_order_and_a_sweep_reads_them(tmp_path: Path, name: str) -> None:
    given = rows()
    record = write(tmp_path, given, str(tmp_path / "out"), name)
    assert record == read_record(tmp_path / "out")
    found = {
        split: [row for _, row in read_rows(str(tmp_path / "out" / record["files"][split]["file"]))] for split in SPLITS
    }
    assert sorted(row["n"] for part in found.values() for row in part) == list(range(90))
    assert all([row["n"] for row in part] == sorted(row["n"] for row in part) for part in found.values())
    assert all(row == given[row["n"]] for part in found.values() for row in part)
    read = splits.load(Data(path="out"), tmp_path)
    assert read.rows == {split: [to_chat(row) for row in found[split]] for split in SPLITS}
    assert record["achieved"]["train"] == len(found["train"]) / 90


def test_jsonl_is_copied_byte_by_byte(tmp_path: Path) -> None:
    line = '{ "prompt":"Caf\\u00e9 %d",   "completion" : "x" }'
    (tmp_path / "rows.jsonl").write_text("".join(f"{line % n}\r\n" for n in range(60)))
    with opened(str(tmp_path / "rows.jsonl")) as source:
        settings = Settings()
        split_files.write(source, decide(source, settings), settings, str(tmp_path / "out"))
    lines = [one for split in SPLITS for one in (tmp_path / "out" / f"{split}.jsonl").read_text().splitlines()]
    assert sorted(lines) == sorted(line % n for n in range(60))


def test_the_same_rows_give_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    one, other = (write(tmp_path, rows(), str(tmp_path / name)) for name in ("a", "b"))
    third = write(tmp_path, rows(), str(tmp_path / "c"), seed=1)
    assert one == other
    assert one["files"]["train"]["sha256"] != third["files"]["train"]["sha256"]


def test_it_can_be_written_in_the_other_form(tmp_path: Path) -> None:
    given = [{**row, "completion": {"n": row["n"]}} for row in rows()]
    write(tmp_path, given, str(tmp_path / "a"))
    with opened(str(tmp_path / "rows.jsonl")) as source:
        settings = Settings()
        split_files.write(source, decide(source, settings), settings, str(tmp_path / "b"), "parquet")
    loaded = [splits.load(Data(path=name), tmp_path).sha256 for name in ("a", "b")]
    assert loaded[0] == loaded[1]


def test_rows_that_are_generated_can_be_written_as_parquet(tmp_path: Path) -> None:
    source, settings = Source("made", None, tuple(rows())), Settings()
    record = split_files.write(source, decide(source, settings), settings, str(tmp_path / "out"), "parquet")
    assert sum(len(part) for part in splits.load(Data(path="out"), tmp_path).rows.values()) == 90
    assert record["source"]["sha256"] is None


@pytest.mark.parametrize("meta", [{}, 10**30])
def test_values_that_parquet_has_no_type_for_are_told(tmp_path: Path, meta: Any) -> None:
    source, settings = Source("made", None, tuple({**row, "meta": meta} for row in rows())), Settings()
    with pytest.raises(InvalidInput, match=r"--format: .* the rows make no table: .*JSONL takes any rows"):
        split_files.write(source, decide(source, settings), settings, str(tmp_path / "out"), "parquet")


def test_a_file_that_was_changed_is_refused_with_both_hashes(tmp_path: Path) -> None:
    write(tmp_path, rows(), str(tmp_path / "out"))
    path = tmp_path / "out" / "dev.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InvalidInput) as caught:
        splits.load(Data(path="out"), tmp_path)
    [problem] = caught.value.problems
    assert problem.where == "data.path"
    assert f"{path} is not the file that split.json tells: its SHA-256 is " in problem.rule
    assert problem.hint == "restore it, or write the split again with `podium data split`"
    with pytest.raises(InvalidInput, match="--like"):
        earlier(str(tmp_path / "out"))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": "podium-split/9"}', '{"format": "podium-split/1", "files": {}}']
)
def test_a_record_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(InvalidInput, match=r"split.json is no record of a split \(write the split again"):
        splits.load(Data(path=str(tmp_path)), Path())


def test_a_record_names_files_of_its_own_folder_only(tmp_path: Path) -> None:
    record = write(tmp_path, rows(), str(tmp_path / "out"))
    record["files"]["train"]["file"] = "../rows.jsonl"
    (tmp_path / "out" / RECORD).write_text(json.dumps(record))
    with pytest.raises(InvalidInput, match="is no record of a split"):
        read_record(tmp_path / "out")


def test_rows_cannot_be_cut_and_a_side_that_trains_cannot_be_empty(tmp_path: Path) -> None:
    write(tmp_path, rows(), str(tmp_path / "out"), shares=(0.6, 0.0, 0.4, 0.0))
    with pytest.raises(InvalidInput, match=r"data.rows: cannot cut a split that was written, but got 5 with data.path"):
        splits.load(Data(path="out", rows=5), tmp_path)
    with pytest.raises(InvalidInput, match="the validation split of out is empty"):
        splits.load(Data(path="out"), tmp_path)


def test_a_folder_without_a_record_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a folder"):
        splits.load(Data(path="."), tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    refuse_existing(str(tmp_path / "new"))
    refuse_existing(str(tmp_path))
    (tmp_path / "file").write_text("x")
    for to, rule in ((tmp_path / "file", "is a file"), (tmp_path, "is not empty, and nothing is overwritten")):
        with pytest.raises(InvalidInput, match=rule):
            refuse_existing(str(to))


def test_a_split_of_more_rows_goes_on_from_an_earlier_one(tmp_path: Path) -> None:
    more = rows(150)
    first = write(tmp_path, more[:90], str(tmp_path / "a"), seed=4)
    common, sides, record = earlier(str(tmp_path / "a"))
    assert record == first
    assert len(sides) == 90
    again = write(tmp_path, more, str(tmp_path / "b"), seed=99, common=common, earlier=sides)
    assert again["num_moved"] == 0
    old = splits.load(Data(path="a"), tmp_path).rows
    new = splits.load(Data(path="b"), tmp_path).rows
    assert all([row for row in new[split] if row["n"] < 90] == old[split] for split in SPLITS)


def test_a_split_in_object_storage_is_read_as_one_of_this_machine(server: Server, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/splits/one"
    refuse_existing(url)
    write(tmp_path, rows(), url)
    write(tmp_path, rows(), str(tmp_path / "out"))
    local = splits.load(Data(path="out"), tmp_path)
    assert splits.load(Data(path=f"{url}/"), tmp_path).sha256 == local.sha256
    assert splits.load(Data(path=f"{url}/"), tmp_path, tmp_path / "cache").sha256 == local.sha256
    with pytest.raises(InvalidInput, match="is not empty, and nothing is overwritten"):
        refuse_existing(url)
