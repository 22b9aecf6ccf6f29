"""Pools: the kinds of machine that trials run on, and how many units of each a Ray cluster has."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from launchers.prices import named_price, read_prices, shipped_prices
from launchers.problems import in_words, read_block
from sweeps.errors import InvalidInput, Problem
from sweeps.facts import Pool, Speed
from sweeps.pricing import Price

SHIPPED = Path(__file__).parent / "pools"
LABEL = "ray.io/accelerator-type"


def load_pools(extra: Path | None = None, prices: Path | None = None) -> dict[str, Pool]:
    """Every pool by name: those that ship, and those of a ``pools/`` folder beside the sweep, which win.

    Args:
        extra: That folder.
        prices: A price list of the user's own. An entry that is called like a pool is that pool's price, whatever its
            file says; the others can be named in pool files, before those that ship.

    Raises:
        InvalidInput: A pool file, or the price list, is not as it must be.
    """
    own = read_prices(prices) if prices else {}
    known = {**shipped_prices(), **own}
    pools: dict[str, Pool] = {}
    for folder in [SHIPPED, *([extra] if extra and extra.is_dir() else [])]:
        for path in sorted(folder.glob("*.yaml")):
            pools[path.stem] = _load(path, known, own.get(path.stem))
    return pools


def pools_beside(base_dir: Path, prices: object) -> dict[str, Pool]:
    """Every pool of a sweep whose YAML lies in ``base_dir``; ``prices`` is what it has there. Raises as above."""
    path = base_dir / Path(prices).expanduser() if isinstance(prices, str) and prices else None
    return load_pools(base_dir / "pools", path)


def _load(path: Path, known: dict[str, Price], own: Price | None) -> Pool:
    content = read_block(path, f"a pool has the keys of {SHIPPED / 'cpu.yaml'}")
    price = own or content.get("price")
    if isinstance(price, str):
        price = named_price(price, known, path)
    try:
        return Pool.model_validate({"name": path.stem, **content, **({"price": price} if price is not None else {})})
    except ValidationError as error:
        found = [in_words(one, Pool, price=Price, speed=Speed) for one in error.errors(include_url=False)]
        raise InvalidInput(found, str(path)) from None


def units(pool: Pool, nodes: Iterable[dict[str, Any]]) -> int:
    """How many units (cores, GPUs) of a pool the nodes of a Ray cluster (``ray.nodes()``) have."""
    total = 0.0
    for node in nodes:
        if not node.get("Alive", True):
            continue
        resources, labels = node.get("Resources", {}), node.get("Labels", {})
        if pool.device == "cpu":
            total += resources.get("CPU", 0)
        elif labels.get(LABEL) == pool.accelerator or f"accelerator_type:{pool.accelerator}" in resources:
            total += resources.get("GPU", 0)
    return int(total)


def selector(pools: Iterable[Pool]) -> dict[str, str]:
    """Ray's label selector for a node of any of these GPU pools."""
    return {LABEL: f"in({','.join(str(pool.accelerator) for pool in pools)})"}


def require(pools: Iterable[Pool], gpus_per_trial: int, nodes: list[dict[str, Any]]) -> dict[str, int]:
    """The units of each pool; an error before anything starts where the cluster cannot run a trial of one.

    Raises:
        InvalidInput: A pool has no unit in the cluster, or fewer than one trial needs.
    """
    have, problems = {}, []
    present = sorted({str(node.get("Labels", {}).get(LABEL)) for node in nodes if node.get("Labels", {}).get(LABEL)})
    for pool in pools:
        have[pool.name] = units(pool, nodes)
        need = gpus_per_trial if pool.device == "gpu" else 1
        if have[pool.name] < need:
            rule = f"a trial needs {need} {pool.accelerator or 'CPU'}, the Ray cluster has {have[pool.name]}"
            hint = f"accelerators it has: {', '.join(present) or 'none'}; to try things out here, use pools=[cpu]"
            problems.append(Problem(f"pools: {pool.name}", rule, hint))
    if problems:
        raise InvalidInput(problems)
    return have
