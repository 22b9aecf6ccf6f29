"""Splitting: no group on two sides, old rows stay where they are, and hashes that name what was split."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.data.rows import Method
from recipes.data.splits import SPLITS, SplitRows, load, write
from recipes.schema import Data
from sweeps.errors import InvalidInput

GROUPS = st.lists(st.text(max_size=5) | st.integers(0, 9), min_size=1, max_size=40)
HALVES: dict[str, Any] = {"train": 0.5, "validation": 0.5, "dev": 0.0, "challenge": 0.0}
QUARTERS: dict[str, Any] = dict.fromkeys(SPLITS, 0.25)
SYSTEMS = ("", "Be brief.", "Be kind.")


def rows_of(groups: list[Any]) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {n}", "completion": "Yes.", "shelf": group} for n, group in enumerate(groups)]


def split(given: list[dict[str, Any]], method: Method = "sft", **data: Any) -> SplitRows:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
        return load(Data(path="rows.jsonl", **data), Path(folder), method=method)


def sides(splits: SplitRows) -> dict[str, str]:
    return {row["messages"][0]["content"]: name for name in SPLITS for row in splits.rows[name]}


def many(**data: Any) -> dict[str, str]:
    return sides(split(rows_of(list(range(400))), group="shelf", **data))


def full(rows: list[dict[str, Any]], **data: Any) -> SplitRows | None:
    """The split, or None where one of its sides stays empty."""
    with contextlib.suppress(InvalidInput):
        return split(rows, **data)
    return None


@settings(max_examples=60)
@given(GROUPS, st.integers(0, 5))
def test_no_group_is_on_two_sides_and_no_row_is_lost(groups: list[Any], seed: int) -> None:
    splits = full(rows_of(groups), group="shelf", seed=seed, **HALVES)
    if splits is None:
        return
    where: dict[str, set[str]] = {}
    for name in SPLITS:
        for row in splits.rows[name]:
            where.setdefault(str(row["shelf"]), set()).add(name)
    assert all(len(names) == 1 for names in where.values())
    assert len(sides(splits)) == len(groups)
    assert splits.identity == split(rows_of(groups), group="shelf", seed=seed, **HALVES).identity


@settings(max_examples=60)
@given(GROUPS, GROUPS, st.integers(0, 5))
def test_adding_rows_never_moves_an_old_one(groups: list[Any], more: list[Any], seed: int) -> None:
    before = full(rows_of(groups), group="shelf", seed=seed, **HALVES)
    after = full(rows_of(groups + more), group="shelf", seed=seed, **HALVES)
    if before is not None and after is not None:
        assert sides(before).items() <= sides(after).items()


def test_shares_are_kept_roughly_and_another_seed_splits_otherwise() -> None:
    first = many()
    counts = [list(first.values()).count(name) for name in SPLITS]
    assert counts[0] == pytest.approx(280, abs=30)
    assert counts[1:] == pytest.approx([40, 40, 40], abs=20)
    assert many() == first
    assert many(seed=1) != first


def test_a_share_that_grows_takes_rows_and_gives_none() -> None:
    few = many(train=0.5, validation=0.5, dev=0, challenge=0)
    more = many(train=0.6, validation=0.4, dev=0, challenge=0)
    assert all(more[row] == "train" for row, side in few.items() if side == "train")


def test_without_a_group_equal_prompts_stay_together_whatever_the_answer() -> None:
    rows = [{"prompt": f"Question {n % 40}", "completion": f"Answer {n}"} for n in range(200)]
    splits = split(rows, **HALVES)
    assert len(splits.rows["train"]) + len(splits.rows["validation"]) == 200
    prompts = [{row["messages"][0]["content"] for row in splits.rows[name]} for name in ("train", "validation")]
    assert not prompts[0] & prompts[1]


def talk(turns: Sequence[tuple[str, str]], system: str) -> dict[str, Any]:
    """A conversation of questions and answers, under a system prompt where there is one."""
    first = [{"role": "system", "content": system}] if system else []
    said = [{"role": role, "content": text} for turn in turns for role, text in zip(("user", "assistant"), turn)]
    return {"messages": first + said}


TURNS = st.tuples(st.sampled_from(["a", "b", "a b", "a  b", "a\nb\n"]), st.sampled_from(["Yes.", "No."]))
TALKS = st.lists(st.builds(talk, st.lists(TURNS, min_size=1, max_size=2), st.sampled_from(SYSTEMS)), max_size=20)


@given(TALKS, st.integers(0, 5), st.sampled_from(["sft", "dpo"]))
def test_without_a_group_no_question_is_on_two_sides_whatever_the_system_prompt(
    talks: list[dict[str, Any]], seed: int, method: Method
) -> None:
    """Pairs of one prompt on two sides would be refused."""
    rows = [*talks, *(talk([(f"Question {n}", "Yes.")], "") for n in range(80))]  # so that no side stays empty
    pairs = [{**row, "rejected": "Perhaps."} for row in rows]
    splits = split(pairs if method == "dpo" else rows, method, seed=seed, **QUARTERS)
    where: dict[str, set[str]] = {}
    for name in SPLITS:
        for row in splits.rows[name]:
            asked = [one["content"].split() for one in row["messages"] if one["role"] == "user"]
            where.setdefault(str(asked), set()).add(name)
    assert all(len(names) == 1 for names in where.values())


def test_a_system_prompt_moves_no_row_and_a_new_version_none_without_one() -> None:
    found = []
    for system in SYSTEMS:
        splits = split([talk([(f"Question {n}", "Yes.")], system) for n in range(80)], **QUARTERS)
        found.append({row["messages"][-2]["content"]: name for name in SPLITS for row in splits.rows[name]})
    assert found[0] == found[1] == found[2]
    assert "".join(found[0][f"Question {n}"][0] for n in range(20)) == "vvtvvtccvttddtvcdvtv"


def test_each_split_has_the_hash_of_its_file_and_one_changed_answer_changes_one(tmp_path: Path) -> None:
    rows = rows_of(list(range(60)))
    splits = split(rows, group="shelf")
    paths = write(splits, tmp_path)
    assert list(paths) == list(SPLITS)
    for name, path in paths.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == splits.sha256[name]
    rows[7]["completion"] = "No."
    other = split(rows, group="shelf")
    changed = [name for name in SPLITS if other.sha256[name] != splits.sha256[name]]
    assert changed == [sides(splits)["Question 7"]]
    assert other.identity != splits.identity
    assert write(other, tmp_path)["train"].parent != paths["train"].parent


def test_a_written_split_is_not_written_again_and_leaves_no_part(tmp_path: Path) -> None:
    splits = split(rows_of(list(range(60))), group="shelf")
    times = {path: path.stat().st_mtime_ns for path in write(splits, tmp_path).values()}
    assert {path: path.stat().st_mtime_ns for path in write(splits, tmp_path).values()} == times
    assert not list(tmp_path.rglob("*.part"))


def test_the_demo_only_grows() -> None:
    few = load(Data(builtin="commerce", rows=80, group="group"), Path())
    more = load(Data(builtin="commerce", rows=160, group="group"), Path())
    for name in SPLITS:
        assert more.rows[name][: len(few.rows[name])] == few.rows[name]
    assert all(isinstance(message["content"], str) for row in few.rows["train"] for message in row["messages"])


def test_rows_cuts_a_file() -> None:
    assert len(many(rows=41)) == 41


def test_an_unknown_group_is_told_with_the_fields_that_there_are() -> None:
    with pytest.raises(InvalidInput) as caught:
        split(rows_of([1, 2]), group="shelve")
    assert str(caught.value) == ("data.group: group 'shelve' is not a field of every row (the row has messages, shelf)")


def test_an_empty_split_is_told_with_its_share() -> None:
    with pytest.raises(InvalidInput) as caught:
        split(rows_of([1]))
    assert "split is empty: 1 rows in 1 groups at a share of" in str(caught.value)
    assert "(give more rows, or a larger share; " in str(caught.value)


def test_rows_of_one_side_are_split_again_by_another_seed_alone() -> None:
    """As pairs are that a model drew from a sweep's training prompts."""
    side = split(rows_of(list(range(300)))).rows["train"]
    with pytest.raises(InvalidInput, match=r"split is empty: \d+ rows in \d+ groups .*need another data\.seed"):
        split(side)
    again = split(side, seed=1).rows
    assert all(again.values())
    assert sum(map(len, again.values())) == len(side)
