"""Adapters that trials start from: found, held against the base, and known by their contents."""

from collections.abc import Sequence
from pathlib import Path

from recipes import adapters, bases
from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem
from sweeps.facts import StartFacts


def start_facts(where: str, base: Base, base_dir: Path, cache: Path) -> StartFacts:
    """What a sweep must know of an adapter to start from.

    Args:
        where: As ``start.adapter`` is written.
        base: The recipe's.
        base_dir: What relative paths are taken from.
        cache: Where an adapter is kept that was downloaded.

    Raises:
        InvalidInput: It is not there, no plain LoRA adapter, or another base's.
        ServiceUnreachable: It is in object storage, and that does not answer.
    """
    folder = bases.locate(base, base_dir)
    try:
        found = adapters.locate(where, base_dir, cache)
        adapters.check(found, folder, plain=True)
    except InvalidInput as error:
        raise InvalidInput([Problem("start.adapter", one.rule, one.hint) for one in error.problems]) from None
    rank, alpha, layers = adapters.shape(found)
    every = bases.linear_layers(folder) if folder is not None else {}
    lora = {"rank": rank, "alpha": alpha, "targets": _patterns(layers, list(every))}
    return StartFacts(adapters.identity(found), lora)


def _patterns(layers: Sequence[str], every: Sequence[str]) -> list[str]:
    """The layers as ``lora.targets``: by their last names where all of the base that bear one are adapted."""
    leaves = {name.rsplit(".", 1)[-1] for name in layers}
    whole = every and all(name in layers for name in every if name.rsplit(".", 1)[-1] in leaves)
    return [f"*.{leaf}" for leaf in sorted(leaves)] if whole else list(layers)
