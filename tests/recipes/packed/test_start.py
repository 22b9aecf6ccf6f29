"""Trials that start from an adapter: they go on from it, or train a new one beside it, which leave as one."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from recipes import adapters, generation
from recipes.engines.packed import state as states
from recipes.engines.protocol import Job
from recipes.schema import Base
from sweeps.errors import InvalidInput
from tests.recipes.packed.conftest import Bench, run
from tests.recipes.tiny import chat_rows, make_adapter, make_base


@pytest.fixture(scope="module")
def start(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rank 4 on q_proj and down_proj, at a scale of 2."""
    return make_adapter(bench.base, tmp_path_factory.mktemp("start") / "adapter", seed=5, std=0.05)


def started(bench: Bench, start: Path, mode: str, **overrides: Any) -> Job:
    job = bench.job(**overrides)
    settings = {**job.settings, "start": {"adapter": str(start), "mode": mode}}
    return Job.of({**job.fields(), "settings": settings, "start": str(start)})


def plain_loss(bench: Bench, adapter: Path) -> float:
    base = Base(path=str(bench.base), dtype="float32")
    model = generation.load(str(bench.base), base, adapter, max_new_tokens=8, batch_size=4)
    return generation.validation_loss(model, chat_rows(6, start=40))


def first_weights(bench: Bench, job: Job, folder: Path) -> dict[str, Any]:
    """What a trial is saved as before its first step."""
    pack = bench.pack()
    number = pack.admit(job, None)
    pack.save(number, folder)
    return dict(load_file(folder / "adapter" / adapters.WEIGHTS))


def test_a_job_travels_whole(bench: Bench, start: Path) -> None:
    for job in (bench.job(), started(bench, start, "stack")):
        sent = json.loads(json.dumps(job.fields()))
        assert Job.of(sent) == job
        assert "None" not in sent.values()


