"""How long retrieval and ranking take, one request at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from tracking.meters.latency import NEEDED, percentile
from tracking.meters.metrics import Item
from tracking.meters.retrieval.pipeline import ShoppingPipeline


@dataclass(frozen=True)
class StageTimes:
    """Seconds of each request, in order.

    Attributes:
        retrieval_s: Embedding the query and searching; None where the answer says nothing to search for.
        ranking_s: Ranking to the top k; None likewise.
    """

    retrieval_s: tuple[float | None, ...]
    ranking_s: tuple[float | None, ...]

    @property
    def metrics(self) -> dict[str, float | None]:
        """``latency/retrieval_p95_s`` and ``latency/ranking_p95_s``, None where requests are too few for them."""
        return {
            "latency/retrieval_p95_s": _p95(self.retrieval_s),
            "latency/ranking_p95_s": _p95(self.ranking_s),
        }


def time_stages(
    pipeline: ShoppingPipeline,
    items: Sequence[Item],
    answers: Sequence[str],
    requests: int | None = None,
    warmup: int = 1,
) -> StageTimes:
    """Time the stages after formulation for answers that were given, in order, round and round if need be.

    Add ``retrieval_s[i] + ranking_s[i]`` to the seconds that formulating answer ``i`` took for the time of the whole
    agent. An embedding endpoint is asked anew, also for texts whose vectors are kept.

    Args:
        pipeline: As :func:`tracking.meters.retrieval.open_pipeline` gives it.
        items: At least one.
        answers: One for each item.
        requests: That count; None for one per item.
        warmup: Requests made first that do not count.
    """
    assert len(items) == len(answers), f"{len(items)} items, but {len(answers)} answers"
    total = len(items) if requests is None else requests
    pairs = list(zip(items, answers, strict=True))
    for number in range(warmup):
        pipeline.time(*pairs[number % len(pairs)])
    found = [pipeline.time(*pairs[number % len(pairs)]) for number in range(total)]
    return StageTimes(
        tuple(one.retrieval_s if one else None for one in found), tuple(one.ranking_s if one else None for one in found)
    )


def _p95(seconds: Sequence[float | None]) -> float | None:
    there = sorted(one for one in seconds if one is not None)
    return percentile(there, 95) if len(there) >= NEEDED[95] else None
