"""Splitting by what belongs together: whatever the rows are, nothing that is linked is on two sides."""

import contextlib
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recipes.data import looks, signatures, splitting
from recipes.data.links import Columns, components
from recipes.data.looks import Fields, Sample
from recipes.data.splits import SPLITS
from recipes.data.splitting import Settings, Split, decide, sides_of
from recipes.data.stream import Source
from recipes.data.templates import template
from recipes.data.words import NO_HASHES, WORD, all_shingles, own_shingles, similarity
from sweeps.errors import InvalidInput

HALVES = (0.5, 0.5, 0.0, 0.0)
NOTHING_COMMON = {"common": NO_HASHES}


def chat(*turns: str, answer: str = "Yes.", **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(turns)]
    return {"messages": [*messages, {"role": "assistant", "content": answer}], **more}


def source(rows: list[dict[str, Any]]) -> Source:
    return Source("rows", None, tuple(rows))


def split(rows: list[dict[str, Any]], **more: Any) -> Split:
    return decide(source(rows), Settings(**{"shares": HALVES, **NOTHING_COMMON, **more}))


def full(rows: list[dict[str, Any]], **more: Any) -> Split | None:
    """The split, or None where a side stays empty."""
    with contextlib.suppress(InvalidInput):
        return split(rows, **more)
    return None


def side_by_row(rows: list[dict[str, Any]], found: Split) -> dict[str, int]:
    return {json.dumps(row, sort_keys=True): int(side) for row, side in zip(rows, found.sides, strict=True)}


# ---- any links ----

EDGES = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=50))
)


@given(EDGES, st.integers(0, 5), st.sampled_from([(0.7, 0.1, 0.1, 0.1), HALVES, (0.4, 0.0, 0.6, 0.0)]))
def test_no_link_ever_crosses(
    graph: tuple[int, list[tuple[int, int]]], seed: int, shares: tuple[float, float, float, float]
) -> None:
    count, edges = graph
    first, second = (np.array([edge[side] for edge in edges], np.int64) for side in (0, 1))
    labels = components(count, {"any": (first, second)})
    keys = np.arange(1, count + 1, dtype=np.uint64)
    sides = sides_of(keys, labels, Settings(shares=shares, seed=seed))
    assert (sides[first] == sides[second]).all()
    assert all(shares[side] > 0 for side in sides)
    turned = np.random.default_rng(seed).permutation(count)
    again = sides_of(keys[turned], labels[turned], Settings(shares=shares, seed=seed))
    assert (again == sides[turned]).all(), "the order of rows does not matter"


@given(EDGES, EDGES, st.integers(0, 5))
def test_rows_that_are_linked_to_no_old_one_move_none(
    old: tuple[int, list[tuple[int, int]]], new: tuple[int, list[tuple[int, int]]], seed: int
) -> None:
    def sides(count: int, edges: list[tuple[int, int]]) -> Any:
        pairs = np.array(edges, np.int64).reshape(-1, 2)
        return sides_of(
            np.arange(1, count + 1, dtype=np.uint64),
            components(count, {"any": (pairs[:, 0], pairs[:, 1])}),
            Settings(seed=seed),
        )

    before = sides(*old)
    after = sides(old[0] + new[0], [*old[1], *((one + old[0], other + old[0]) for one, other in new[1])])
    assert (after[: old[0]] == before).all()


def test_shares_are_kept_as_the_number_of_components_allows() -> None:
    keys = np.random.default_rng(0).integers(1, 2**63, 20_000).astype(np.uint64)
    sides = sides_of(keys, np.arange(20_000, dtype=np.int32), Settings())
    counts = np.bincount(sides, minlength=4) / 20_000
    assert counts == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.012)


# ---- any rows ----


