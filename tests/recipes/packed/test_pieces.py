"""The loss, the optimizer's step and the learning rate against the libraries that define them."""

from typing import Any

import pytest

from recipes.engines.packed.optimizer import lr_at
from recipes.schema import Recipe
from tests.recipes.packed.conftest import Bench

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("slices", [1 << 24, 64, 1])
def test_losses_in_slices_are_the_cross_entropy(slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.engines.packed import loss, memory

    monkeypatch.setitem(memory.MAX_LOGITS, "cpu", slices)
    torch.manual_seed(0)
    hidden, head = torch.randn(9, 6, requires_grad=True), torch.randn(13, 6)
    targets, counts, weights = torch.randint(0, 13, (9,)), [4, 0, 5], [0.25, 1.0, 0.2]
    found = loss.completion_losses(hidden, head, targets, counts, weights)
    (found * torch.tensor([1.0, 1.0, 3.0])).sum().backward()
    grad, hidden.grad = hidden.grad, None
    nats = torch.nn.functional.cross_entropy(hidden @ head.t(), targets, reduction="none")
    expected = torch.stack([nats[:4].mean(), nats[:0].sum(), nats[4:].mean()])
    (expected * torch.tensor([1.0, 1.0, 3.0])).sum().backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(grad, hidden.grad)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_the_rate_is_that_of_nemos_scheduler(name: str, warmup: int, bench: Bench) -> None:
    from nemo_automodel.components.optim.scheduler import OptimizerParamScheduler

    settings = bench.job(schedule__name=name, schedule__warmup_steps=warmup, schedule__min_lr_ratio=0.2).settings
    recipe = Recipe.model_validate(settings)
    peak, last = recipe.optimizer.lr, recipe.train.max_steps
    group: dict[str, Any] = {"params": [torch.zeros(1, requires_grad=True)], "lr": peak}
    optimizer = torch.optim.Adam([group])
    theirs = OptimizerParamScheduler(
        optimizer, init_lr=0.1 * peak, max_lr=peak, min_lr=0.2 * peak, lr_warmup_steps=warmup, lr_decay_steps=last,
        lr_decay_style=name, start_wd=0.0, end_wd=0.0, wd_incr_steps=last, wd_incr_style="constant",
    )  # fmt: skip
    for step in range(last + 1):
        assert lr_at(recipe, step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        theirs.step(1)
