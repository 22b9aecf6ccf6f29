"""Adapters that trials start from: found, held against the base, and known by their contents."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from recipes import adapters, bases
from recipes.files import sha256_of
from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem
from sweeps.facts import StartFacts

_HUB = "hub:"


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
        _refuse_other_base(found, base, base_dir)
    except InvalidInput as error:
        raise InvalidInput([at_start(one) for one in error.problems]) from None
    rank, alpha, layers = adapters.shape(found)
    every = bases.linear_layers(folder) if folder is not None else {}
    lora = {
        "rank": rank,
        "alpha": alpha,
        "targets": [f"*.{leaf}" for leaf in adapters.by_last_name(layers, list(every))] or list(layers),
    }
    return StartFacts(_identity(found, rank, alpha), lora)


def _identity(adapter: Path, rank: int, alpha: float) -> str:
    """SHA-256 over the weights and their scale: a plain adapter computes nothing else.

    The rest of its configuration, as the path of the base, is another in a trial's folder and in the bundle made of it.
    """
    content = {"weights": sha256_of(adapter / adapters.WEIGHTS), "r": rank, "lora_alpha": alpha}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def at_start(problem: Problem) -> Problem:
    """A problem of an adapter as one of ``start.adapter``, with what can be done about it there."""
    elsewhere = any(word in problem.hint for word in ("as model", "engine: nemo"))
    hint = "start from a plain LoRA adapter of this base" if elsewhere else problem.hint
    return Problem("start.adapter", problem.rule.replace("packed engine answers with", "packed engine trains"), hint)


def _refuse_other_base(adapter: Path, base: Base, base_dir: Path) -> None:
    """Layers of one shape may be another base's: who wrote the adapter may have said whose it is."""
    here, (named, there) = bases.identity(base, base_dir), adapters.named_base(adapter)
    if there is None and named:
        with suppress(InvalidInput):  # a path of another machine
            there = bases.identity(base.model_copy(update={"path": named, "revision": base.revision}), base_dir)
    if there is None or there == here or there.startswith(_HUB) != here.startswith(_HUB):
        return  # the contents of a base on the hub are not known here
    theirs, ours = (f" ({one[:12]}…)" if not one.startswith(_HUB) else "" for one in (there, here))
    rule = f"{adapter} was trained on another base, {named}{theirs}, and not on {base.path}{ours}"
    raise InvalidInput(Problem("adapter", rule, "set base.path to its own base, or start from an adapter of this one"))
