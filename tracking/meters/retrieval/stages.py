"""Retrieval and ranking as stages of a request, for the latency of the whole agent."""

from typing import Any

from recipes.shopping.profile import Profile
from tracking.meters.latency.stages import Stage
from tracking.meters.metrics import Item, row_of
from tracking.meters.retrieval.formulation import NotFormulatedError, Query
from tracking.meters.retrieval.pipeline import Retrieved, ShoppingPipeline


class SearchStages:
    """What follows formulation, as :func:`tracking.meters.latency.stages.measure_stages` takes it.

    A shopper whose request was answered with something unreadable still waits for products: the stages then search for
    the shopper's own words, and ``own_words`` has the items. An embedding endpoint is asked anew, also for texts whose
    vectors are kept.
    """

    def __init__(self, pipeline: ShoppingPipeline) -> None:
        self._pipeline = pipeline
        self.own_words: set[str] = set()

    @property
    def stages(self) -> dict[str, Stage]:
        """By name, in order; the first is given the candidate's answer."""
        return {"retrieval": self._retrieve, "ranking": self._rank}

    def _retrieve(self, item: Item, answer: Any) -> tuple[Retrieved, Profile | None]:
        row = row_of(item)
        try:
            query = self._pipeline.formulate(row, answer)
        except NotFormulatedError:
            self.own_words.add(item.id)
            query = Query(self._pipeline.shop.query(row))
        return self._pipeline.retrieve(query, anew=True), self._pipeline.shop.profile(row)

    def _rank(self, item: Item, found: tuple[Retrieved, Profile | None]) -> tuple[str, ...]:
        return self._pipeline.rank(*found)
