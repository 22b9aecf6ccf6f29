"""The parts that are merged against one product with a dense mask, forward and backward."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from recipes.engines.packed.rows import Row
from recipes.engines.packed.tree import Layout, lay_out
from tests.recipes.tiny import one_thread

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


def rows_of(*texts: str) -> Layout:
    return lay_out([Row(tuple(map(ord, text)), (-100,) * len(text)) for text in texts], 2)


LAYOUTS = {
    "one row": rows_of("abcdefg"),
    "a prefix": rows_of("abcdxyz", "abcduvw", "abcdk"),
    "three levels": rows_of("aabbccdd", "aabbccee", "aabbffgg", "aabbffhhh", "aazz"),
    "two trees": rows_of("aaabbb", "aaaccc", "zzzyyyx"),
    "a row within another": rows_of("aaaa", "aaaabb", "aaaacc"),
    "twice the same": rows_of("aabb", "aabb", "aacc"),
    "nothing shared": rows_of("abc", "bcd", "cdefg"),
}


def attended(layouts: list[Layout], kernels: bool, monkeypatch: Any, heads: int = 4, key_heads: int = 2) -> Any:
    from recipes.engines.packed import attention

    monkeypatch.setattr(attention, "has_cpu_kernels", lambda: kernels)
    length = max(len(layout.ids) for layout in layouts) + 1  # a padding token
    generator = torch.Generator().manual_seed(1)
    shape = (len(layouts), heads, length, 8)
    query = torch.randn(shape, generator=generator, requires_grad=True)
    key = torch.randn(len(layouts), key_heads, length, 8, generator=generator, requires_grad=True)
    value = torch.randn(len(layouts), key_heads, length, 8, generator=generator, requires_grad=True)
    weight = torch.randn(len(layouts), length, heads, 8, generator=generator)
    for row, layout in enumerate(layouts):
        weight[row, len(layout.ids) :] = 0  # nobody looks at padding
    trees = attention.Trees(layouts, length, torch.device("cpu"))
    out, _ = attention.attend(SimpleNamespace(), query, key, value, None, scaling=0.3, trees=trees)
    (out * weight).sum().backward()
    return [out * (weight != 0), query.grad, key.grad, value.grad]


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_merged_parts_are_the_masked_product(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = [LAYOUTS[name]] * 2
    for merged, dense in zip(attended(layouts, True, monkeypatch), attended(layouts, False, monkeypatch), strict=True):
        torch.testing.assert_close(merged, dense, rtol=1e-5, atol=1e-6)


def test_trials_with_other_trees_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = [LAYOUTS[name] for name in ("a prefix", "a prefix", "three levels", "one row")]
    for merged, dense in zip(attended(layouts, True, monkeypatch), attended(layouts, False, monkeypatch), strict=True):
        torch.testing.assert_close(merged, dense, rtol=1e-5, atol=1e-6)


def test_equal_trees_are_computed_together() -> None:
    from recipes.engines.packed.attention import Trees

    one, other = LAYOUTS["a prefix"], LAYOUTS["three levels"]
    trees = Trees([one, one, other, one], 40, torch.device("cpu"))
    assert [part.rows for part in trees.parts] == [slice(0, 2), slice(2, 3), slice(3, 4)]


def test_leaves_of_one_length_take_one_call() -> None:
    from recipes.engines.packed.attention import _calls

    layout = rows_of("aaaabb", "aaaacc", "aaaadd", "aaaaeee")
    assert [(call.causal, call.copies) for call in _calls(layout.nodes)] == [
        (True, 1),
        (False, 1),
        (True, 3),
        (True, 1),
    ]


def test_cudnn_is_asked_once_a_shape_has_come_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels are built for each shape anew, which is to pay."""
    from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

    from recipes.engines.packed import attention

    allowed = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        kernels = attention.RowKernels(torch.device("cuda"))
        assert not torch.backends.cuda.cudnn_sdp_enabled(), "by itself PyTorch asks it at once"
        long, short = attention.LONG, attention.LONG - 1

        def asked(rows: int, tokens: int) -> bool:
            with kernels.chosen(rows, tokens):
                return SDPBackend.CUDNN_ATTENTION in _cur_sdpa_kernel_backends()

        assert [asked(1, long) for _ in range(attention.SETTLED + 2)] == [False] * attention.SETTLED + [True] * 2
        assert not asked(2, long), "another shape"
        assert not any(asked(1, short) for _ in range(attention.SETTLED + 2))
        assert not torch.backends.cuda.cudnn_sdp_enabled(), "outside of a pass it stays as it was"
    finally:
        torch.backends.cuda.enable_cudnn_sdp(allowed)
