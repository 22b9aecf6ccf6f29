"""Checking rows: each thing that can be wrong is found, with its lines, and rows that are right have nothing told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.commerce import pairs, task
from recipes.data import answers, checking, masks
from recipes.data.checking import Checked, Settings, check
from recipes.data.findings import NUM_LINES, Tallies
from recipes.data.rows import is_half
from recipes.data.stream import Source, opened
from recipes.data.words import all_shingles
from recipes.schema import Base
from sweeps.errors import InvalidInput

DEMO = Base(path="builtin:tiny_commerce")
SCHEMA = json.dumps(task.PROPOSAL_SCHEMA)
GOOD = [{"prompt": f"What are {n} and {n * n}?", "completion": f"They are {n + n * n}."} for n in range(30)]


def checked(rows: list[Any], **settings: Any) -> Checked:
    return check(Source("rows", None, tuple(rows)), Settings(**settings))


def found(seen: Checked) -> dict[str, tuple[str, int, tuple[int, ...]]]:
    return {one.name: (one.level, one.count, one.lines) for one in seen.findings}


def rules(seen: Checked) -> list[str]:
    return [one.rule for one in seen.findings]


def test_the_demos_rows_have_no_error_and_only_what_is_true_of_them() -> None:
    seen = checked(task.rows(300), base=DEMO, schema=SCHEMA, max_tokens=512)
    assert seen.is_usable
    assert set(found(seen)) <= {"near-duplicates", "repeated item"}
    assert (seen.forms, seen.num_json, seen.num_masked, seen.num_usable) == ({"chat": 300}, 300, 300, 300)
    assert seen.lengths is not None
    assert not seen.lengths.is_estimate
    assert sum(count for _, _, count in seen.lengths.bins) == 300
    assert seen.lengths.bins[0][0] <= seen.lengths.median <= seen.lengths.p95 <= seen.lengths.longest


def test_lengths_are_those_that_training_sees() -> None:
    from recipes.data.rows import to_chat
    from recipes.generation import tokens_and_labels

    tokenizer = masks.tokenizer_of(DEMO, Path())
    rows = [to_chat(row) for row in [*task.rows(5), *GOOD[:5]]]
    counted = masks.lengths([(n, row["messages"]) for n, row in enumerate(rows)], tokenizer, Tallies())
    assert counted == [len(tokens_and_labels(tokenizer, row["messages"])[0]) for row in rows]


def test_rows_that_break_a_rule_are_counted_by_it_with_their_first_lines() -> None:
    rows = [*GOOD, *({"prompt": f"{n}"} for n in range(9)), [1], {"messages": []}]
    seen = checked(rows)
    assert not seen.is_usable
    assert (seen.num_rows, seen.num_usable) == (41, 30)
    form = [one for one in seen.findings if one.name == "form"]
    assert [(one.count, one.lines) for one in form] == [(9, (31, 32, 33, 34, 35)), (1, (40,)), (1, (41,))]
    assert form[0].rule == "a row needs messages, or prompt and completion; it has prompt"
    assert len(form[0].lines) == NUM_LINES


def test_lines_that_cannot_be_read_stand_among_the_findings(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GOOD) + 'hello\n\0\n{"prompt": "x", "comp')
    with opened(str(path)) as source:
        seen = check(source, Settings())
    assert [(one.lines, one.rule) for one in seen.findings] == [
        ((31,), "not JSON: Expecting value at column 1, near 'hello' (every line must be one JSON object)"),
        ((32,), "not JSON: a NUL byte at column 1 (the file was damaged while it was written: write it again)"),
        (
            (33,),
            'not JSON: Unterminated string at column 17, near \'{"prompt": "x", "comp\' '
            "(the file ends within this line: was it cut short?)",
        ),
    ]


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n\n")
    with opened(str(path)) as source, pytest.raises(InvalidInput) as caught:
        check(source, Settings())
    assert str(caught.value) == f"DATA: {path} holds no rows (one JSON object a line is needed)"


def test_forms_that_are_mixed_are_an_error() -> None:
    seen = checked([*GOOD, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}])
    assert found(seen)["mixed forms"] == ("error", 1, ())
    assert "1 of the form chat and 30 of the form prompt and completion" in rules(seen)[0]


def test_long_rows_are_an_error_where_tokens_are_counted_and_a_warning_where_they_are_estimated() -> None:
    rows = [*GOOD, {"prompt": "long", "completion": "word " * 300}]
    counted, estimated = checked(rows, base=DEMO, max_tokens=100), checked(rows, max_tokens=100)
    assert found(counted)["too long"] == ("error", 1, (31,))
    assert found(estimated)["too long"] == ("warning", 1, (31,))
    assert estimated.lengths is not None
    assert (estimated.lengths.is_estimate, estimated.lengths.longest_line) == (True, 31)


def test_the_bases_own_context_is_a_limit_too() -> None:
    seen = checked([*GOOD, {"prompt": "long", "completion": "word " * 1500}], base=DEMO)
    assert seen.max_tokens == 1024
    assert found(seen)["too long"] == ("error", 1, (31,))


def test_answers_of_white_space_teach_nothing() -> None:
    seen = checked([*GOOD, {"prompt": "x", "completion": " \n"}])
    assert found(seen)["empty answer"] == ("error", 1, (31,))


def test_repeated_rows_and_contradictions_are_told() -> None:
    seen = checked([*GOOD, GOOD[3], {"prompt": GOOD[5]["prompt"], "completion": "No."}])
    assert found(seen)["duplicates"] == ("warning", 1, (31,))
    assert found(seen)["contradictions"] == ("warning", 2, (6, 32))
    assert seen.num_repeated == 1


@pytest.mark.parametrize("field", [{}, {"session": "main"}, {"conversation": 7}])
def test_near_duplicates_are_told_with_the_largest_group(field: dict[str, Any]) -> None:
    text = "please send the four oak chairs that we ordered in spring to the new flat of my parents in the old town"
    rows = [{"prompt": f"{text} {end}", "completion": end, **field} for end in ("soon", "now", "today")]
    seen = checked([*rows, *GOOD])
    assert found(seen)["near-duplicates"] == ("warning", 3, (1, 2, 3))
    assert seen.num_near == 3


def test_near_duplicates_are_compared_word_for_word_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "please send the four oak chairs that we ordered in spring to the new flat of my parents in the old town"
    pair = [{"prompt": f"{text} {end}", "completion": end} for end in ("soon", "now")]
    monkeypatch.setattr(checking, "MARGIN", 1.0)  # all that share a band are near, by estimate
    limit = {"threshold": 0.92}  # 19 shingles, of which 18 are shared: 0.9
    assert not checked([*pair, *GOOD], **limit).num_near
    assert checked([*pair, *GOOD], threshold=0.89).num_near == 2
    monkeypatch.setattr(checking, "MOST_ACROSS", 0)
    seen = checked([*pair, *GOOD], **limit)
    assert seen.num_near >= 2
    assert any("(similarity 0.92 or more of what is their own, estimated)" in rule for rule in rules(seen))


# ---- answers ----


def proposal(number: int, **changed: Any) -> dict[str, Any]:
    answer = {"why": f"A reason that is number {number} alone.", "products": [f"lamp {number}", f"desk {number}"]}
    return {"prompt": f"Furnish room {number} of house {number * 7}, please.", "completion": {**answer, **changed}}


def test_boilerplate_and_items_that_recur_are_told() -> None:
    rows = [
        proposal(n, why="These products fit your interests.", products=[f"lamp {n}", "Nice lamp"]) for n in range(10)
    ]
    seen = checked([*rows, *(proposal(n) for n in range(10, 50))])
    assert "the sentence 'These products fit your interests.' stands in 20% of the answers" in rules(seen)
    assert "the item 'nice lamp' stands in 20% of the answers" in rules(seen)
    assert seen.is_usable
    assert not checked([proposal(n) for n in range(50)]).findings


def test_an_item_twice_in_one_answer_is_told() -> None:
    seen = checked([*(proposal(n) for n in range(20)), proposal(20, products=["lamp", "desk", "Lamp"])])
    assert found(seen)["item twice"] == ("warning", 1, (21,))


@pytest.mark.parametrize(
    ("prompt", "answer", "is_told"),
    [
        ("shoes for a party", "Men's shoes", True),
        ("shoes for a party", "women’s shoes", True),
        ("shoes for my wife", "Women's shoes", False),
        ("shoes for my wife", "Men's shoes", True),
        ("shoes for my brother’s party", "men's shoes", False),
        ("shoes for a party", "shoes for comments and amends", False),
    ],
)
def test_a_gender_that_nobody_stated_is_told(prompt: str, answer: str, is_told: bool) -> None:
    row = {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}
    assert bool(answers.genders([(1, row)], np.empty(0, np.uint32))) is is_told


def test_a_gender_in_the_instructions_of_all_rows_states_none() -> None:
    rules = "Write Men's or Women's only where the category has a gender."
    messages = [{"role": "system", "content": rules}, {"role": "user", "content": "shoes"}]
    row = {"messages": [*messages, {"role": "assistant", "content": "Men's shoes"}]}
    assert answers.genders([(1, row)], all_shingles(messages[:1]))["gender"].count == 1
    assert not answers.genders([(1, row)], np.empty(0, np.uint32))


def test_the_schema_is_held_against_each_answer_and_without_one_json_is_counted() -> None:
    rows = [*(proposal(n) for n in range(20)), proposal(20, products=[]), {"prompt": "x", "completion": "sorry"}]
    schema = {"properties": {"products": {"type": "array", "minItems": 1}}, "required": ["why"]}
    seen = checked(rows, schema=json.dumps(schema))
    assert [(one.name, one.count, one.lines) for one in seen.findings] == [("schema", 1, (21,)), ("schema", 1, (22,))]
    assert "products breaks 'minItems': [] " in rules(seen)[0]
    loose = checked(rows)
    assert found(loose)["JSON"] == ("warning", 1, (22,))
    assert "95.5% of the answers are JSON and these are not: 'sorry'" in rules(loose)


# ---- templates ----

PLAIN = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>{{ m['content'] }}<|eot_id|>{% endfor %}"
)
PROMPT = "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"


def told(template: str, *conversations: list[dict[str, str]]) -> list[tuple[str, str]]:
    """What is told of a template: levels and rules."""
    from recipes.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(DEMO, Path())
    tokenizer.chat_template = template
    tallies = Tallies()
    masks.lengths(list(enumerate(conversations)), tokenizer, tallies)
    for number, messages in enumerate(conversations):
        masks.look_at(messages, number, tokenizer, tallies)
        masks.look_for_special(messages, number, tokenizer, tallies)
    return [(one.level, one.rule) for one in masks.findings(tallies, tokenizer, "base")]


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def test_a_template_that_renders_answers_where_training_looks_for_them() -> None:
    marked = PLAIN.replace("{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}")
    assert told(marked + PROMPT, turns("a", "b"), turns("a", "b", "c", "d")) == []


def test_a_template_without_the_mark_is_noted_and_used() -> None:
    assert [level for level, _ in told(PLAIN + PROMPT, turns("a", "b"))] == ["note"]


@pytest.mark.parametrize(
    ("template", "messages", "rule"),
    [
        (PLAIN, turns("a", "b"), "the loss looks at more than the answer and the end of its turn: 'assistant …'"),
        (
            PLAIN.replace("m['content']", "m['content'].upper()") + PROMPT,
            turns("a", "b"),
            "the loss looks at other text than the answer: 'B' for 'b'",
        ),
        (
            PLAIN + PROMPT,
            turns("a", "x <|eot_id|> y"),
            "the text holds '<|eot_id|>', which the tokenizer reads as a token",
        ),
        (
            PLAIN + PROMPT.replace("assistant", "model"),
            turns("a", "b"),
            "the prompt's tokens change when the answer follows",
        ),
        (
            PLAIN.replace("{{ m['content'] }}", "{{ m['content'] if loop.last else '' }}") + PROMPT,
            turns("a", "b", "c", "d"),
            "the prompt's tokens change when the answer follows",
        ),
        (
            PLAIN.replace(
                "{{ m['content'] }}", "{{ '' if m['role'] == 'assistant' and not loop.last else m['content'] }}"
            )
            + PROMPT,
            turns("a", "b", "c", "d"),
            "earlier turns change when the conversation goes on",
        ),
        (
            PLAIN.replace("{{ m['content'] }}", "{{ m['content'] + (' over' if m['role'] == 'assistant' else '') }}")
            + PROMPT,
            turns("a", "b"),
            "the loss looks at more than the answer and the end of its turn: '…  over'",
        ),
        ("{{ raise_exception('no system') }}", turns("a", "b"), "the chat template refuses the row: no system"),
        (
            "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
            turns("a", "b"),
            "the loss looks at no token of the row",
        ),
    ],
    ids=["no prompt", "other", "special", "boundary", "boundary 2", "earlier", "more", "refused", "nothing"],
)
def test_a_template_that_teaches_something_else_is_an_error(
    template: str, messages: list[dict[str, str]], rule: str
) -> None:
    assert any(level == "error" and one.startswith(rule) for level, one in told(template, messages))


# ---- preference pairs ----


def test_pairs_are_recognised_and_handed_on() -> None:
    seen = checked(pairs.rows(60))
    assert seen.forms == {"preference pairs": 60}
    assert [one["name"] for one in seen.audit] == ["characters", "items"]


def test_each_rule_of_pairs_is_told_once() -> None:
    rows: list[dict[str, object]] = [{"prompt": f"{n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(20)]
    rows += [{"prompt": "x", "chosen": "a", "rejected": "a"}, {"prompt": "0", "chosen": "b0", "rejected": "a0"}]
    half: list[dict[str, Any]] = [{"prompt": "half", "response": "a", "rank": 0}]
    seen = checked([*rows, *half])
    assert not seen.is_usable
    told = {one.lines: one.rule for one in seen.findings if one.name == "pairs"}
    assert set(told) == {(21,), (22,), (23,)}
    assert "chosen and rejected are the same text" in told[(21,)]
    assert "form" not in found(seen)
    assert (seen.num_rows, seen.num_usable) == (23, 21)


def test_two_ways_to_write_a_ranked_pair_are_the_same() -> None:
    halves: list[dict[str, Any]] = [
        {"prompt": f"{n}", "response": f"{'ab'[rank]}{n}", "rank": rank} for n in range(20) for rank in (0, 1)
    ]
    assert checked(halves).forms == {"preference pairs": 40}
    assert is_half(halves[0])
    assert not [one for one in checked(halves).findings if one.level == "error" and one.name == "pairs"]


def test_a_whole_pair_may_have_a_field_called_rank() -> None:
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "good"}]
    rows: list[dict[str, Any]] = [{"messages": turns, "rejected": f"bad {n}", "rank": 3} for n in range(5)]
    assert not any(map(is_half, rows))
    seen = checked(rows)
    assert (seen.forms, seen.num_usable) == ({"preference pairs": 5}, 5)


def test_what_is_not_looked_at_in_half_a_pair_is_told() -> None:
    halves = [{"prompt": f"{n}", "response": f"{'ab'[rank]}{n}", "rank": rank} for n in range(5) for rank in (0, 1)]
    seen = checked(halves)
    assert found(seen)["half a pair"] == ("warning", 10, (1, 2, 3, 4, 5))
    assert seen.is_usable
    assert not checked(halves, held_out={b"12345678": "dev.jsonl"}).is_usable, "they could be held out"


def test_rejected_answers_are_looked_at_and_their_tokens_counted() -> None:
    rows = [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": f"No {n}."} for n in range(5)]
    rows[2]["rejected"] += "<|eot_id|>"
    seen = checked(rows, base=DEMO)
    assert [(one.level, one.lines) for one in seen.findings if "'<|eot_id|>'" in one.rule] == [("error", (3,))]
    assert [one["name"] for one in seen.audit] == ["characters", "tokens"]


def test_a_long_row_is_told_by_its_line_and_not_by_the_tokenizer() -> None:
    from recipes.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(DEMO, Path())
    row = [{"role": "user", "content": "x " * 3000}, {"role": "assistant", "content": "y"}]
    masks.look_at(row, 1, tokenizer, Tallies())
    assert not tokenizer.deprecation_warnings


def test_a_schema_that_refers_to_nothing_is_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        checked([proposal(0)], schema='{"$ref": "#/$defs/gone"}')
    assert str(caught.value) == (
        "schema: the schema of the answers refers to '/$defs/gone', which is not in it "
        "(write it under $defs, or mend the $ref)"
    )


def test_rows_are_counted_once_whatever_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    broken = json.dumps({"prompt": "x", "chosen": "a", "rejected": "a"}) + "\n"
    path.write_text(broken * 5 + "hello\n" * 5)
    with opened(str(path)) as source:
        assert check(source, Settings()).num_rows == 10