def rows_of(words: str, groups: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """A few rows of a few words, so that many of them are alike."""
    word = st.sampled_from(words.split())
    text = st.lists(word, min_size=1, max_size=14).map(" ".join)
    turns = st.one_of(text.map(lambda one: [one]), st.lists(text, min_size=3, max_size=3))
    group = st.sampled_from(["", "", "", *groups])
    one = st.builds(
        lambda said, answer, name: chat(*said, answer=answer, **({"session_id": name} if name else {})),
        turns,
        word,
        group,
    )
    return st.lists(one, min_size=1, max_size=14)


ROWS = rows_of("red blue oak tent lamp desk where find send please order number", ["a", "b"])
FOREIGN = rows_of("rouge bleu chêne tente bureau trouver envoyer commande", ["c", "d"])
QUICK = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(ROWS, st.integers(0, 3))
def test_nothing_that_belongs_together_is_on_two_sides(rows: list[dict[str, Any]], seed: int) -> None:
    found = full(rows, seed=seed)
    if found is None:
        return
    assert found.sides.size == len(rows)
    for one, first in zip(rows, found.sides, strict=True):
        for other, second in zip(rows, found.sides, strict=True):
            prompts = one["messages"][:-1], other["messages"][:-1]
            together = prompts[0] == prompts[1] or prompts[0] == prompts[1][: len(prompts[0])]
            together |= one.get("session_id") is not None and one.get("session_id") == other.get("session_id")
            alike = similarity(all_shingles(prompts[0]), all_shingles(prompts[1])) >= splitting.THRESHOLD
            assert first == second or not (together or alike), (one, other)


@QUICK
@given(ROWS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_same_rows_in_any_order_are_split_alike(rows: list[dict[str, Any]], seed: int, rng: random.Random) -> None:
    found = full(rows, seed=seed)
    shuffled = rng.sample(rows, len(rows))
    again = full(shuffled, seed=seed)
    assert (found is None) == (again is None)
    if found is not None and again is not None:
        assert side_by_row(rows, found) == side_by_row(shuffled, again)


@QUICK
@given(ROWS, FOREIGN, st.integers(0, 3))
def test_rows_of_other_words_move_no_old_row(old: list[dict[str, Any]], new: list[dict[str, Any]], seed: int) -> None:
    before, after = full(old, seed=seed), full([*new, *old], seed=seed)
    if before is not None and after is not None:
        assert (after.sides[len(new) :] == before.sides).all()


# ---- each kind of link ----


def many(count: int = 60, start: int = 0) -> list[dict[str, Any]]:
    """Prompts that have nothing to do with each other."""
    rng = random.Random(start)
    letters = "bcdfghklmnprstvz"
    return [
        chat(" ".join("".join(rng.choices(letters, k=6)) for _ in range(12)) + "?", answer=f"{n}")
        for n in range(start, start + count)
    ]


def links_between(*rows: dict[str, Any], **more: Any) -> set[str]:
    """The kinds of links among some rows, with others around them."""
    found = split([*rows, *many()], **more)
    kinds = {kind for kind, edges in found.links.items() if edges[0].size}
    if kinds:
        assert len(set(found.labels[: len(rows)].tolist())) == 1
    return kinds


LONG = "please send the four oak chairs that we ordered in spring to the new flat of my parents in the old town soon"


def test_a_conversation_is_known_by_its_field() -> None:
    assert links_between(chat("a b c", thread_id=7), chat("d e f", thread_id=7)) == {"conversation"}
    assert links_between(chat("a b c", thread_id=7), chat("d e f", thread_id=8)) == set()


def test_a_named_field_takes_the_place_of_the_conversation() -> None:
    rows = [chat(f"x{n}x y{n}y z{n}z", shop=n % 20, thread_id=1) for n in range(60)]
    found = split(rows, fields=Fields(group="shop"))
    assert len(set(found.labels.tolist())) == 20


def test_a_named_field_must_be_in_every_row() -> None:
    with pytest.raises(InvalidInput) as caught:
        split([chat("a", shop=1), chat("b")], fields=Fields(group="shop"))
    assert str(caught.value) == (
        "line 2: --group-field: 'shop' is not a field of every row of rows "
        "(name a field that all rows have, or leave it out)"
    )


def test_the_same_prompt_and_the_beginning_of_a_conversation_are_links() -> None:
    assert links_between(chat("a b c", answer="1"), chat("a b c", answer="2")) == {"prompt"}
    assert links_between(chat("a b c"), chat("a b c", "Yes.", "d e f")) == {"beginning"}
    assert links_between(chat("a b c"), chat("a b c", "No.", "d e f")) == {"beginning"}
    assert links_between(chat("d e f"), chat("a b c", "No.", "d e f")) == set()
    asked_on = {"messages": [*chat("a b c")["messages"][:1], *chat("d e f")["messages"]]}
    assert links_between(chat("a b c"), asked_on) == {"beginning"}


def under(system: str, row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "messages": [{"role": "system", "content": system}, *row["messages"]]}


def test_the_same_question_under_another_system_prompt_is_a_link() -> None:
    first, second = "You sell oak chairs to kings.", "Be brief, name no price whatever is asked."
    assert links_between(under(first, chat("a b c")), under(second, chat("a  b c")), chat("a b c")) == {"prompt"}
    assert links_between(under(first, chat("a b c")), under(second, chat("a b c", "No.", "d e f"))) == {"beginning"}
    rows = [under(system, row) for row in many() for system in (first, second)]
    sides = split(rows).sides
    assert (sides[::2] == sides[1::2]).all(), "else a sweep of pairs refuses the split's folder"


def test_words_of_a_script_without_spaces_are_characters_beside_digits_and_letters_too() -> None:
    assert WORD.findall("第3章はAIです。don't") == ["第", "3", "章", "は", "AI", "で", "す", "don't"]


def test_prompts_that_differ_by_a_word_are_linked_and_others_are_not() -> None:
    assert links_between(chat(LONG), chat(LONG.replace("soon", "quickly"))) == {"near"}
    assert links_between(chat(LONG), chat(" ".join(sorted(LONG.split())))) == set()


def templated(names: list[str]) -> list[dict[str, Any]]:
    asked = 'please change the delivery address of order {} to "{} Road" and tell the driver {} about it'
    return [chat(asked.format(n * 7919, name * 3, name)) for n, name in enumerate(names)]


def test_one_template_with_other_slots_is_a_link() -> None:
    names = ["Ann", "Bob", "Cleo", "Dora", "Eve", "Finn"]
    assert "template" in links_between(*templated(names))


def test_a_template_needs_words_of_its_own() -> None:
    counts = np.full(1 << 22, 100, np.int32)
    short = [{"role": "user", "content": "where is order 17?"}]
    assert template(short, NO_HASHES, counts) is None
    long = [{"role": "user", "content": 'please tell Ann that order 17 with "two lamps" has left our store today'}]
    assert template(long, NO_HASHES, counts) == "please tell _ that order _ with _ has left our store today"
    assert template(long, all_shingles(long), counts) is None, "all of it is common to all prompts"
    assert template([{"role": "user", "content": LONG}], NO_HASHES, counts) is None, "there is no slot"


def test_a_named_template_field_takes_the_place_of_what_is_found() -> None:
    names = ["Ann", "Bob", "Cleo", "Dora", "Eve", "Finn"]
    rows = [{**row, "form": n % 2} for n, row in enumerate(templated(names))]
    others = [{**row, "form": f"other {n}"} for n, row in enumerate(many())]
    found = split([*rows, *others], fields=Fields(template="form"), threshold=1.0)
    assert len(set(found.labels[:6].tolist())) == 2


def test_what_nearly_all_prompts_have_makes_none_alike() -> None:
    rules = "Answer in one short sentence, be polite, name no price, and never promise a date to anybody at all."
    rows = [chat(f"{row['messages'][0]['content'][:30]}\n{rules}", answer=str(n)) for n, row in enumerate(many(80))]
    found = split(rows, common=None)
    assert found.common.size > 10
    assert found.links["near"][0].size == 0
    assert len(set(found.labels.tolist())) == 80


def test_the_sample_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    prompts = [(int(key), rng.integers(0, 50, 20).astype(np.uint32)) for key in rng.integers(1, 2**63, 5000)]
    one, other = Sample(), Sample()
    for start in range(0, 5000, 500):
        one.add(prompts[start : start + 500])
        other.add(prompts[::-1][start : start + 500])
    assert (one.common() == other.common()).all()
    assert one.below == other.below < 2**64


def test_a_giant_component_is_told_with_what_holds_it_together() -> None:
    rows = [chat(f"{row['messages'][0]['content']}", thread_id=1, answer=f"a{n}") for n, row in enumerate(many(30))]
    found = split([*rows, *many(70, start=1000)])
    assert len(found.giants) == 1
    giant = found.giants[0]
    assert (giant.num_rows, giant.share) == (30, 0.3)
    assert giant.links == {"conversation": 29}
    assert giant.without == {"conversation": 0.01}
    assert giant.lines == (1, 2, 3)


def test_a_crossing_link_is_an_error_with_its_lines() -> None:
    rows = [chat("a b c", thread_id=1), chat("d e f", thread_id=1)]
    columns = Columns()
    columns.add(looks.look_at(list(enumerate(rows, start=1)), [], Fields(), 2**64))
    links = columns.exact_links()
    with pytest.raises(InvalidInput) as caught:
        splitting.refuse_crossing(columns, np.array([0, 1], np.int8), links, [(0.9, 0, 1)], 0.8)
    assert [problem.rule for problem in caught.value.problems] == [
        "a conversation link joins line 1 in train and line 2 in validation",
        "a similarity of 0.90, 0.8 or more, joins line 1 in train and line 2 in validation",
    ]


def test_an_empty_side_is_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        split([chat("a")])
    assert "split is empty: 1 rows in 1 components at a share of 0.5 (give more rows, or a larger share)" in str(
        caught.value
    )


def test_rows_that_break_a_rule_are_told_with_their_lines() -> None:
    with pytest.raises(InvalidInput) as caught:
        split([chat("a"), {"prompt": "x"}, {"messages": []}])
    assert [problem.line for problem in caught.value.problems] == [2, 3]


def test_signatures_estimate_the_similarity_and_bands_find_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    sets, truth = [], []
    for alike in (0.2, 0.5, 0.8, 0.9, 1.0):
        for _ in range(20):
            both = rng.integers(0, 2**32, 200, dtype=np.uint32)
            kept = int(2 * 200 * alike / (1 + alike))
            other = np.concatenate([both[:kept], rng.integers(0, 2**32, 200 - kept, dtype=np.uint32)])
            sets += [np.unique(both), np.unique(other)]
            truth.append(similarity(sets[-2], sets[-1]))
    signed, bands = signatures.sign(sets)
    first, second = np.arange(0, len(sets), 2), np.arange(1, len(sets), 2)
    estimated = signatures.estimates(signed, first, second)
    assert np.abs(estimated - truth).max() < 0.17
    assert np.abs(estimated - truth).mean() < 0.04
    compared = signatures.Compared()
    found = {
        (int(one), int(other))
        for pair in signatures.pairs(bands, np.arange(len(sets)), lambda: np.arange(len(sets)), compared)
        for one, other in zip(*pair, strict=True)
    }
    close = {(2 * n, 2 * n + 1) for n, alike in enumerate(truth) if alike > 0.78}
    assert len(close & found) >= 0.97 * len(close)


def test_bands_are_narrow_enough_for_the_threshold() -> None:
    assert signatures.band_rows(0.8) == signatures.band_rows(1.0) == signatures.BAND_ROWS
    for threshold in np.arange(0.3, 1.005, 0.01).tolist():
        rows = signatures.band_rows(threshold)
        assert signatures.NUM_HASHES % rows == 0
        assert signatures.recall(threshold, rows) >= signatures.MIN_RECALL
    rng = np.random.default_rng(0)
    sets = []
    for _ in range(200):  # pairs of a similarity of one half
        both = rng.integers(0, 2**32, 100, dtype=np.uint32)
        sets += [np.r_[both, rng.integers(0, 2**32, 50, dtype=np.uint32)] for _ in range(2)]
    _, bands = signatures.sign(sets, signatures.band_rows(0.5))
    assert (bands[::2] == bands[1::2]).any(axis=1).mean() >= 0.97


def test_a_large_bucket_is_compared_member_by_member_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    bands = np.ones((200, 20), np.uint32)
    whole = signatures.Compared()
    found = list(signatures.pairs(bands, np.arange(200), lambda: np.arange(200), whole))
    assert whole.num_pairs == 20 * 200 * 199 // 2
    assert whole.num_left_out == 0
    assert found
    monkeypatch.setattr(signatures, "MAX_PAIRS", 1000)
    cut = signatures.Compared()
    list(signatures.pairs(bands, np.arange(200), lambda: np.arange(200), cut))
    assert cut.num_pairs <= 1000 * 20
    assert cut.num_pairs + cut.num_left_out == whole.num_pairs


def test_an_earlier_split_keeps_its_rows_where_they_are() -> None:
    old = many(80)
    first = split(old, seed=3)
    before = dict(zip(first.columns.prompts.tolist(), first.sides.tolist(), strict=True))
    grown = [*many(80, start=500), *old]
    again = split(grown, seed=99, earlier=before)
    assert again.sides[80:].tolist() == first.sides.tolist()
    assert again.num_moved == 0
    with pytest.raises(InvalidInput, match=r"--like: 1 of 80 prompts of the earlier split are not here, .*as one file"):
        split(grown[:-1], earlier=before)
    one = next(n for n, side in enumerate(first.sides) if side == 0)
    other = next(n for n, side in enumerate(first.sides) if side == 1)
    # A new row that joins two old ones of different sides: one of them has to move.
    bridge = [{**old[one], "thread_id": 5}, {**old[other], "thread_id": 5}]
    joined = split([*old, *bridge], seed=99, earlier=before)
    assert joined.num_moved >= 1
    assert SPLITS[joined.sides[one]] == SPLITS[joined.sides[other]]


def test_own_shingles_leave_out_what_is_common() -> None:
    asked = [{"role": "user", "content": "one two three four five"}]
    common = all_shingles([{"role": "user", "content": "two three four"}])
    assert own_shingles(asked, common).size == all_shingles(asked).size - 1
