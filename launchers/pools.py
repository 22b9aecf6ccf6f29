"""Pools: the kinds of machine that trials run on, and how many units of each a Ray cluster has."""

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sweeps.errors import InvalidInput, Problem, nearest
from sweeps.facts import Pool, Price, Speed

SHIPPED = Path(__file__).parent / "pools"
LABEL = "ray.io/accelerator-type"


def load_pools(extra: Path | None = None) -> dict[str, Pool]:
    """Every pool by name: those that ship, and those of a ``pools/`` folder beside the sweep, which win.

    Raises:
        InvalidInput: A pool file is not as it must be.
    """
    pools: dict[str, Pool] = {}
    for folder in [SHIPPED, *([extra] if extra and extra.is_dir() else [])]:
        for path in sorted(folder.glob("*.yaml")):
            pools[path.stem] = _load(path)
    return pools


def _load(path: Path) -> Pool:
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(Problem(str(path), f"is not YAML: {' '.join(str(error).split())}")) from None
    if not isinstance(content, dict):
        raise InvalidInput(Problem(str(path), "must be a block of keys", f"as in {SHIPPED / 'cpu.yaml'}"))
    price = content.get("price")
    if isinstance(price, dict) and "date" in price:
        content = {**content, "price": {**price, "date": str(price["date"])}}  # YAML reads it as a date
    try:
        return Pool.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        raise InvalidInput(list(map(_in_words, error.errors(include_url=False))), str(path)) from None


def _in_words(entry: ErrorDetails) -> Problem:
    *block, key = map(str, entry["loc"])
    where = ".".join([*block, key])
    if entry["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"price": Price, "speed": Speed}
        valid = tuple(models.get("".join(block), Pool).model_fields)
        return Problem(where, f'unknown key "{key}"', nearest(key, valid))
    if entry["type"] == "missing":
        return Problem(where, "is missing")
    return Problem(where, f"{entry['msg'][:1].lower()}{entry['msg'][1:]}, but got {reprlib.repr(entry['input'])}")


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
