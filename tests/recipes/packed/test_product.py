"""Products through oneDNN are those of torch, whichever library this machine's processor is faster with."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.engines.packed import product

torch = pytest.importorskip("torch")

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch was built without oneDNN"
)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which MKL runs its older code."""
    monkeypatch.setattr(product, "has_faster", lambda: True)


@needs_onednn
@settings(max_examples=25)
@given(st.integers(1, 3), st.sampled_from([64, 96, 320]), st.integers(1, 48), st.integers(1, 48), st.integers(0, 99))
def test_both_ways_give_the_same(trials: int, rows: int, width: int, out: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(trials, rows, width, generator=generator)
    weights = torch.randn(trials, out, width, generator=generator)
    bias = torch.randn(out, generator=generator)
    expected = x.double() @ weights.mT.double()
    for fast in (True, False):
        torch.testing.assert_close(product.linears(x, weights, fast).double(), expected, rtol=1e-5, atol=1e-4)
        one = product.linear(x[0], weights[0], bias, fast).double()
        torch.testing.assert_close(one, expected[0] + bias.double(), rtol=1e-5, atol=1e-4)
        turned = product.linears(x.mT, x.mT, fast).double()  # as gradients are: over the rows, both turned
        torch.testing.assert_close(turned, (x.mT.double() @ x.double()), rtol=1e-5, atol=1e-3)


@given(st.integers(1, 5000))
def test_padding_is_little_and_shapes_recur(length: int) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(product, "has_faster", lambda: True)
    try:
        padded = product.padded(length, torch.device("cpu"), torch.float32)
    finally:
        patch.undo()
    assert length <= padded <= length * 1.25
    assert padded % product.MULTIPLE == 0 or length < 8 * product.MULTIPLE


@pytest.mark.parametrize(
    ("rows", "like"),
    [
        (96, {"dtype": torch.bfloat16}),
        (96, {"device": "meta"}),
        (97, {}),  # a shape that will not come again
        (32, {}),  # too few to gain anything
    ],
)
def test_what_does_not_suit_stays_with_torch(rows: int, like: dict[str, Any], foreign: None) -> None:
    assert product.suits(96, torch.empty(0))
    assert not product.suits(rows, torch.empty(0, **like))


def test_where_mkl_is_as_fast_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "has_faster", lambda: False)
    assert product.padded(301, torch.device("cpu"), torch.float32) == 301
    assert not product.suits(96, torch.empty(0))


@needs_onednn
@pytest.mark.parametrize(("mkl", "onednn", "faster"), [(2.0, 1.0, True), (1.1, 1.0, False), (1.0, 2.0, False)])
def test_the_processor_itself_decides(mkl: float, onednn: float, faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "_seconds", lambda: (mkl, onednn))
    assert product.has_faster.__wrapped__() is faster


@needs_onednn
def test_both_are_timed() -> None:
    assert all(0 < seconds < 1 for seconds in product._seconds())
