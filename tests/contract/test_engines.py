"""What every engine promises. To add one: give ``ENGINES`` a line; every test below then runs for it too.

Starting a trial takes seconds, so the trials are shared: each fixture trains one, and the tests look at what it left.
``PODIUM_TEST_DEVICE=gpu`` has all of them trained on a GPU.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from recipes import generation
from recipes.engines.nemo.engine import NemoEngine
from recipes.engines.packed.engine import PackedEngine
from recipes.engines.protocol import Diverged, Engine, Job, Report
from recipes.schema import Base
from sweeps.errors import InvalidInput
from tests.recipes.tiny import chat_rows, make_base, one_thread, tiny_settings, write_rows

DEVICE = os.environ.get("PODIUM_TEST_DEVICE", "cpu")
ENGINES: dict[str, Callable[[], Engine]] = {"nemo": NemoEngine, "packed": PackedEngine}
SLOW = {"nemo": pytest.mark.slow}  # a process for each trial, which takes seconds to start
BOUNDARIES = [3, 6, 9, 11]
MID_EPOCH, END_OF_EPOCH = 3, 6
VALIDATION = chat_rows(6, start=40)

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Trial:
    """A trial that was trained: what it reported, and the folders that it saved, by step."""

    job: Job
    reports: dict[int, Report]
    saved: dict[int, Path]
    left_over: list[int]  # processes that outlived close()


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def alive(pids: set[int]) -> list[int]:
    """Those that have not ended within two seconds."""
    for _ in range(20):
        left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        if not left:
            break
        time.sleep(0.1)
    return left


def train(engine: Engine, job: Job, checkpoint: Path | None, save_at: tuple[int, ...], until: int) -> Trial:
    before = children()
    session = engine.open(job, checkpoint)
    reports: dict[int, Report] = {}
    saved: dict[int, Path] = {}
    try:
        while until not in reports:
            report = session.advance()
            reports[report.step] = report
            if report.step in save_at:
                saved[report.step] = job.folder / f"checkpoint-{report.step}"
                session.save(saved[report.step])
                session.save(saved[report.step])  # replaces what is there
        pids = children() - before
    finally:
        session.close()
    session.close()  # twice is fine
    return Trial(job, reports, saved, alive(pids))


def plain_loss(trial: Trial, step: int) -> float:
    """The validation loss of a saved adapter in plain PEFT."""
    adapter = trial.saved[step] / "adapter"
    base = Base.model_validate(trial.job.settings["base"])
    model = generation.load(trial.job.base, base, adapter, max_new_tokens=8, batch_size=4, device=DEVICE)
    return generation.validation_loss(model, VALIDATION)


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module", params=[pytest.param(name, marks=SLOW.get(name, ())) for name in sorted(ENGINES)])
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
    """A job on the tiny base in a folder of its own; its settings by ``group__key``."""
    base = make_base(tmp_path_factory.mktemp("base"))
    data = tmp_path_factory.mktemp("data")
    train_path = write_rows(data / "train.jsonl", chat_rows(12))
    validation_path = write_rows(data / "validation.jsonl", VALIDATION)

    def make(**overrides: Any) -> Job:
        return Job(
            settings=tiny_settings(base, **overrides),
            base=str(base),
            train=train_path,
            validation=validation_path,
            folder=tmp_path_factory.mktemp("trial"),
            device=DEVICE,
            threads=1,
        )

    return make


@pytest.fixture(scope="module")
def whole(engine: Engine, make_job: MakeJob) -> Trial:
    """AdamW from the first step to the last, never interrupted."""
    return train(engine, make_job(), None, (MID_EPOCH, END_OF_EPOCH, BOUNDARIES[-1]), BOUNDARIES[-1])


@pytest.fixture(scope="module")
def stopped(engine: Engine, make_job: MakeJob) -> Trial:
    """Adam, stopped half-way."""
    return train(engine, make_job(optimizer__name="adam"), None, (END_OF_EPOCH,), END_OF_EPOCH)


@pytest.fixture
def trials(whole: Trial, stopped: Trial) -> dict[str, Trial]:
    return {"adamw": whole, "adam": stopped}


def assert_same(reports: dict[int, Report], expected: dict[int, Report]) -> None:
    for step, report in reports.items():
        for name in ("train/loss", "val/loss", "train/lr"):
            assert report.metrics[name] == pytest.approx(expected[step].metrics[name], rel=1e-5), (step, name)
        assert report.done == expected[step].done


def test_reports_come_at_every_boundary_and_at_the_last_step(whole: Trial) -> None:
    assert list(whole.reports) == BOUNDARIES
    assert [report.done for report in whole.reports.values()] == [False, False, False, True]
    for report in whole.reports.values():
        assert set(report.metrics) == {"train/loss", "val/loss", "train/lr", "train/tokens_per_s"}
        assert all(math.isfinite(value) for value in report.metrics.values())
        assert report.metrics["train/tokens_per_s"] > 0
    rates = [report.metrics["train/lr"] for report in whole.reports.values()]
    assert rates == sorted(rates, reverse=True), "a cosine after two steps of warm-up"
    assert max(rates) <= 1e-2
    assert min(rates) >= 1e-3 * (1 - 1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_losses_fall(optimizer: str, trials: dict[str, Trial]) -> None:
    losses = [report.metrics["val/loss"] for report in trials[optimizer].reports.values()]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.1


def test_adam_and_adamw_differ_where_weights_decay(whole: Trial, stopped: Trial) -> None:
    assert stopped.reports[END_OF_EPOCH].metrics["val/loss"] != whole.reports[END_OF_EPOCH].metrics["val/loss"]


def test_resumed_in_the_middle_of_an_epoch_equals_the_uninterrupted_run(
    engine: Engine, whole: Trial, make_job: MakeJob
) -> None:
    trial = train(engine, make_job(), whole.saved[MID_EPOCH], (BOUNDARIES[-1],), BOUNDARIES[-1])
    assert list(trial.reports) == BOUNDARIES[1:]
    assert_same(trial.reports, whole.reports)
    end = BOUNDARIES[-1]
    assert plain_loss(trial, end) == pytest.approx(plain_loss(whole, end), rel=1e-5)


def test_resumed_at_the_end_of_an_epoch_equals_it_too(engine: Engine, whole: Trial, make_job: MakeJob) -> None:
    session = engine.open(make_job(), whole.saved[END_OF_EPOCH])
    report = session.advance()
    session.close()
    assert_same({report.step: report}, whole.reports)


@pytest.mark.parametrize(
    ("optimizer", "step"), [("adamw", MID_EPOCH), ("adamw", BOUNDARIES[-1]), ("adam", END_OF_EPOCH)]
)
def test_a_saved_adapter_gives_the_reported_loss_in_plain_peft(
    optimizer: str, step: int, trials: dict[str, Trial]
) -> None:
    trial = trials[optimizer]
    assert plain_loss(trial, step) == pytest.approx(trial.reports[step].metrics["val/loss"], rel=1e-4)


def test_the_adapter_adapts_every_target(whole: Trial) -> None:
    from peft import PeftConfig
    from safetensors import safe_open

    adapter = whole.saved[BOUNDARIES[-1]] / "adapter"
    config = PeftConfig.from_pretrained(adapter)
    assert (config.r, config.lora_alpha) == (4, 8)
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert len(names) == 2 * 2 * 7, "A and B of seven projections in two layers"


def test_no_process_outlives_close(whole: Trial, stopped: Trial) -> None:
    assert whole.left_over == stopped.left_over == []


def test_a_pattern_that_matches_nothing_is_named(engine: Engine, make_job: MakeJob) -> None:
    before = children()
    with pytest.raises(InvalidInput, match=r"lora\.targets: '\*\.query' matches no linear layer") as caught:
        engine.open(make_job(lora__targets=["*.q_proj", "*.query"]), None)
    assert "its linear layers end in down_proj, gate_proj" in str(caught.value)
    assert not alive(children() - before)


def test_a_rate_that_diverges_ends_the_trial(engine: Engine, make_job: MakeJob) -> None:
    before = children()
    session = engine.open(make_job(optimizer__lr=1e30, train__clip=1e30, schedule__warmup_steps=0), None)
    with pytest.raises(Diverged, match=r"the (training|validation) loss is (nan|inf) at step [123]$"):
        session.advance()
    session.close()
    assert not alive(children() - before)


def test_all_engines_train_the_same_trial(make_job: MakeJob) -> None:
    settings = {"lora__dropout": 0.0, "train__batch_size": 4, "train__micro_batch_size": 2}
    reports = [
        train(ENGINES[name](), make_job(**settings), None, (), BOUNDARIES[-1]).reports for name in sorted(ENGINES)
    ]
    for other in reports[1:]:
        for step, report in other.items():
            for name in ("train/loss", "val/loss", "train/lr"):
                assert report.metrics[name] == pytest.approx(reports[0][step].metrics[name], rel=1e-5), (step, name)
