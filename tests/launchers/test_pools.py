"""Pools: what a cluster has of each, and that trials land on the right machines (fake GPU nodes, labelled)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers import pools
from launchers.build import Built, build
from launchers.driver import resources
from sweeps.errors import InvalidInput


def node(accelerator: str | None, gpus: int, cpus: int = 8, alive: bool = True) -> dict[str, Any]:
    labels = {pools.LABEL: accelerator} if accelerator else {}
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}, "Labels": labels}


def test_units_are_counted_by_label() -> None:
    every = pools.load_pools()
    nodes = [node("H100", 8), node("B200", 4), node("H100", 8, alive=False), node(None, 0)]
    assert pools.units(every["h100"], nodes) == 8
    assert pools.units(every["b200"], nodes) == 4
    assert pools.units(every["cpu"], nodes) == 24


def test_a_pool_that_the_cluster_lacks_is_an_error_and_not_an_eternal_wait() -> None:
    every = pools.load_pools()
    with pytest.raises(InvalidInput) as told:
        pools.require([every["h100"], every["b200"]], 2, [node("H100", 1), node("A100", 8)])
    text = str(told.value)
    assert "pools: h100: a trial needs 2 H100, the Ray cluster has 1 (accelerators it has: A100, H100" in text
    assert "pools: b200: a trial needs 2 B200, the Ray cluster has 0" in text


def test_every_shipped_pool_has_a_dated_and_sourced_price() -> None:
    for pool in pools.load_pools().values():
        assert pool.price.date.count("-") == 2
        assert pool.price.source
        assert pool.speed.source


def test_a_pool_file_beside_the_sweep_wins(tmp_path: Path) -> None:
    shipped = (pools.SHIPPED / "h100.yaml").read_text()
    own = "{usd_per_hour: 1.5, date: 2026-11-01, source: our contract}"
    (tmp_path / "h100.yaml").write_text(shipped.replace("nebius-h100", own))
    assert pools.load_pools(tmp_path)["h100"].price.usd_per_hour == 1.5


def test_an_own_price_list_prices_pools_by_their_names_and_adds_entries(tmp_path: Path) -> None:
    listed = "h100: {usd_per_hour: 2.5, date: 2026-11-20, source: our contract}\n"
    (tmp_path / "prices.yaml").write_text(listed + "ours: {usd_per_hour: 1.25, date: 2026-11-20, source: lease}\n")
    (tmp_path / "pools").mkdir()
    shipped = (pools.SHIPPED / "b200.yaml").read_text()
    (tmp_path / "pools" / "mine.yaml").write_text(shipped.replace("nebius-b200", "ours"))
    found = pools.load_pools(tmp_path / "pools", tmp_path / "prices.yaml")
    assert {name: found[name].price.usd_per_hour for name in ("h100", "mine", "b200")} == {
        "h100": 2.5,
        "mine": 1.25,
        "b200": 7.15,
    }


def test_a_wrong_pool_file_names_its_keys(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("device: gpu\nmemory_gb: -1\nprize: {}\n")
    with pytest.raises(InvalidInput) as told:
        pools.load_pools(tmp_path)
    assert "memory_gb" in str(told.value)
    assert "prize" in str(told.value)


@pytest.fixture
def fake_cluster() -> Iterator[None]:
    """Two nodes with four GPUs each, of the two kinds, on this machine."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for accelerator in ("H100", "B200"):
        cluster.add_node(num_cpus=8, num_gpus=4, labels={pools.LABEL: accelerator}, object_store_memory=100 * 2**20)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build(Path("sweeps/commerce_sft.yaml"), ["set.data.rows=100"])


def _where(config: dict[str, Any]) -> dict[str, Any]:
    import ray

    here = ray.get_runtime_context().get_node_id()
    labels = next(each["Labels"] for each in ray.nodes() if each["NodeID"] == here)
    return {"accelerator": labels.get(pools.LABEL)}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [pytest.param(["h100"], {"H100"}, marks=pytest.mark.slow), (["h100", "b200"], {"H100", "B200"})],
)
def test_trials_run_on_their_pools_and_nowhere_else(
    fake_cluster: None, built: Built, wanted: list[str], expected: set[str], tmp_path: Path
) -> None:
    import dataclasses

    import ray
    from ray import tune

    chosen = tuple(pool for pool in built.pools if pool.name in wanted)
    group = resources(dataclasses.replace(built, pools=chosen), units=2)
    have = pools.require(chosen, 2, ray.nodes())
    assert sum(have.values()) == 4 * len(wanted)
    results = tune.Tuner(
        tune.with_resources(_where, group),
        tune_config=tune.TuneConfig(num_samples=4),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    ).fit()
    landed = [result.metrics["accelerator"] for result in results]
    assert len(landed) == 4
    assert set(landed) <= expected
