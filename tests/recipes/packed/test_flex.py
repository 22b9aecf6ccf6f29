"""What a GPU is handed, checked on a CPU: the rule against the dense mask, the blocks against torch's own."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.engines.packed.rows import Row
from recipes.engines.packed.tree import Layout, lay_out
from tests.recipes.packed.test_attention import LAYOUTS
from tests.recipes.tiny import one_thread

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


def check(layouts: list[Layout], tokens: int, block: int) -> None:
    """The mask of these trees with blocks of so many tokens."""
    from torch.nn.attention.flex_attention import create_block_mask

    from recipes.engines.packed import flex
    from recipes.engines.packed.attention import Trees

    before, flex.BLOCK = flex.BLOCK, block
    try:
        trees = Trees(layouts, tokens, torch.device("cpu"))
        ours, dense = trees.block_mask(), trees.mask()
        row, query, key = torch.meshgrid(
            torch.arange(len(layouts)), torch.arange(tokens), torch.arange(tokens), indexing="ij"
        )
        assert torch.equal(ours.mask_mod(row, torch.tensor(0), query, key), dense[:, 0])
        theirs = create_block_mask(ours.mask_mod, len(layouts), None, tokens, tokens, "cpu", block)
        assert ours.shape == theirs.shape
        assert torch.equal(ours.to_dense(), theirs.to_dense())
        for kind in ("kv", "full_kv", "q", "full_q"):
            counts, expected = getattr(ours, f"{kind}_num_blocks"), getattr(theirs, f"{kind}_num_blocks")
            assert torch.equal(counts, expected), kind
            places = torch.arange(expected.shape[-1])
            counted = places < counts[..., None]  # what stands behind these is never read
            found, wanted = getattr(ours, f"{kind}_indices"), getattr(theirs, f"{kind}_indices")
            assert torch.equal(found[counted], wanted[counted]), kind
    finally:
        flex.BLOCK = before


@pytest.mark.parametrize("name", sorted(LAYOUTS))
@pytest.mark.parametrize("block", [2, 4, 16])
def test_the_mask_of_a_tree(name: str, block: int) -> None:
    check([LAYOUTS[name]], len(LAYOUTS[name].ids), block)


def test_other_trees_in_one_batch_and_padding() -> None:
    layouts = [LAYOUTS[name] for name in ("a prefix", "three levels", "one row")]
    check(layouts, max(len(layout.ids) for layout in layouts) + 3, 4)


@settings(max_examples=25)
@given(
    trials=st.lists(
        st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=24), min_size=1, max_size=6), min_size=1, max_size=3
    ),
    block=st.integers(2, 9),
)
def test_the_mask_of_any_trees(trials: list[list[list[int]]], block: int) -> None:
    layouts = [lay_out([Row(tuple(ids), (-100,) * len(ids)) for ids in rows], 1) for rows in trials]
    check(layouts, max(len(layout.ids) for layout in layouts), block)


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 2), (2, 2)])
@pytest.mark.filterwarnings("ignore::UserWarning")  # it is not compiled here
def test_flex_attention_gives_what_a_dense_mask_gives(heads: int, key_heads: int) -> None:
    """The comparison with which a GPU's kernels are tried, with the same operator uncompiled."""
    from torch.nn.attention.flex_attention import flex_attention

    from recipes.engines.packed import flex

    def wrong(query: Any, key: Any, value: Any, **more: Any) -> Any:
        return flex_attention(query, key, value, **{**more, "block_mask": None})

    device = torch.device("cpu")
    close = flex.CLOSE[torch.float32]
    assert flex.prove(heads, key_heads, 16, torch.float32, device, flex_attention) < close
    assert flex.prove(heads, key_heads, 16, torch.float32, device, wrong) > close


def test_what_cannot_be_compiled_gives_way_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here because a CPU has no backward of flex_attention."""
    from recipes.engines.packed import flex
    from recipes.engines.packed.attention import Trees

    monkeypatch.setattr(flex, "_failed", [])
    trees = Trees([LAYOUTS["a prefix"]], 16, torch.device("cpu"))
    query, key, value = (torch.randn(1, 2, 16, 16, requires_grad=True) for _ in range(3))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert flex.attend(query, key, value, trees.block_mask(), None) is None
    # By its compiler, or by its own code where that is switched off.
    assert (flex.why_not() or "").startswith(("Unsupported: ", "NotImplementedError: "))
    assert [record.levelname for record in caplog.records if "dense mask" in record.message] == ["WARNING"]


def test_a_cpu_goes_its_own_way() -> None:
    from recipes.engines.packed import flex

    assert not flex.works(4, 2, 64, torch.float32, torch.device("cpu"))
    assert flex.why_not() is None
