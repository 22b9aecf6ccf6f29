"""A packed trial is the trial that plain PEFT would have trained, whoever its neighbours are."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recipes.engines.protocol import Diverged, Job
from tests.recipes.packed.conftest import Bench, run
from tests.recipes.tiny import make_base

STEPS = 30
CLOSE = 1e-6  # relative, of a loss in float32


def mixed(bench: Bench, lr: float, **more: Any) -> list[Job]:
    """Twenty trials that differ in everything that a trial may differ in."""
    return [
        bench.job(
            lora__rank=(4, 8, 16, 32)[place // 4 % 4],
            lora__alpha=(8, 16)[place % 2],
            lora__targets=(["*_proj"], ["*.q_proj", "*.v_proj"])[place % 5 == 4],
            optimizer__name=("adam", "adamw")[place % 2],
            optimizer__lr=lr * (1 + place % 5),
            optimizer__betas=[0.9, (0.99, 0.999)[place % 2]],
            optimizer__eps=(1e-8, 1e-6)[place % 3 == 2],
            optimizer__weight_decay=0.01 * (place % 3),
            schedule__name=("cosine", "linear", "constant")[place % 3],
            schedule__warmup_steps=place % 4,
            train__batch_size=(1, 2, 4, 8)[place % 4],
            train__micro_batch_size=(1, 2, 2, 4)[place % 4],
            train__clip=(0.1, 1.0, 10.0)[place % 3],
            train__seed=place,
            train__max_steps=STEPS,
            train__validate_every=STEPS,
            **more,
        )
        for place in range(20)
    ]


def apart(losses: list[float], reference: list[float]) -> float:
    assert len(losses) == len(reference) == STEPS
    return max(abs(one - other) / abs(other) for one, other in zip(losses, reference, strict=True))


@pytest.fixture(scope="module")
def moderate(bench: Bench) -> list[Job]:
    return mixed(bench, 2e-4)


@pytest.fixture(scope="module")
def alone(bench: Bench, moderate: list[Job]) -> list[list[float]]:
    """Each trial in a pack of its own."""
    return [bench.losses([job])[0] for job in moderate]


@pytest.mark.parametrize("chunk", [None, 1, 20])
def test_twenty_mixed_trials_are_those_of_plain_peft(
    chunk: int | None, bench: Bench, moderate: list[Job], peft: list[list[float]]
) -> None:
    packed = bench.losses(moderate, chunk)
    assert max(map(apart, packed, peft)) <= CLOSE


@pytest.fixture(scope="module")
def peft(bench: Bench, moderate: list[Job]) -> list[list[float]]:
    return [bench.peft(job) for job in moderate]


def test_rows_without_trees_too(bench: Bench, peft: list[list[float]]) -> None:
    packed = bench.losses(mixed(bench, 2e-4, packed={"trees": False}))
    assert max(map(apart, packed, peft)) <= CLOSE


def test_at_wild_rates_it_is_as_close_as_plain_peft_is_to_itself(bench: Bench) -> None:
    """At rates at which PEFT does not survive a disturbance of 1e-7 either, that disturbance is the measure."""
    jobs = mixed(bench, 1e-2)[::4]
    packed = bench.losses(jobs)
    for job, losses in zip(jobs, packed, strict=True):
        reference = bench.peft(job)
        draws = [apart(bench.peft(job, noise=1e-7, noise_seed=seed), reference) for seed in range(4)]
        assert apart(losses, reference) <= max(CLOSE, 3 * max(draws)), (job.settings["optimizer"], draws)


def test_neighbours_change_nothing(bench: Bench, moderate: list[Job], alone: list[list[float]]) -> None:
    together = bench.losses(moderate, 20)
    assert max(map(apart, together, alone)) <= CLOSE


def test_in_chunks_of_one_neighbours_change_not_a_bit(
    bench: Bench, moderate: list[Job], alone: list[list[float]]
) -> None:
    """Measured to hold on one thread: each pass then has the same shapes whoever else is in the pack."""
    assert bench.losses(moderate, 1) == alone


def test_trials_that_come_and_go_in_between_change_nothing(
    bench: Bench, moderate: list[Job], alone: list[list[float]]
) -> None:
    pack = bench.pack(4)
    others = [pack.admit(job, None) for job in moderate[1:6]]
    for number in others:
        pack.ask(number)
    for _ in range(3):
        pack.round()
    number = pack.admit(moderate[0], None)
    losses = []
    pack.ask(number)
    for turn in range(STEPS):
        if turn == 5:
            pack.retire(others[0])
        if turn == 9:
            late = pack.admit(moderate[7], None)
            pack.ask(late)
        if turn == 14:
            pack.retire(late)
            pack.retire(others[2])
        pack.round()
        losses.append(pack.trials[number].loss)
    assert apart(losses, alone[0]) <= CLOSE


def test_a_neighbour_that_diverges_changes_nothing(bench: Bench, moderate: list[Job], alone: list[list[float]]) -> None:
    pack = bench.pack(4)
    bad = bench.job(optimizer__lr=1e30, train__clip=1e30, schedule__warmup_steps=0, train__max_steps=STEPS)
    numbers = [pack.admit(job, None) for job in [moderate[0], bad, moderate[1]]]
    losses = run(pack, numbers)
    assert isinstance(pack.trials[numbers[1]].outcome, Diverged)
    assert not math.isfinite(pack.trials[numbers[1]].loss)
    assert apart(losses[0], alone[0]) <= CLOSE
    assert apart(losses[2], alone[1]) <= CLOSE


def test_padding_stays_zero(bench: Bench, moderate: list[Job]) -> None:
    from recipes.engines.packed import state as states

    pack = bench.pack(20)
    numbers = [pack.admit(job, None) for job in moderate]
    for number in numbers:
        pack.ask(number)
    for _ in range(5):
        pack.round()
    padded = 0
    for chunk in pack._chunks.values():
        for flat in (chunk._weights, *chunk._moments):
            for site, (a, b) in zip(chunk.sites, states.views(flat, chunk.sites, chunk.rank), strict=True):
                for place, member in enumerate(chunk.members):
                    rank = member.rank if site in member.sites else 0
                    padded += chunk.rank - rank
                    assert not a[place, rank:].any()
                    assert not b[place, :, rank:].any()
    assert padded > 0


@pytest.mark.parametrize("chunk", [1, 20])
def test_going_on_in_another_pack_equals_never_having_stopped(
    chunk: int, bench: Bench, alone: list[list[float]], tmp_path: Path
) -> None:
    """Saved at step 12, taken up among others."""
    jobs = mixed(bench, 2e-4)
    for job in jobs:
        job.settings["train"]["validate_every"] = 12
    first = bench.pack(chunk)
    numbers = [first.admit(job, None) for job in jobs]
    for number in numbers:
        first.ask(number)
    while first.round():
        pass
    for place, number in enumerate(numbers):
        first.save(number, tmp_path / str(place))
        first.retire(number)
    second = bench.pack(chunk)
    order = list(range(20))[::-1]
    rest = run(second, [second.admit(jobs[place], tmp_path / str(place)) for place in order])
    for place, losses in zip(order, rest, strict=True):
        for one, other in zip(losses, alone[place][12:], strict=True):
            assert one == pytest.approx(other, rel=CLOSE)


def test_dropout_draws_by_seed_and_step_alone(bench: Bench, moderate: list[Job], tmp_path: Path) -> None:
    job = bench.job(lora__dropout=0.3, train__max_steps=12, train__validate_every=6)
    losses = bench.losses([job])[0]
    assert bench.losses([moderate[0], job, moderate[1]])[1] == losses
    assert losses != bench.losses([bench.job(train__max_steps=12, train__validate_every=6)])[0]
    assert losses != bench.losses([bench.job(lora__dropout=0.3, train__max_steps=12, train__seed=4)])[0]
    pack = bench.pack()
    number = pack.admit(job, None)
    pack.ask(number)
    while pack.round():
        pass
    pack.save(number, tmp_path / "half")
    other = bench.pack()
    assert run(other, [other.admit(job, tmp_path / "half")])[0] == losses[6:]


def test_bfloat16_follows_float32(bench: Bench) -> None:
    jobs = mixed(bench, 2e-4)[:6]
    for job in jobs:
        job.settings["base"]["dtype"] = "bfloat16"
    rough, fine = bench.losses(jobs, 6, "bfloat16"), bench.losses(mixed(bench, 2e-4)[:6])
    for one, other in zip(rough, fine, strict=True):
        assert one == pytest.approx(other, rel=0.03)
        assert one != other


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"head_dim": 8, "use_sliding_window": False},
    "mistral": {"sliding_window": None},
}
OTHERS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "phi3": ({"sliding_window": None}, ["*_proj"], "tree attention is hooked into llama"),
    "mistral": ({"sliding_window": 16}, ["*_proj"], "the base attends within a window of 16 tokens"),
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_other_families_through_their_own_code(
    family: str, make_bench: Callable[[Path], Bench], tmp_path: Path
) -> None:
    bench = make_bench(make_family(tmp_path / "base", family, FAMILIES[family]))
    jobs = [
        bench.job(train__max_steps=STEPS, train__validate_every=STEPS, optimizer__lr=5e-4, train__seed=seed)
        for seed in range(3)
    ]
    assert bench.network().why_no_trees is None
    for losses, job in zip(bench.losses(jobs, 3), jobs, strict=True):
        assert apart(losses, bench.peft(job)) <= CLOSE


@pytest.mark.parametrize("family", sorted(OTHERS))
def test_a_base_without_the_hook_trains_on_plain_rows(
    family: str, make_bench: Callable[[Path], Bench], tmp_path: Path
) -> None:
    settings, targets, why = OTHERS[family]
    bench = make_bench(make_family(tmp_path / "base", family, settings))
    assert bench.network().why_no_trees.startswith(why)
    jobs = [
        bench.job(
            train__max_steps=STEPS,
            train__validate_every=STEPS,
            optimizer__lr=5e-4,
            train__seed=seed,
            lora__targets=targets,
        )
        for seed in range(3)
    ]
    for losses, job in zip(bench.losses(jobs, 3), jobs, strict=True):
        assert apart(losses, bench.peft(job)) <= CLOSE


def make_family(folder: Path, family: str, settings: dict[str, Any]) -> Path:
    """A random base of another family, with the tiny one's tokenizer and shape."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    make_base(folder)
    ours = AutoConfig.from_pretrained(folder)
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    rest = ("vocab_size", "max_position_embeddings", "initializer_range", "tie_word_embeddings")
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    names = (*shape, *rest, *ids)
    config = AutoConfig.for_model(family, **{name: getattr(ours, name) for name in names}, **settings)
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
