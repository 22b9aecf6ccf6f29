"""One optimizer step of several trials: packed, and in plain PEFT one after the other. What the benchmarks time."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recipes.engines.packed.rows import Row
from tests.benchmarks import shapes
from tests.peers import PeftTrial

Step = Callable[[], None]


def packed(folder: Path, rows: Sequence[Sequence[Row]], *, trees: bool = True, planned: bool = True) -> Step:
    """A step of as many trials as there are batches, in chunks as the planner measures them.

    Args:
        trees: False: every row by itself.
        planned: False: one trial at a time.
    """
    from recipes.engines.packed import state as states
    from recipes.engines.packed.chunk import Chunk, Member
    from recipes.engines.packed.planner import Planner

    network = shapes.network(folder)
    members = []
    for place, batch in enumerate(rows):
        recipe = shapes.recipe(folder, place, len(batch))
        sites = network.sites(recipe)
        state = states.fresh(recipe, sites, network.device)
        members.append(Member(recipe.lora.rank, recipe.lora.alpha, sites, state, recipe))
    members.sort(key=lambda member: member.rank)
    batches = [network.batch(batch, trees=trees) for batch in rows]
    tokens = max(batch.tokens for batch in batches)
    planner = Planner("cpu", {} if planned else {str(1 << power): 1 for power in range(20)})
    chunks: dict[tuple[int, int], Any] = {}

    def step() -> None:
        import time

        size = planner.size(tokens, len(members))
        groups = -(-len(members) // size)
        for number in range(groups):
            start, end = len(members) * number // groups, len(members) * (number + 1) // groups
            if (start, end) not in chunks:
                for chunk in chunks.values():
                    chunk.store()
                for stale in [key for key in chunks if key[0] < end and start < key[1]]:
                    del chunks[stale]
                chunks[start, end] = Chunk(network, members[start:end])
            begun = time.perf_counter()
            chunks[start, end].train_step([[batch] for batch in batches[start:end]])
            planner.record(tokens, end - start, time.perf_counter() - begun)

    for _ in range(12):
        step()
        if planner.decisions:
            break
    return step


def peft(folder: Path, rows: Sequence[Sequence[Row]], *, completion_logits: bool = False) -> Step:
    """As many steps in plain PEFT, one after the other.

    One trial of each rank takes several steps in a row, as it would if it were trained alone: its base stays in the
    processor's cache, which is to PEFT's advantage.
    """
    kinds = min(len(rows), len(shapes.RANKS))
    trials = [
        PeftTrial(
            shapes.plain_network(folder),
            shapes.recipe(folder, place, len(rows[place])),
            completion_logits=completion_logits,
        )
        for place in range(kinds)
    ]

    def step() -> None:
        for place, trial in enumerate(trials):
            for batch in rows[place::kinds]:
                trial.step(batch)

    step()
    return step
