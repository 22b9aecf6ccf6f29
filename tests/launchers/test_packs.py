"""Pack workers and their clients on a real Ray: slots, shares of time, and what happens when either side dies."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers import checkpoints, pack_slot
from launchers.pack_slot import PackAddress, PackSlot
from launchers.pack_worker import PackWorker
from recipes.engines.protocol import Diverged, Job, TrainingFailed
from sweeps.errors import InvalidInput
from tests.chaos.kills import wait_until
from tests.recipes.tiny import chat_rows, make_base, tiny_settings, write_rows

SLOTS = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def make_job(base: Path, tmp_path: Path) -> Callable[..., Job]:
    train = write_rows(tmp_path / "train.jsonl", chat_rows(12))
    validation = write_rows(tmp_path / "validation.jsonl", chat_rows(4, start=40))

    def make(name: str, **overrides: Any) -> Job:
        settings = tiny_settings(base, **{"lora__dropout": 0.0, "train__max_steps": 9, **overrides})
        folder = tmp_path / name
        folder.mkdir()
        return Job({**settings, "engine": "packed"}, str(base), train, validation, folder, "cpu", 1)

    return make


@pytest.fixture
def start(cluster: Any, base: Path) -> Iterator[Callable[[str], Any]]:
    """Starts a named worker, as the driver does."""
    handles = []

    def go(name: str) -> Any:
        worker = cluster.remote(PackWorker).options(name=name, max_restarts=-1, max_concurrency=16, num_cpus=0.5)
        settings = {"path": str(base), "dtype": "float32", "attention": "sdpa"}
        handles.append(worker.remote((str(base), settings), "cpu", 1, SLOTS, {}))
        return handles[-1]

    yield go
    for handle in handles:
        cluster.kill(handle)


def to_the_end(slot: PackSlot, job: Job) -> list[float]:
    """Train as a trial's runner does: a checkpoint at each report."""
    losses: list[float] = []
    while True:
        report = slot.advance()
        progress = {"step": report.step, "metrics": report.metrics, "done": report.done}
        checkpoints.commit(job.folder, progress, slot.save)
        losses.append(report.metrics["val/loss"])
        if report.done:
            slot.close()
            return losses


def pid_of(handle: Any, ray: Any) -> int:
    from ray.util.state import list_actors  # noqa: F401 - the private table below is what it reads

    state = ray._private.state.actors(handle._actor_id.hex())
    return int(state["Pid"])


def test_trials_take_slots_and_share_the_time(
    start: Callable[[str], Any], make_job: Callable[..., Job], cluster: Any
) -> None:
    handle = start("one")
    began = time.time()
    jobs = [make_job("a"), make_job("b", lora__rank=8)]
    slots = [PackSlot(PackAddress(("one",), 0), job) for job in jobs]
    raw = {name: getattr(jobs[0], name) for name in ("settings", "base", "device", "threads")}
    raw |= {name: str(getattr(jobs[0], name)) for name in ("train", "validation", "folder")}
    assert cluster.get(handle.join.remote("third", raw, None, [])) == {"joined": False}
    losses = [to_the_end(slot, job) for slot, job in zip(slots, jobs, strict=True)]
    assert all(len(one) == 3 and one == sorted(one, reverse=True) for one in losses)
    assert all(slot.busy_s > 0 for slot in slots)
    assert sum(slot.busy_s for slot in slots) < time.time() - began
    assert cluster.get(handle.beat.remote()) >= 2 * 9
    assert cluster.get(handle.join.remote("third", raw, None, []))["joined"], "both have left"


@pytest.mark.slow
def test_a_pack_that_dies_costs_no_attempt(
    start: Callable[[str], Any], make_job: Callable[..., Job], cluster: Any
) -> None:
    handle = start("dying")
    undisturbed, job = make_job("undisturbed"), make_job("disturbed")
    expected = to_the_end(PackSlot(PackAddress(("dying",), 0), undisturbed), undisturbed)
    slot = PackSlot(PackAddress(("dying",), 0), job)
    report = slot.advance()
    checkpoints.commit(job.folder, {"step": report.step, "metrics": report.metrics, "done": False}, slot.save)
    os.kill(pid_of(handle, cluster), signal.SIGKILL)
    report = slot.advance()
    os.kill(pid_of(handle, cluster), signal.SIGKILL)  # after the report, before its checkpoint
    checkpoints.commit(job.folder, {"step": report.step, "metrics": report.metrics, "done": False}, slot.save)
    assert report.step == 6
    assert to_the_end(slot, job)[-1] == pytest.approx(expected[-1], rel=1e-6)
    log = (job.folder / "engine.log").read_text()
    assert log.count("joins at step 0") == 1
    assert log.count("joins at step 3") == 2


