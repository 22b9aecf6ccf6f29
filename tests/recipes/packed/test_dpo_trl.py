"""Preference trials of the packed engine against trl's DPOTrainer, step by step, in float32 on one thread."""

import math
from pathlib import Path
from typing import Any

import pytest

from recipes.schema import Recipe
from tests import trl_peer
from tests.recipes.packed.conftest import Bench
from tests.recipes.packed.preferences import dpo_job
from tests.recipes.tiny import make_adapter

STEPS, EVERY = 30, 5
CLOSE = 1e-4
KINDS: dict[str, dict[str, Any]] = {
    "sigmoid": {},
    "smoothed": {"preference__label_smoothing": 0.1, "preference__beta": 0.3},
    "ipo": {"preference__loss": "ipo"},
    "with SFT": {"preference__sft_weight": 0.5},
    "ipo with SFT, in two parts": {"preference__loss": "ipo", "preference__sft_weight": 0.1, "train__batch_size": 4},
}
FIRST = {  # with no difference to the start yet
    "sigmoid": math.log(2),
    "smoothed": math.log(2),
    "ipo": (1 / (2 * 0.1)) ** 2,
}


def cases() -> list[Any]:
    """Each kind afresh or from an adapter in the default suite, the other way in the slow one."""
    found = []
    for place, kind in enumerate(KINDS):
        for starts in (False, True):
            marks = () if starts == bool(place % 2) else pytest.mark.slow
            found.append(
                pytest.param(kind, starts, id=f"{kind}, {'from an adapter' if starts else 'afresh'}", marks=marks)
            )
    return found


@pytest.fixture(scope="module")
def start(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(bench.base, tmp_path_factory.mktemp("start") / "adapter", seed=5, std=0.05)


@pytest.mark.parametrize(("kind", "starts"), cases())
def test_trl_has_the_same_losses_and_margins(
    kind: str, starts: bool, bench: Bench, start: Path, tmp_path: Path
) -> None:
    from_adapter = start if starts else None
    in_parts = "two parts" in kind
    options = {"train__batch_size": 4, **KINDS[kind], "train__micro_batch_size": 4}
    options |= {"train__max_steps": STEPS, "train__validate_every": EVERY, "optimizer__lr": 5e-3}
    job = dpo_job(bench, tmp_path, from_adapter, **options)
    recipe = Recipe.model_validate(job.settings)
    told = trl_peer.train(bench.base, recipe, job.train, job.validation, tmp_path / "trl", from_adapter)
    if in_parts:  # whose mean is that of the whole batch, which trl's SFT term of a part is not
        job = dpo_job(bench, tmp_path, from_adapter, **{**options, "train__micro_batch_size": 2})
    pack = bench.pack()
    number = pack.admit(job, None)
    losses, reports = [], []
    for step in range(STEPS):
        if step % EVERY == 0:
            pack.ask(number)
        pack.round()
        losses.append(pack.trials[number].loss)
        if pack.trials[number].outcome is not None:
            reports.append(pack.trials[number].outcome.metrics)

    assert len(told.losses) == STEPS
    assert len(told.validation) == len(reports) == STEPS // EVERY
    assert losses == pytest.approx(told.losses, rel=CLOSE)
    if kind in FIRST:
        assert losses[0] == pytest.approx(FIRST[kind], rel=1e-5)
    names = {
        "val/loss": "loss",
        "dpo/reward_accuracy": trl_peer.ACCURACY,
        "dpo/chosen_logp": "logps/chosen",
        "dpo/rejected_logp": "logps/rejected",
    }
    for ours, theirs in names.items():
        assert [report[ours] for report in reports] == pytest.approx(
            [one[theirs] for one in told.validation], rel=CLOSE
        ), ours
    # A margin is a difference of log-probabilities a hundred times as large: at first it is little but their rounding.
    margins = [one[trl_peer.MARGINS] for one in told.validation]
    close = CLOSE * max(map(abs, margins))
    assert [report["dpo/reward_margin"] for report in reports] == pytest.approx(margins, rel=0, abs=close)
    changes = [one["rewards/chosen"] / recipe.preference.beta for one in told.validation]
    close = CLOSE * max(map(abs, changes))
    assert [report["dpo/chosen_logp_change"] for report in reports] == pytest.approx(changes, rel=0, abs=close)
