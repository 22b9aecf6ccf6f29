from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from recipes.engines.packed.rows import Order, Row
from recipes.engines.packed.tree import Layout, lay_out, lay_out_apart


def row(*ids: int, completion: int = 1) -> Row:
    labels = [-100] * (len(ids) - completion) + list(ids[len(ids) - completion :])
    return Row(ids, tuple(labels))


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    """Rows over few tokens, so that many share beginnings, end within others, or are the same."""
    rows = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=8))
    made = []
    for ids in rows:
        labels = [token if draw(st.booleans()) else -100 for token in ids]
        made.append(Row(tuple(ids), tuple(labels)))
    return made


def seen(layout: Layout, token: int) -> list[int]:
    """The tokens that a token attends to, by the rule that attention goes by."""
    stop = {}
    for node in layout.nodes:
        for place in range(node.start, node.end):
            stop[place] = node.stop
    return [key for key in range(token + 1) if token < stop[key]]


@given(row_lists(), st.integers(1, 6))
def test_every_row_is_in_the_tree_as_it_would_be_alone(rows: list[Row], min_shared: int) -> None:
    layout = lay_out(rows, min_shared)
    assert len(layout.places) == len(rows)
    for one, places in zip(rows, layout.places, strict=True):
        assert tuple(layout.ids[place] for place in places) == one.ids
        for depth, place in enumerate(places):
            assert layout.positions[place] == depth
            assert seen(layout, place) == list(places[: depth + 1]), "itself and what precedes it in its row"


@given(row_lists(), st.integers(1, 6))
def test_every_target_is_predicted_once_from_the_token_before_it(rows: list[Row], min_shared: int) -> None:
    layout = lay_out(rows, min_shared)
    expected: Counter[tuple[tuple[int, ...], int]] = Counter()
    for one in rows:
        for place, label in enumerate(one.labels):
            if place > 0 and label != -100:
                expected[(one.ids[:place], label)] += 1
    found: Counter[tuple[tuple[int, ...], int]] = Counter()
    for source, target in zip(layout.sources, layout.targets, strict=True):
        found[(tuple(layout.ids[place] for place in seen(layout, source)), target)] += 1
    assert found == expected


@given(row_lists())
def test_sharing_everything_leaves_each_beginning_once(rows: list[Row]) -> None:
    layout = lay_out(rows, 1)
    assert len(layout.ids) == len({one.ids[:end] for one in rows for end in range(1, len(one.ids) + 1)})
    assert layout.num_plain == sum(len(one.ids) for one in rows)


@given(row_lists(), st.integers(1, 6))
def test_nodes_nest_and_cover_all(rows: list[Row], min_shared: int) -> None:
    layout = lay_out(rows, min_shared)
    assert [place for node in layout.nodes for place in range(node.start, node.end)] == list(range(len(layout.ids)))
    for node in layout.nodes:
        assert node.start < node.end <= node.stop <= len(layout.ids)
        assert all(other.stop <= node.stop for other in layout.nodes if node.start < other.start < node.stop)


@given(row_lists(), st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows: list[Row], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = lay_out(rows, 2), lay_out(shuffled, 2)
    assert (first.ids, first.nodes) == (second.ids, second.nodes)


def test_short_runs_are_not_worth_a_node() -> None:
    rows = [row(1, 2, 3, 4, 5), row(1, 2, 3, 9, 9)]
    assert len(lay_out(rows, 4).nodes) == 2
    assert len(lay_out(rows, 3).nodes) == 3


def test_a_shared_run_below_a_short_one_is_found() -> None:
    rows = [row(1, 2, 2, 2, 5), row(1, 2, 2, 2, 6), row(1, 7, 7, 7, 7), row(1, 7, 7, 7, 8)]
    layout = lay_out(rows, 3)
    assert [(node.start, node.end, node.stop) for node in layout.nodes if node.stop > node.end] == [
        (0, 4, 6),
        (6, 10, 12),
    ]


def test_apart_shares_nothing() -> None:
    rows = [row(1, 2, 3), row(1, 2, 4)]
    layout = lay_out_apart(rows)
    assert layout.ids == (1, 2, 3, 1, 2, 4)
    assert layout.saving == 1.0


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_sees_every_row_once_in_an_order_of_its_own(num_rows: int, batch_size: int, seed: int) -> None:
    order = Order(num_rows, batch_size, seed)
    epochs = [
        [
            place
            for step in range(order.steps_per_epoch)
            for place in order.rows_of(epoch * order.steps_per_epoch + step)
        ]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(num_rows)) for epoch in epochs)
    if num_rows > 8:
        assert epochs[0] != epochs[1]
    assert Order(num_rows, batch_size, seed).rows_of(order.steps_per_epoch) == order.rows_of(order.steps_per_epoch)
