"""Reading preference pairs: each written form, the exact words of every rule, and orders that hold for all files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.data.preferences import checked_pairs, to_pair
from recipes.data.rows import checked_rows, read_jsonl, to_chat
from recipes.data.splits import load
from recipes.schema import Data
from sweeps.errors import InvalidInput

USER = {"role": "user", "content": "A tent?"}
YES, NO = {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No."}
COMMON = {"messages": [USER, YES], "rejected": "No."}
RANKED = [{"response": "Yes.", "rank": 0}, {"response": "No.", "rank": 1}]


def ranked(*ranks: Any) -> dict[str, Any]:
    return {"prompt": "A tent?", "responses": [{"response": f"answer {n}", "rank": r} for n, r in enumerate(ranks)]}


def told(rows: Sequence[Any]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        checked_pairs(enumerate(rows, start=1), "pairs.jsonl")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "row",
    [
        COMMON,
        {"prompt": "A tent?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [USER], "chosen": "Yes.", "rejected": "No."},
        {"messages": [USER], "chosen": "Yes.", "rejected": "No."},
        {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
        {"prompt": [USER], "chosen": [USER, YES], "rejected": [USER, NO]},
        {"prompt": "A tent?", "chosen": [USER, YES], "rejected": "No."},
        {"chosen": [USER, YES], "rejected": [USER, NO]},
        {"prompt": "A tent?", "responses": RANKED},
        {"prompt": "A tent?", "responses": RANKED[::-1]},
        {**COMMON, "prompt": "A tent?"},
        {"prompt": "A tent?", "messages": [USER, YES], "chosen": [USER, YES], "rejected": [USER, NO]},
        {"messages": [USER], "responses": [{"content": "Yes.", "rank": 0}, {"content": "No.", "rank": 1}]},
    ],
)
def test_every_written_form_becomes_the_common_one(row: dict[str, Any]) -> None:
    pair = to_pair({**row, "id": 7})
    assert pair == {**COMMON, "id": 7}
    assert to_pair(pair) == pair
    assert to_chat(pair) == pair, "whatever takes chat rows takes it"


def test_two_rows_of_one_prompt_are_one_pair_at_the_second_line() -> None:
    rows = [
        {"prompt": "A tent?", "response": "No.", "rank": 1},
        {"prompt": "A mug?", "response": "Red.", "rank": 0},
        {"prompt": "A mug?", "response": "Blue.", "rank": 1},
        {"prompt": "A tent?", "response": "Yes.", "rank": 0, "id": 7},
    ]
    found = checked_pairs(enumerate(rows, start=1), "x")
    assert [(pair["messages"][-1]["content"], pair["rejected"]) for pair in found] == [
        ("Red.", "Blue."),
        ("Yes.", "No."),
    ]
    assert found[1] == {**COMMON, "id": 7}


def test_objects_are_serialised_as_in_any_row() -> None:
    pair = to_pair({"prompt": "x", "chosen": {"b": 1, "a": [2]}, "rejected": ["no"]})
    assert (pair["messages"][-1]["content"], pair["rejected"]) == ('{"b":1,"a":[2]}', '["no"]')


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (ranked(0, 0), "responses must have the ranks 0 and 1 once each, got 0, 0"),
        (ranked(1, 1), "responses must have the ranks 0 and 1 once each, got 1, 1"),
        (ranked(0), "responses must have the ranks 0 and 1 once each, got 0"),
        (ranked(), "responses must have the ranks 0 and 1 once each, got none"),
        (ranked(0, 1, 1), "responses must have the ranks 0 and 1 once each, got 0, 1, 1"),
        (ranked(0, 1, 2), "responses[2].rank must be 0 or 1, got 2"),
        (ranked(True, 1), "responses[0].rank must be 0 or 1, got True"),
        (ranked("0", 1), "responses[0].rank must be 0 or 1, got '0'"),
        ({"prompt": "x", "responses": [{"response": "a"}]}, "responses[0] has no rank"),
        ({"prompt": "x", "responses": ["a", "b"]}, "responses[0] must have response and rank"),
        ({"prompt": "x", "responses": {"0": "a"}}, "responses must be a list of two, got dict"),
        ({"responses": RANKED}, "messages must be text or a list of messages, got NoneType"),
        ({"prompt": "x", "chosen": "", "rejected": "b"}, "chosen is empty"),
        ({"prompt": "x", "chosen": " \n", "rejected": "b"}, "chosen is empty"),
        ({"prompt": "x", "chosen": "a", "rejected": None}, "rejected is empty"),
        ({"prompt": "x", "chosen": "a", "rejected": {}}, "rejected is empty"),
        ({"prompt": [USER], "chosen": [USER, {**YES, "content": ""}], "rejected": "b"}, "chosen[1].content is empty"),
        ({"prompt": "x", "chosen": "a"}, "it has chosen, but no rejected"),
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same text: 'a'"),
        (
            {"prompt": "x", "chosen": {"a": 1, "b": 2}, "rejected": '{"b": 2, "a": 1}'},
            "chosen and rejected are the same but for spaces",
        ),
        ({"prompt": "x", "chosen": "a  b", "rejected": "a b\n"}, "chosen and rejected are the same but for spaces"),
        ({"chosen": "a", "rejected": "b"}, "it has no prompt, and chosen is an answer alone"),
        ({"chosen": [YES], "rejected": [NO]}, "it has no prompt: chosen and rejected hold one message"),
        (
            {"chosen": [USER, YES], "rejected": [{**USER, "content": "A mug?"}, NO]},
            "rejected is not an answer to the same prompt: it parts from chosen at messages[0]",
        ),
        (
            {"prompt": "A mug?", "chosen": [USER, YES], "rejected": "No."},
            "chosen is not an answer to the same prompt: it parts from the prompt at messages[0]",
        ),
        ({"prompt": [USER, YES], "chosen": "a", "rejected": "b"}, "prompt must end with the user's turn"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "prompt is empty"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt must be text or a list of messages, got int"),
        ({"prompt": "x", "chosen": [USER], "rejected": "b"}, "chosen must end with the assistant's turn, got 'user'"),
        ({"prompt": "x", "chosen": "a", "rejected": "b\x00"}, "rejected holds a NUL byte"),
        ({"prompt": "x", "chosen": "a", "rejected": "\ud800"}, "rejected holds half of a surrogate pair"),
        ({"prompt": "x", "rank": 0, "response": ""}, "no row has rank 1 for the same prompt, only rank 0 is there"),
        (
            {"prompt": "x", "responses": RANKED, "chosen": "a", "rejected": "b"},
            "two forms in one row: it has responses and chosen and rejected",
        ),
        (
            {"prompt": "A mug?", "messages": [USER], "chosen": "a", "rejected": "b"},
            "two forms in one row: it has a prompt, and messages that ask something else",
        ),
        (
            {**COMMON, "prompt": "A mug?"},
            "two forms in one row: it has a prompt, and messages that ask something else",
        ),
        ([], "a row must be a JSON object, got list"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_row_that_breaks_a_rule_is_told_by_line(row: Any, rule: str) -> None:
    good = {"prompt": "before", "chosen": "a", "rejected": "b"}
    found = told([good, row])
    assert len(found) == 1
    assert found[0].startswith(f"line 2: pairs.jsonl: {rule}"), found


def test_way_outs_are_told() -> None:
    assert told([ranked(0, 0)]) == [
        "line 1: pairs.jsonl: responses must have the ranks 0 and 1 once each, got 0, 0 "
        "(rank 0 is the preferred answer, rank 1 the rejected one)"
    ]


def test_all_problems_are_told_together_by_line() -> None:
    rows = [ranked(0, 0), {"prompt": "x", "response": "a", "rank": 0}, {"prompt": "x", "chosen": "a", "rejected": "a"}]
    assert [text.split(":")[0] for text in told(rows)] == ["line 1", "line 2", "line 3"]


def test_a_second_row_of_the_same_rank_names_the_first() -> None:
    rows = [{"prompt": "x", "response": text, "rank": 0} for text in "ab"]
    assert told(rows)[0].startswith("line 2: pairs.jsonl: rank 0 is also that of line 1, for the same prompt")


def pair(chosen: str, rejected: str, prompt: str = "x") -> dict[str, Any]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def test_a_pair_and_its_reverse_contradict_each_other() -> None:
    assert told([pair("a", "b"), pair("b", "a", prompt="y"), pair("b", "a")]) == [
        "line 3: pairs.jsonl: the answer that is rejected here is preferred to the chosen one in line 1, for the same "
        "prompt (leave one of them out)"
    ]


def test_a_cycle_is_told_with_its_lines() -> None:
    assert told([pair("a", "b"), pair("b", "c"), pair("b", "d"), pair("c", "a")]) == [
        "line 4: pairs.jsonl: a cycle: with the pairs of lines 1, 2, each answer to this prompt is preferred to itself "
        "(leave one of them out)"
    ]


@given(st.lists(st.tuples(st.sampled_from("pq"), st.integers(0, 6), st.integers(0, 6)), min_size=1))
def test_pairs_that_follow_one_order_never_contradict_and_any_reverse_of_one_does(
    drawn: list[tuple[str, int, int]],
) -> None:
    rows = [pair(f"a{min(a, b)}", f"a{max(a, b)}", prompt) for prompt, a, b in drawn if a != b]
    if not rows:
        return
    assert len(checked_pairs(enumerate(rows, start=1), "x")) == len(rows)
    first = rows[0]
    assert len(told([*rows, pair(first["rejected"], first["chosen"], first["prompt"])])) == 1


def test_a_method_refuses_the_rows_of_the_other_once() -> None:
    single = {"prompt": "x", "completion": "y"}
    assert told([single, single]) == [
        "line 1: pairs.jsonl: a row of one answer, but method dpo learns from pairs "
        "(write prompt, chosen and rejected, or ranked responses; or set method: sft)"
    ]
    assert told([{"text": 1}])[0].startswith("line 1: pairs.jsonl: no preference pair: it has text")
    for row in (COMMON, pair("a", "b"), ranked(0, 1), {"prompt": "x", "response": "y", "rank": 0}):
        with pytest.raises(InvalidInput) as caught:
            checked_rows(enumerate([single, row, row], start=1), "rows.jsonl")
        assert str(caught.value) == (
            "line 2: rows.jsonl: a preference pair, but method sft learns from rows of one answer "
            "(set method: dpo, or leave the rejected answers out)"
        )


def test_a_file_of_pairs_is_split_by_prompt(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [pair(f"a{n}", f"b{n % 7}", prompt=f"prompt {n % 50}") for n in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Data(path=str(path), train=0.8, validation=0.2, dev=0, challenge=0)
    sides = load(data, Path(), method="dpo").rows
    assert sum(map(len, sides.values())) == 200
    assert not sides["dev"]
    assert not sides["challenge"]
    prompts = {side: {row["messages"][0]["content"] for row in members} for side, members in sides.items()}
    assert not prompts["train"] & prompts["validation"]
    assert all(set(row) == {"messages", "rejected"} for row in sides["train"])
    with pytest.raises(InvalidInput, match="a preference pair, but method sft"):
        load(data, Path())


def test_a_group_that_tears_a_prompt_apart_is_refused_and_the_way_out_is_one(tmp_path: Path) -> None:
    """To the rule as to the split without a group, another system prompt makes no other prompt."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        {
            **pair("a", "b"),
            "prompt": [{"role": "system", "content": system}, {"role": "user", "content": f"Where is {n}?"}],
        }
        for n in range(60)
        for system in ("Be brief.", "Be kind.")
    ]
    path.write_text("".join(json.dumps({**row, "id": number}) + "\n" for number, row in enumerate(rows)))
    with pytest.raises(InvalidInput) as caught:
        load(Data(path=str(path), group="id"), Path(), method="dpo")
    assert "data.group: the prompt 'Where is " in str(caught.value)
    assert str(caught.value).endswith("(give all rows of a prompt one group, or leave data.group out)")
    sides = load(Data(path=str(path)), Path(), method="dpo").rows
    questions = {side: {row["messages"][1]["content"] for row in members} for side, members in sides.items()}
    assert sum(map(len, sides.values())) == 2 * sum(map(len, questions.values())) == 120


def test_a_line_that_is_no_json_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair("a", "b")) + "\nhello\n")
    with pytest.raises(InvalidInput, match=r"line 2: .*not JSON"):
        checked_pairs(read_jsonl(path), str(path))