def test_a_trial_that_goes_on_begins_as_the_adapter_is(bench: Bench, start: Path, tmp_path: Path) -> None:
    mine = first_weights(bench, started(bench, start, "continue"), tmp_path / "saved")
    theirs = load_file(start / adapters.WEIGHTS)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    config = json.loads((tmp_path / "saved" / "adapter" / adapters.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8), "the start's own, whatever the recipe says"
    assert plain_loss(bench, tmp_path / "saved" / "adapter") == plain_loss(bench, start)


def test_a_new_adapter_beside_it_changes_nothing_at_first(bench: Bench, start: Path, tmp_path: Path) -> None:
    job = started(bench, start, "stack", lora__rank=6, lora__alpha=3, lora__targets=["*.q_proj", "*.v_proj"])
    first_weights(bench, job, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "adapter" / adapters.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (10, 5), "scaled as the new one is: 3 / 6"
    assert config["target_modules"] == ["down_proj", "q_proj", "v_proj"]
    assert plain_loss(bench, tmp_path / "saved" / "adapter") == pytest.approx(plain_loss(bench, start), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_what_is_frozen_stays_to_the_bit(optimizer: str, bench: Bench, start: Path, tmp_path: Path) -> None:
    jobs = [
        started(bench, start, "stack", lora__rank=rank, optimizer__name=optimizer, optimizer__weight_decay=0.3)
        for rank in (2, 6)
    ]
    before = [first_weights(bench, job, tmp_path / f"before-{place}") for place, job in enumerate(jobs)]
    pack = bench.pack(chunk=4)
    numbers = [pack.admit(job, None) for job in [*jobs, bench.job(lora__rank=16)]]
    losses = run(pack, numbers)
    for place in range(2):
        pack.save(numbers[place], tmp_path / f"after-{place}")
        after = load_file(tmp_path / f"after-{place}" / "adapter" / adapters.WEIGHTS)
        for name, tensor in after.items():
            frozen, was = (t[:4] if "lora_A" in name else t[:, :4] for t in (tensor, before[place][name]))
            assert torch.equal(frozen, was), name
            own, was = (t[4:] if "lora_A" in name else t[:, 4:] for t in (tensor, before[place][name]))
            assert not torch.equal(own, was), name
        moments = load_file(tmp_path / f"after-{place}" / "state" / states.MOMENTS)
        assert not any(t[:4].any() if "lora_A" in name else t[:, :4].any() for name, t in moments.items())
        assert losses[place][-1] < losses[place][0]


def test_it_trains_as_plain_peft_does_on_a_base_with_the_start_merged(
    bench: Bench, start: Path, tmp_path: Path
) -> None:
    """What is frozen is a part of the base, so the clip, too, sees the new adapter's gradient alone."""
    from transformers import AutoModelForCausalLM

    from recipes.schema import Recipe
    from tests.peers import peft_losses

    options = {"optimizer__lr": 1e-3, "optimizer__weight_decay": 0.1, "train__clip": 0.05}
    job = started(bench, start, "stack", lora__rank=6, lora__alpha=12, **options)
    from peft import PeftModel

    network = AutoModelForCausalLM.from_pretrained(bench.base)
    merged = PeftModel.from_pretrained(network, start).merge_and_unload()
    losses = peft_losses(merged, Recipe.model_validate(job.settings), bench.rows, None)
    assert bench.losses([job])[0] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("mode", ["continue", "stack"])
def test_resumed_it_equals_the_uninterrupted_run(mode: str, bench: Bench, start: Path, tmp_path: Path) -> None:
    job = started(bench, start, mode, lora__rank=6)
    whole = bench.losses([job])[0]
    pack = bench.pack()
    number = pack.admit(job, None)
    pack.ask(number)
    while pack.trials[number].outcome is None:
        pack.round()
    pack.save(number, tmp_path / "half")
    other = bench.pack()
    number = other.admit(job, tmp_path / "half")
    assert run(other, [number])[0] == whole[3:]
    other.save(number, tmp_path / "end")
    reported = other.trials[number].outcome.metrics["val/loss"]
    assert plain_loss(bench, tmp_path / "end" / "adapter") == pytest.approx(reported, rel=1e-5)


def test_neighbours_change_nothing(bench: Bench, start: Path) -> None:
    jobs = [
        started(bench, start, "stack", lora__rank=6, optimizer__lr=2e-4),
        started(bench, start, "continue", optimizer__lr=2e-4),
        bench.job(optimizer__lr=2e-4),
    ]
    alone = [bench.losses([job])[0] for job in jobs]
    for together, own in zip(bench.losses(jobs, 3), alone, strict=True):
        assert together == pytest.approx(own, rel=1e-6)


def test_an_adapter_of_another_base_is_refused(bench: Bench, start: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in start.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    from safetensors.torch import save_file

    named = {name.replace("layers.1", "layers.7"): t for name, t in load_file(start / adapters.WEIGHTS).items()}
    save_file(named, other / adapters.WEIGHTS)
    with pytest.raises(
        InvalidInput, match=r"start\.adapter: .* is of another base: .* has no linear layer model.layers.7"
    ):
        bench.pack().admit(started(bench, other, "continue"), None)


def test_dropout_beside_a_frozen_adapter_is_refused(bench: Bench, start: Path) -> None:
    with pytest.raises(ValueError, match=r"lora\.dropout must be 0 with start\.mode: stack, .* but got 0\.1"):
        bench.pack().admit(started(bench, start, "stack", lora__dropout=0.1), None)


def test_a_start_is_known_by_what_it_computes(bench: Bench, start: Path, tmp_path: Path) -> None:
    from recipes.starts import start_facts

    base = Base(path=str(bench.base), dtype="float32")

    def identity(**changes: Any) -> str:
        folder = Path(shutil.copytree(start, tmp_path / "copy", dirs_exist_ok=True))
        config = {**json.loads((start / adapters.CONFIG).read_text()), **changes}
        (folder / adapters.CONFIG).write_text(json.dumps(config))
        return start_facts(str(folder), base, tmp_path, tmp_path).identity

    own = start_facts(str(start), base, tmp_path, tmp_path).identity
    assert identity(base_model_name_or_path="/elsewhere", inference_mode=False) == own, "as in an exported bundle"
    assert identity(lora_alpha=9) != own


def test_a_start_that_says_it_is_of_another_base_is_refused(bench: Bench, start: Path, tmp_path: Path) -> None:
    from recipes.starts import start_facts

    base = Base(path=str(bench.base), dtype="float32")
    found = start_facts(str(start), base, tmp_path, tmp_path)
    assert found.lora == {"rank": 4, "alpha": 8.0, "targets": ["*.down_proj", "*.q_proj"]}
    other = make_base(tmp_path / "other", seed=1)
    with pytest.raises(InvalidInput, match=r"was trained on another base, .* \([0-9a-f]{12}…\), and not on .*other"):
        start_facts(str(start), base.model_copy(update={"path": str(other)}), tmp_path, tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    for file in start.iterdir():
        (gone / file.name).write_bytes(file.read_bytes())
    config = json.loads((gone / adapters.CONFIG).read_text())
    (gone / adapters.CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": "/not/here"}))
    start_facts(str(gone), base.model_copy(update={"path": str(other)}), tmp_path, tmp_path)
    bundle = {"base": {"name": "a base", "identity": "0" * 64}}
    (gone / "champion.json").write_text(json.dumps(bundle))
    with pytest.raises(InvalidInput, match=r"another base, a base \(000000000000…\)"):
        start_facts(str(gone), base, tmp_path, tmp_path)
    assert math.isfinite(found.lora["alpha"])
