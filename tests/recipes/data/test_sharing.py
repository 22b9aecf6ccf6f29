"""What rows share, counted: against sums and orders that are made here anew."""

from functools import cache
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.commerce import task
from recipes.data import sharing as module
from recipes.data.rows import to_chat
from recipes.data.sharing import Saving, Sharing, shared_prefix, sharing
from recipes.engines.packed.rows import Row
from recipes.engines.packed.tree import MIN_SHARED
from recipes.generation import tokens_and_labels
from tests.recipes.tiny import DEMO_BASE

Messages = list[dict[str, str]]


@cache
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DEMO_BASE)


@cache
def demo() -> tuple[Messages, ...]:
    return tuple(to_chat(row)["messages"] for row in task.rows(96))


def count(rows: Any, batch_size: int = 8, micro_batch_size: int = 8, seed: int = 0) -> Sharing:
    return sharing(rows, tokenizer(), batch_size=batch_size, micro_batch_size=micro_batch_size, seed=seed)


@cache
def counted() -> Sharing:
    return count(demo())


def pair(prompt: str, answer: str = "ok") -> Messages:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def test_lengths_are_those_of_the_training_rows() -> None:
    rows = [tokens_and_labels(tokenizer(), messages) for messages in demo()]
    lengths = sorted(len(ids) for ids, _ in rows)
    seen = counted().lengths
    assert (seen.mean, seen.longest) == (sum(lengths) / 96, lengths[-1])
    assert lengths[47] <= seen.median <= lengths[48]
    assert sum(length <= seen.p95 for length in lengths) >= 0.95 * 96 > sum(length < seen.p95 for length in lengths)
    assert seen.completion == sum(label != -100 for _, labels in rows for label in labels) / 96
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*(ids for ids, _ in rows), strict=False))
    assert seen.shared == len(list(alike)) > 100
    assert sum(seen.bar) == pytest.approx(seen.mean)
    assert all(part > 0 for part in seen.bar)


@given(st.lists(st.lists(st.integers(0, 1), max_size=6), min_size=1, max_size=6))
def test_the_shared_prefix_is_that_of_all_rows(rows: list[list[int]]) -> None:
    shared = shared_prefix([Row(tuple(ids), tuple(ids)) for ids in rows])
    assert all(ids[:shared] == rows[0][:shared] for ids in rows)
    longer = {tuple(ids[: shared + 1]) for ids in rows}
    assert len(longer) > 1 or all(len(ids) == shared for ids in rows)


def test_an_epochs_batches_hold_every_token_once() -> None:
    total = sum(len(tokens_and_labels(tokenizer(), messages)[0]) for messages in demo())
    for saving in counted().savings:
        assert saving.num_batches == saving.epoch_batches == 96 / saving.batch_size
        assert saving.tokens * saving.num_batches == pytest.approx(total)
        assert saving.saving == pytest.approx(saving.tokens / saving.tree_tokens)


def test_a_tree_has_the_shared_prefix_once_a_pass() -> None:
    """Rows that share their beginning and nothing else: what is computed can be told from lengths alone."""
    rows = [pair("the same words for every row of the set again and again " + chr(97 + n) * 9 * n) for n in range(16)]
    lengths = [len(tokens_and_labels(tokenizer(), messages)[0]) for messages in rows]
    seen = count(rows, 4, 2)
    own, plain = sum(lengths) - 16 * seen.lengths.shared, sum(lengths)
    assert seen.lengths.shared >= MIN_SHARED
    assert seen.savings[0].saving == pytest.approx(plain / (own + 8 * seen.lengths.shared), rel=0.02)
    assert seen.savings[-1].saving == pytest.approx(plain / (own + seen.lengths.shared), rel=0.02)


def factors(saving: Saving) -> list[float]:
    found = [saving.saving, saving.regrouped, saving.moved, saving.moved_and_regrouped]
    return [factor for factor in found if factor is not None]


def test_larger_batches_regrouping_and_moving_save_more_on_the_demos_rows() -> None:
    by_size = {saving.batch_size: saving for saving in counted().savings}
    assert list(by_size) == [8, 2, 4, 16], "the recipe's own first"
    assert by_size[2].saving < by_size[4].saving < by_size[8].saving < by_size[16].saving
    for saving in by_size.values():
        plain, regrouped, moved, both = factors(saving)
        assert 1 < plain < regrouped < both
        assert plain < moved < both
    [constant] = counted().constants
    assert constant.text.strip() == task.CLOSING


def test_moving_saves_what_rows_that_were_written_so_save() -> None:
    things = ("lamp", "heater", "lift", "door", "bell", "mixer")
    cases = [f"The {thing} does not work since yesterday." for thing in things * 4]
    questions = [f"{case} This is report {place}." for place, case in enumerate(cases)]
    rules = "Sort the report into one queue, answer with its name alone, and say nothing about who will come, or when."
    after = count([pair(f"{question}\n{rules}") for question in questions])
    before = count([pair(f"{rules}\n{question}") for question in questions])
    assert [text.text.strip() for text in after.constants] == [rules]
    assert before.constants == ()
    for late, early in zip(after.savings, before.savings, strict=True):
        assert (late.moved, late.moved_and_regrouped) == (early.saving, early.regrouped)
        assert late.saving < early.saving
    assert after.lengths.shared < before.lengths.shared


def test_a_tree_spans_a_forward_pass_not_a_step() -> None:
    own = count(demo(), 8, 4).savings
    assert (own[0].batch_size, own[0].micro_batch_size) == (8, 4)
    whole = {saving.batch_size: saving for saving in own[1:]}
    assert whole[4].saving == pytest.approx(own[0].saving), "the same passes, two of them a step"
    assert whole[8].saving > own[0].saving


def test_the_seed_decides_the_batches() -> None:
    assert count(demo()[:24]) == count(demo()[:24])
    assert count(demo()[:24]).savings[0].tree_tokens != count(demo()[:24], seed=1).savings[0].tree_tokens


def test_rows_that_are_all_the_same_are_computed_once() -> None:
    seen = count([pair("the very same question as everybody else has asked")] * 8)
    assert seen.savings[0].saving == 8
    assert (seen.constants, seen.savings[0].moved) == ((), None)
    assert seen.lengths.bar == (seen.lengths.mean, 0, 0, 0)


def test_one_row_shares_with_nobody() -> None:
    seen = count([pair("hello")])
    assert {tuple(factors(saving)) for saving in seen.savings} == {(1.0, 1.0)}


def test_of_a_large_set_a_sample_of_rows_and_the_first_batches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUM_ROWS", 30)
    monkeypatch.setattr(module, "NUM_BATCHES", 5)
    seen = count(demo())
    assert (seen.num_rows, seen.num_seen) == (96, 30)
    assert [(saving.num_batches, saving.epoch_batches) for saving in seen.savings] == [
        (5, 12),
        (5, 48),
        (5, 24),
        (5, 6),
    ]
    assert seen.lengths.longest <= counted().lengths.longest
    assert [text.text for text in seen.constants] == [text.text for text in counted().constants]
