"""What a look at rows sees, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.profile import Profile, profile
from recipes.schema import Base, Data
from sweeps.errors import InvalidInput

BASE = Base(path="builtin:tiny_commerce", dtype="float32")


def look(folder: Path, rows: list[Any], **data: Any) -> Profile:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return profile(Data(path="rows.jsonl", **data), BASE, folder)


def pairs(answer: Any, num: int = 200, **more: Any) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {n}", "completion": answer(n), **{key: value(n) for key, value in more.items()}}
        for n in range(num)
    ]


def test_labels_with_their_commonest(tmp_path: Path) -> None:
    seen = look(tmp_path, pairs(lambda n: "yes" if n % 4 else "no"))
    assert (seen.answers.kind, seen.answers.labels, seen.answers.commonest) == ("labels", ("yes", "no"), 0.75)
    assert seen.answers.schema is None
    assert (seen.form, seen.num_messages, seen.system) == ("prompt and completion", (2, 2), None)
    assert sum(seen.num_rows_of.values()) == seen.num_rows == 200


def test_json_with_its_schema(tmp_path: Path) -> None:
    seen = look(tmp_path, pairs(lambda n: {"order": n, "intent": ("buy", "sell")[n % 2]}))
    assert seen.answers.kind == "json"
    assert seen.answers.schema is not None
    assert seen.answers.schema["properties"] == {
        "order": {"type": "integer"},
        "intent": {"type": "string", "enum": ["buy", "sell"]},
    }


@pytest.mark.parametrize(
    "answer",
    [
        lambda n: f"Answer {n}",  # too many to be labels
        lambda n: (
            "a long sentence that goes on and on, and says nothing that a label would say, at all" + "." * (n % 2)
        ),
        lambda n: {"a": 1} if n % 2 else [1],  # no one form
        lambda n: '{"a": NaN}',
        lambda n: "{broken",
    ],
)
def test_anything_else_is_text_or_labels(tmp_path: Path, answer: Any) -> None:
    seen = look(tmp_path, pairs(answer))
    assert seen.answers.kind in ("text", "labels")
    assert seen.answers.schema is None


def test_lengths_are_the_bases_own_tokens_and_the_longest_is_named_by_its_line(tmp_path: Path) -> None:
    rows = pairs(lambda n: "yes")
    rows[41]["prompt"] = "water " * 100
    seen = look(tmp_path, rows)
    assert seen.longest_line == 42
    assert 100 <= seen.max_tokens <= 120
    assert seen.median_tokens < 30
    assert seen.context == 1024


def test_chats_with_one_system_prompt(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                *turns * (n % 2),
                {"role": "user", "content": f"Question {n}"},
                {"role": "assistant", "content": "yes"},
            ]
        }
        for n in range(100)
    ]
    seen = look(tmp_path, rows)
    assert (seen.form, seen.num_messages, seen.system) == ("chat", (3, 5), "Be brief.")
    assert look(tmp_path, [*rows, *pairs(lambda n: "yes")]).form == "both"
    assert look(tmp_path, [*rows, *pairs(lambda n: "yes")]).system is None


def test_repeated_and_contradicting_rows_are_counted(tmp_path: Path) -> None:
    rows = pairs(lambda n: "yes")
    seen = look(tmp_path, [*rows, rows[0], rows[1], {"prompt": "Question 5", "completion": "no"}])
    assert (seen.num_repeated, seen.num_contradicting) == (2, 2)


@pytest.mark.parametrize(
    ("fields", "group"),
    [
        ({"customer": lambda n: f"c{n // 4}"}, "customer"),
        ({"day": lambda n: f"d{n // 8}", "customer_id": lambda n: n // 4}, "customer_id"),
        ({"day": lambda n: f"d{n // 8}", "shift": lambda n: f"s{n // 4}"}, "day"),
        ({"id": lambda n: f"row-{n}"}, None),  # nothing recurs
        ({"size": lambda n: n // 4}, None),  # a number of unknown meaning
        ({"queue": lambda n: f"q{n % 3}"}, None),  # too few values to split by
        ({"customer": lambda n: "one" if n < 100 else f"c{n // 2}"}, None),  # one holds half of the rows
        ({"customer": lambda n: f"c{n // 4}" if n else None}, None),  # not every row has one
    ],
)
def test_a_field_that_says_what_belongs_together(tmp_path: Path, fields: dict[str, Any], group: str | None) -> None:
    seen = look(tmp_path, pairs(lambda n: "yes", **fields))
    assert seen.group == group
    assert sum(seen.num_rows_of.values()) == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"prompt,completion\nhello,yes\n", ["CSV", "'prompt,completion'"]),
        (b'"prompt";"completion"\n', ["CSV"]),
        (b'[\n {"prompt": "a"}\n]', ["one JSON list", "jq -c '.[]' rows.jsonl"]),
        (b'{\n "prompt": "a"\n}\n', ["JSON over several lines", "jq -c . rows.jsonl"]),
        (b"Dear Sir\nor Madam\n", ["text", "'Dear Sir'"]),
        (b"PAR1\x00\x01", ["Parquet"]),
        (b"\x1f\x8b\x08\x00", ["gzip", "gunzip"]),
        (b"PK\x03\x04", ["ZIP", "Excel"]),
    ],
)
def test_other_forms_are_called_by_their_name(tmp_path: Path, content: bytes, words: list[str]) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        profile(Data(path="rows.jsonl"), BASE, tmp_path)
    assert len(caught.value.problems) == 1
    for word in ["rows.jsonl", *words]:
        assert word in str(caught.value)


def test_too_few_rows_are_told_with_their_number(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"rows\.jsonl: 3 rows are too few: the .* split is empty.*hundred"):
        look(tmp_path, pairs(lambda n: "yes", 3))


def test_rows_beyond_the_bases_context_are_told_with_the_longest(tmp_path: Path) -> None:
    rows = pairs(lambda n: "yes")
    rows[6]["prompt"] = "water " * 1100
    rows[8]["prompt"] = "water " * 2000
    with pytest.raises(InvalidInput, match=r"line 9: .*2 of 200 rows have more than the base's 1024 tokens.*--base"):
        look(tmp_path, rows)