def test_another_pack_takes_the_trial_when_its_own_is_gone(
    start: Callable[[str], Any], make_job: Callable[..., Job], cluster: Any
) -> None:
    first, _ = start("first"), start("second")
    job = make_job("moving")
    slot = PackSlot(PackAddress(("first", "second"), 0), job)
    report = slot.advance()
    checkpoints.commit(job.folder, {"step": report.step, "metrics": report.metrics, "done": False}, slot.save)
    cluster.kill(first)
    assert len(to_the_end(slot, job)) == 2


def test_a_trial_moves_to_a_pack_that_has_nothing_to_do(
    start: Callable[[str], Any], make_job: Callable[..., Job], cluster: Any
) -> None:
    full, empty = start("full"), start("empty")
    names = ("full", "empty")
    jobs = [make_job("stays"), make_job("moves"), make_job("alone")]
    slots = [PackSlot(PackAddress(names, 0), job) for job in jobs[:2]]

    def report(slot: PackSlot, job: Job) -> None:
        told = slot.advance()
        checkpoints.commit(job.folder, {"step": told.step, "metrics": told.metrics, "done": told.done}, slot.save)

    for slot, job in zip(slots, jobs, strict=False):
        report(slot, job)
    report(slots[1], jobs[1])
    report(slots[0], jobs[0])  # it is alone now, and stays
    assert cluster.get(full.idle.remote()) is None
    assert cluster.get(empty.idle.remote()) is None
    assert "joins at step 3" in (jobs[1].folder / "engine.log").read_text()
    assert "joins at step 3" not in (jobs[0].folder / "engine.log").read_text()
    alone = PackSlot(PackAddress(("full",), 0), jobs[2])
    losses = [to_the_end(slot, job)[-1] for slot, job in zip([slots[1], alone], jobs[1:], strict=True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6), "as if it had never moved"
    assert slots[1].busy_s > 0


@pytest.mark.slow
def test_a_pack_that_hangs_is_ended(
    start: Callable[[str], Any], make_job: Callable[..., Job], cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = start("hanging")
    job = make_job("hung")
    slot = PackSlot(PackAddress(("hanging",), 0), job)
    monkeypatch.setattr(pack_slot, "LOOK_S", 0.5)
    monkeypatch.setattr(pack_slot, "HUNG_S", 2.0)
    before = pid_of(handle, cluster)
    os.kill(before, signal.SIGSTOP)
    try:
        assert slot.advance().step == 3
    finally:
        try:
            os.kill(before, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert pid_of(handle, cluster) != before


def test_a_client_that_dies_frees_its_slot(
    start: Callable[[str], Any], make_job: Callable[..., Job], cluster: Any
) -> None:
    handle = start("freed")
    jobs = [make_job("left"), make_job("stays")]

    class Client:
        def join(self, job: Job) -> int:
            self.slot = PackSlot(PackAddress(("freed",), 0), job)
            return os.getpid()

    clients = [cluster.remote(Client).options(num_cpus=0).remote() for _ in jobs]
    pids = [cluster.get(client.join.remote(job)) for client, job in zip(clients, jobs, strict=True)]
    os.kill(pids[0], signal.SIGKILL)
    again = make_job("again")
    raw = {name: getattr(again, name) for name in ("settings", "base", "device", "threads")}
    raw |= {name: str(getattr(again, name)) for name in ("train", "validation", "folder")}
    wait_until(lambda: cluster.get(handle.join.remote("again", raw, None, []))["joined"], 30, "a free slot")
    time.sleep(2)
    assert not cluster.get(handle.join.remote("more", raw, None, []))["joined"], "the living client keeps its slot"


def test_what_cannot_be_trained_is_told_as_it_is(start: Callable[[str], Any], make_job: Callable[..., Job]) -> None:
    start("errors")
    address = PackAddress(("errors",), 0)
    with pytest.raises(InvalidInput, match=r"lora\.targets: 'q_proj' matches no linear layer"):
        PackSlot(address, make_job("target", lora__targets=["q_proj"]))
    wild = make_job("wild", optimizer__lr=1e30, train__clip=1e30, schedule__warmup_steps=0)
    with pytest.raises(Diverged, match=r"loss is (nan|inf) at step"):
        PackSlot(address, wild).advance()
    broken = make_job("broken")
    (broken.folder / "checkpoints" / "00000003").mkdir(parents=True)
    with pytest.raises(TrainingFailed, match="is no checkpoint of this trial"):
        PackSlot(address, broken)


def test_a_client_loads_no_torch(start: Callable[[str], Any], make_job: Callable[..., Job], cluster: Any) -> None:
    start("light")
    job = make_job("light")

    def heavy(job: Job) -> list[str]:
        import sys

        slot = PackSlot(PackAddress(("light",), 0), job)
        report = slot.advance()
        checkpoints.commit(job.folder, {"step": report.step, "metrics": report.metrics, "done": False}, slot.save)
        slot.close()
        import launchers.trainable

        assert launchers.trainable.__name__
        return [name for name in ("torch", "transformers", "mlflow") if name in sys.modules]

    assert cluster.get(cluster.remote(heavy).options(num_cpus=0).remote(job)) == []
