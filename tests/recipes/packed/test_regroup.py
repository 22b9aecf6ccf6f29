"""Rows that begin alike in one batch: still every row once an epoch, by seed and step alone, and more is shared."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.compose import compose, typed
from recipes.data import splits
from recipes.engines.packed.rows import Order, Regrouped, Rows, order_of
from recipes.engines.packed.tree import lay_out
from recipes.generation import Messages
from recipes.schema import Recipe
from sweeps.errors import InvalidInput
from tests.recipes.packed.conftest import Bench, run
from tests.recipes.tiny import DEMO_BASE

CLOSE = 1e-6  # relative, of a loss in float32


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[int], int, int]:
    alike = draw(st.permutations(range(draw(st.integers(1, 40)))))
    return alike, draw(st.integers(1, 9)), draw(st.integers(0, 5))


@given(orders())
def test_an_epoch_sees_every_row_once(made: tuple[list[int], int, int]) -> None:
    alike, batch_size, seed = made
    order = Regrouped(alike, batch_size, seed)
    for epoch in range(3):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        batches = [order.rows_of(step) for step in steps]
        assert sorted(place for batch in batches for place in batch) == list(range(len(alike)))
        assert all(0 < len(batch) <= batch_size for batch in batches)
        assert sum(len(batch) < batch_size for batch in batches) <= 1
    assert order.steps_per_epoch == Order(len(alike), batch_size, seed).steps_per_epoch


@given(orders())
def test_a_batch_is_a_stretch_of_rows_that_begin_alike(made: tuple[list[int], int, int]) -> None:
    alike, batch_size, seed = made
    order = Regrouped(alike, batch_size, seed)
    ring = [*alike, *alike]
    for step in range(2 * order.steps_per_epoch):
        batch = order.rows_of(step)
        start = ring.index(batch[0])
        assert ring[start : start + len(batch)] == batch


@given(orders(), st.integers(0, 100))
def test_seed_and_step_alone_say_which_rows(made: tuple[list[int], int, int], step: int) -> None:
    """A trial that goes on from any step sees what the uninterrupted one sees, whatever was asked before."""
    alike, batch_size, seed = made
    whole = Regrouped(alike, batch_size, seed)
    seen = [list(whole.rows_of(one)) for one in range(step + 3)]
    resumed = Regrouped(alike, batch_size, seed)
    assert [resumed.rows_of(one) for one in range(step, step + 3)] == seen[step:]
    assert resumed.rows_of(0) == seen[0]


def test_seeds_and_epochs_have_batches_of_their_own() -> None:
    order = Regrouped(range(101), 8, 0)
    epochs = [{tuple(order.rows_of(epoch * 13 + step)) for step in range(13)} for epoch in range(6)]
    assert len(set(map(frozenset, epochs))) > 1, "other cuts"
    assert [order.rows_of(step) for step in range(13)] != [order.rows_of(step) for step in range(13, 26)]
    other = Regrouped(range(101), 8, 1)
    assert [other.rows_of(step) for step in range(13)] != [order.rows_of(step) for step in range(13)]


TURNS = st.tuples(st.sampled_from(["system", "user"]), st.sampled_from(["a", "ab", "b", "ba", "c"]))


@given(st.lists(st.lists(TURNS, min_size=1, max_size=3), min_size=1, max_size=8))
def test_rows_with_a_common_beginning_are_neighbours(drawn: list[list[tuple[str, str]]]) -> None:
    conversations: list[Messages] = [[{"role": role, "content": text} for role, text in turns] for turns in drawn]
    order = [drawn[place] for place in Rows(conversations, None).alike]
    assert sorted(order) == sorted(drawn)
    for beginning in {tuple(turns[:end]) for turns in drawn for end in range(1, len(turns) + 1)}:
        having = [place for place, turns in enumerate(order) if tuple(turns[: len(beginning)]) == beginning]
        assert having == list(range(having[0], having[-1] + 1))


@pytest.fixture(scope="module")
def demo() -> tuple[Recipe, Rows]:
    from transformers import AutoTokenizer

    recipe = typed(compose("tiny_commerce_sft"))
    train = splits.load(recipe.data, Path()).rows["train"]
    return recipe, Rows([row["messages"] for row in train], AutoTokenizer.from_pretrained(DEMO_BASE))


@pytest.mark.parametrize("batch_size", [2, 4, 8, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_of_the_demos_rows_more_is_shared(demo: tuple[Recipe, Rows], batch_size: int, seed: int) -> None:
    recipe, rows = demo
    train = recipe.train.model_copy(update={"batch_size": batch_size, "micro_batch_size": batch_size, "seed": seed})
    tokens = {}
    for regroup in (False, True):
        packed = recipe.packed.model_copy(update={"regroup": regroup})
        order = order_of(recipe.model_copy(update={"train": train, "packed": packed}), rows)
        batches = [[rows[place] for place in order.rows_of(step)] for step in range(order.steps_per_epoch)]
        tokens[regroup] = sum(len(lay_out(batch).ids) for batch in batches)
    assert tokens[True] < tokens[False]


def test_a_regrouped_trial_is_that_of_plain_peft_over_the_same_rows(bench: Bench) -> None:
    """And not the trial over rows in the seed's own order; with trees or without is no matter."""
    trained = {"train__batch_size": 4, "train__micro_batch_size": 2, "train__max_steps": 14, "optimizer__lr": 2e-4}
    regrouped, apart, plain = (
        bench.job(packed=packed, **trained)
        for packed in ({"regroup": True}, {"regroup": True, "trees": False}, {"regroup": False})
    )
    losses = bench.losses([regrouped, apart, plain])
    assert losses[0] == pytest.approx(bench.peft(regrouped), rel=CLOSE)
    assert losses[1] == pytest.approx(losses[0], rel=CLOSE)
    assert losses[2] != pytest.approx(losses[0], rel=1e-3)


def test_a_regrouped_trial_goes_on_from_a_checkpoint_as_if_nothing_had_been(bench: Bench, tmp_path: Path) -> None:
    job = bench.job(packed={"regroup": True}, train__batch_size=4, train__micro_batch_size=4)
    whole = bench.losses([job])[0]
    pack = bench.pack()
    number = pack.admit(job, None)
    pack.ask(number)
    while pack.round():
        pass
    assert 0 < (done := pack.trials[number].step) < len(whole)
    pack.save(number, tmp_path / "saved")
    other = bench.pack()
    resumed = run(other, [other.admit(job, tmp_path / "saved")])[0]
    assert resumed == pytest.approx(whole[done:], rel=CLOSE)


def test_the_nemo_engine_refuses_it() -> None:
    settings = compose("tiny_commerce_sft")
    settings["packed"] = {"regroup": True}
    assert typed(settings).packed.regroup
    settings["engine"] = "nemo"
    with pytest.raises(InvalidInput, match=r"packed\.regroup must be false with engine nemo.*set engine: packed"):
        typed(settings)
    settings["packed"] = {"regroup": False}
    assert typed(settings).engine == "nemo"
