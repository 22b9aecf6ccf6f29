"""Matrix products on a processor, by the faster of the two libraries that torch carries.

``torch.mm`` calls MKL in float32, and MKL runs its older code on some processors of other makers than Intel: on a Zen 5
core it reaches 94 GFLOP/s where oneDNN, which torch carries as well, reaches 210; on a Zen 4 core both reach 100. So
both are tried. They compute in float32 throughout and differ in the order of the sums. oneDNN takes each trial's
product by itself, and compiles a kernel for each shape (about 1 ms), so shapes have to recur: whoever lays out tokens
pads them to ``padded``, and shapes that are not of that kind stay with MKL.
"""

import time
from functools import cache

import torch

MULTIPLE = 32
FEWEST = 64  # rows below which the two are alike
TRIED = (512, 192, 512)  # rows, width in and out of the product that decides
TURNS = 9
CLEARLY = 1.4  # times faster: what a trial's products lose by being taken one by one, and more than timings vary


def padded(length: int, device: torch.device, dtype: torch.dtype) -> int:
    """The length to which tokens are padded so that shapes recur: the same where that gains nothing."""
    if device.type != "cpu" or dtype != torch.float32 or not has_faster():
        return length
    multiple = MULTIPLE if length >= 8 * MULTIPLE else 8 if length >= MULTIPLE else 1
    return -(-length // multiple) * multiple


def suits(rows: int, like: torch.Tensor) -> bool:
    """Whether products of so many rows (or over so many, in a gradient) go through oneDNN."""
    return (
        rows >= FEWEST
        and rows % MULTIPLE == 0
        and like.dtype == torch.float32
        and like.device.type == "cpu"
        and has_faster()
    )


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, fast: bool) -> torch.Tensor:
    """``x weight' + bias``: (rows, in) and (out, in) to (rows, out). Not differentiable.

    Args:
        fast: See ``suits``.
    """
    if fast:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())


def linears(x: torch.Tensor, weights: torch.Tensor, fast: bool) -> torch.Tensor:
    """``x weight'`` of many trials: (trials, rows, in) and (trials, out, in) to (trials, rows, out)."""
    if not fast:
        return torch.bmm(x, weights.mT)
    products = [linear(one, weight, None, fast) for one, weight in zip(x, weights, strict=True)]
    return products[0][None] if len(products) == 1 else torch.stack(products)


@cache
def has_faster() -> bool:
    """Whether oneDNN is there and clearly faster than MKL on this processor, as measured when it is first asked."""
    if not (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return False
    mkl, onednn = _seconds()
    return mkl > CLEARLY * onednn


def _seconds() -> tuple[float, float]:
    """What a product of a small model's size takes with MKL and with oneDNN, in turns; the best of each counts."""
    x, weight = torch.ones(TRIED[0], TRIED[1]), torch.ones(TRIED[2], TRIED[1])
    taken: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(TURNS):
        for fast, times in taken.items():
            began = time.perf_counter()
            linear(x, weight, None, fast)
            times.append(time.perf_counter() - began)
    return min(taken[False]), min(taken[True])
