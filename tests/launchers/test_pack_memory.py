"""A pack worker with little memory, on a real Ray: who fits joins, who fits later waits, who never fits is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from launchers.pack_worker import PackWorker
from recipes.engines.packed.memory import USABLE
from recipes.engines.protocol import Job
from recipes.schema import Base
from tests.recipes.tiny import chat_rows, make_base, tiny_settings, write_rows


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    base = make_base(tmp_path / "base")
    train = write_rows(tmp_path / "train.jsonl", chat_rows(12))
    validation = write_rows(tmp_path / "validation.jsonl", chat_rows(4, start=40))

    def make(**overrides: Any) -> Job:
        settings = tiny_settings(base, **{"lora__dropout": 0.0, "lora__rank": 32, **overrides})
        return Job({**settings, "engine": "packed"}, str(base), train, validation, tmp_path, "cpu", 1)

    return make


def values(job: Job) -> dict[str, Any]:
    return {**vars(job), **{name: str(getattr(job, name)) for name in ("train", "validation", "folder")}}


@pytest.fixture
def start(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Starts a worker on a job's base with five slots, one of so many packs of this machine."""
    handles = []

    def go(job: Job, num_packs: int) -> Any:
        settings = {"path": job.base, "dtype": "float32", "attention": "sdpa"}
        worker = cluster.remote(PackWorker).options(max_concurrency=16, num_cpus=0.5)
        handles.append(worker.remote((job.base, settings), "cpu", 1, 5, {}, num_packs))
        return handles[-1]

    yield go
    for handle in handles:
        cluster.kill(handle)


def test_memory_says_who_joins(cluster: Any, start: Callable[..., Any], make_job: Callable[..., Job]) -> None:
    from recipes.engines.packed.network import Network
    from recipes.engines.packed.pack import Pack

    job = make_job()
    need = Pack(Network(job.base, Base(path=job.base, dtype="float32"), "cpu")).need(job)
    wanted = (1.5 * need.slot + need.largest_pass) / USABLE  # for one trial and a half
    handle = start(job, int(psutil.virtual_memory().available / wanted))

    def join(token: str, job: Job) -> Any:
        return cluster.get(handle.join.remote(token, values(job), None, []))

    assert cluster.get(handle.places.remote(values(job))) == {"places": 1}
    assert join("first", job)["joined"]
    assert join("second", job) == {"joined": False}
    large = make_job(train__batch_size=12, train__micro_batch_size=12)
    for answer in (join("third", large), cluster.get(handle.places.remote(values(large)))):
        assert answer["error"] == "input"
        assert "for a pass of 12 rows (" in answer["message"]
        assert "MiB can be used" in answer["message"]
    cluster.get(handle.leave.remote("first"))
    assert join("second", job)["joined"]
    assert cluster.get(handle.advance.remote("second"))["step"] == 3
