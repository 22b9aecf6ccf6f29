"""A trial's state on disk: PEFT reads it, ``nemo`` and ``packed`` read each other's adapters."""

from pathlib import Path
from typing import Any

import pytest

from recipes import generation
from recipes.engines.nemo.engine import NemoEngine
from recipes.engines.packed import decode, state
from recipes.engines.protocol import Job, TrainingFailed
from recipes.schema import Base
from sweeps.errors import InvalidInput
from tests.recipes.packed.conftest import Bench, run
from tests.recipes.tiny import chat_rows


@pytest.fixture
def saved(bench: Bench, tmp_path: Path) -> tuple[Any, Path]:
    """A trial that adapts two kinds of layer, at its end."""
    pack = bench.pack()
    number = pack.admit(bench.job(lora__targets=["*.q_proj", "*.layers.1.mlp.down_proj"]), None)
    run(pack, [number])
    pack.save(number, tmp_path / "saved")
    return pack.trials[number], tmp_path / "saved"


def test_plain_peft_gives_the_reported_loss(saved: tuple[Any, Path], bench: Bench) -> None:
    trial, folder = saved
    base = Base(path=str(bench.base), dtype="float32")
    model = generation.load(str(bench.base), base, folder / "adapter", max_new_tokens=8, batch_size=4)
    loss = generation.validation_loss(model, chat_rows(6, start=40))
    assert loss == pytest.approx(trial.outcome.metrics["val/loss"], rel=1e-5)


def test_layers_go_by_their_last_name_only_where_all_of_them_are_adapted(saved: tuple[Any, Path]) -> None:
    import json

    config = json.loads((saved[1] / "adapter" / "adapter_config.json").read_text())
    names = [f"model.layers.{layer}.self_attn.q_proj" for layer in (0, 1)]
    assert config["target_modules"] == sorted([*names, "model.layers.1.mlp.down_proj"])


def test_an_adapter_of_the_nemo_engine_is_read(bench: Bench, tmp_path: Path) -> None:
    job = bench.job(train__max_steps=4, train__validate_every=4)
    other = Job({**job.settings, "engine": "nemo"}, job.base, job.train, job.validation, tmp_path, "cpu", 1)
    session = NemoEngine().open(other, None)
    session.advance()
    session.save(tmp_path / "nemo")
    session.close()
    pack = bench.pack()
    number = pack.admit(job, None)
    run(pack, [number])
    pack.save(number, tmp_path / "packed")
    prompts = [messages[:-1] for messages in chat_rows(5)]
    loaded = [decode.load_adapter(bench.network(), tmp_path / name / "adapter") for name in ("nemo", "packed")]
    assert loaded[0].sites == loaded[1].sites
    answers = decode.texts(bench.network(), loaded, prompts, 12)
    assert answers[0] == answers[1], "the same trial"


@pytest.mark.parametrize(
    "missing", ["state/cursor.json", "state/optimizer.safetensors", "adapter/adapter_model.safetensors"]
)
def test_half_a_checkpoint_is_refused(missing: str, saved: tuple[Any, Path], bench: Bench) -> None:
    trial, folder = saved
    (folder / missing).unlink()
    with pytest.raises(TrainingFailed, match="is no checkpoint of this trial"):
        bench.pack().admit(trial.job, folder)


def test_a_checkpoint_of_another_rank_is_refused(saved: tuple[Any, Path], bench: Bench) -> None:
    with pytest.raises(TrainingFailed, match="is no checkpoint of this trial"):
        bench.pack().admit(bench.job(lora__rank=8), saved[1])


def test_the_output_projection_cannot_be_adapted(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="lm_head is the output projection, which all trials of a pack share"):
        bench.pack().admit(bench.job(lora__targets=["*_proj", "lm_head"]), None)


def test_an_empty_state_changes_nothing(bench: Bench) -> None:
    adapter = decode.load_adapter(bench.network(), None)
    assert not adapter.state.weights.any()
    assert state.num_parameters(adapter.sites, 1) == len(adapter.state.weights)
