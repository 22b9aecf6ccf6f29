"""What can be known of a pipeline before the sweep starts: its tables, its index, and every row that it will score."""

from collections.abc import Sequence
from pathlib import Path

from sweeps.errors import InvalidInput, Problem
from sweeps.retrieving import Pipeline
from tracking.meters.metrics import Item, row_of
from tracking.meters.retrieval.formulation import refuse_unreadable
from tracking.meters.retrieval.pipeline import ShoppingPipeline, open_pipeline

TOLD = 5  # rows that a message names


def rehearse_pipeline(settings: Pipeline, base_dir: Path, cache: Path, items: Sequence[Item]) -> None:
    """Open the pipeline, which makes its index, and look at every item; let it answer for the first right answer.

    Raises:
        InvalidInput: A table or an embedding cannot be used, items have no relevant product or no right answer that can
            be searched for: how many, and the first few.
        ServiceUnreachable: Embeddings are from an endpoint, and it does not answer.
    """
    pipeline = open_pipeline(settings, base_dir, cache)
    problems = [problem for item in items for problem in _problems(pipeline, item)]
    if problems:
        more = [Problem("evaluate.pipeline", f"and {len(problems) - TOLD} more")] if len(problems) > TOLD else []
        raise InvalidInput([*problems[:TOLD], *more])
    for item in items[:1]:
        pipeline(item, item.reference)


def _problems(pipeline: ShoppingPipeline, item: Item) -> Sequence[Problem]:
    row = row_of(item)
    try:
        pipeline.relevant(row)
        pipeline.shop.query(row)
        refuse_unreadable(pipeline.formulate, row, item.reference)
    except InvalidInput as error:
        return error.problems
    return ()
