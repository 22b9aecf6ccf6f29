"""The shopping pipeline over an answer that was given: formulation, retrieval, ranking; each step scored.

The answer is the candidate's one call: nobody is asked again. Beside it run two arms that no candidate decides, so that
its own share is visible: the shopper's own words (``raw``), and the right answer's category and attributes (``gold``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from recipes.shopping.profile import Profile
from recipes.shopping.shop import LABELS, Shop, open_shop
from sweeps.errors import InvalidInput, Problem
from sweeps.retrieving import Pipeline
from tracking.meters.metrics import Item, row_of
from tracking.meters.retrieval.embedding import Vectors, unit
from tracking.meters.retrieval.formulation import (
    Formulate,
    NotFormulatedError,
    Query,
    formulation,
    refuse_unreadable,
    without_products,
)
from tracking.meters.retrieval.index import Index, digests, embedder_of, open_index, refuse_changed
from tracking.meters.retrieval.scoring import (
    LEVELS,
    attribute_extraction,
    e2e_score,
    hypothetical_product,
    list_measures,
)

RAW, HYDE, GOLD = "raw", "hyde", "gold"
NDCG, SCORE = "retrieval/ndcg_at_10", "e2e/score"
KEPT_ARMS = 10_000  # rows whose raw and gold arm are kept in memory


@dataclass(frozen=True)
class Recommended:
    """What the pipeline made of a query.

    Attributes:
        retrieved: Ids of the candidates, the nearest first.
        ranked: Ids of the top k, the best first.
        vectors: Of the query's texts, shape (texts, dimension); None where nothing was searched for.
    """

    retrieved: tuple[str, ...] = ()
    ranked: tuple[str, ...] = ()
    vectors: Vectors | None = None


@dataclass(frozen=True)
class Retrieved:
    """The candidates of a query, the nearest first.

    Attributes:
        places: Rows of the catalogue; ``cosines`` are theirs.
        vectors: Of the query's texts, shape (texts, dimension).
    """

    places: Sequence[int]
    cosines: Sequence[float]
    vectors: Vectors


class ShoppingPipeline:
    """Finds products by answers, and says how right they are.

    Args:
        settings: ``evaluate.pipeline``.
        shop: Its products, labels and shoppers.
        index: Of the products.
        formulate: How answers are read.
    """

    def __init__(self, settings: Pipeline, shop: Shop, index: Index, formulate: Formulate) -> None:
        self.settings, self.shop, self.index, self.formulate = settings, shop, index, formulate
        self._standing = lru_cache(KEPT_ARMS)(self._measure_standing)

    def retrieve(self, query: Query, anew: bool = False) -> Retrieved:
        """The products near the mean of a query's vectors.

        Args:
            query: What is searched for.
            anew: Take no vector from what is kept: this is timed.

        Raises:
            ServiceUnreachable: Embeddings are from an endpoint, and it does not answer.
        """
        vectors = self.index.embedder.embed(query.texts, anew)
        places, cosines = self.index.search(unit(vectors.mean(axis=0, keepdims=True)), self.settings.candidates)
        return Retrieved(places[0], cosines[0], vectors)

    def recommend(self, query: Query, profile: Profile | None = None) -> Recommended:
        """Retrieve candidates, and rank them with what the shopper likes. Raises as :meth:`retrieve` does.

        Args:
            query: What is searched for.
            profile: Of the shopper; None ranks by the cosine alone.
        """
        found = self.retrieve(query)
        products = self.index.catalogue.products
        ids = tuple(products[place].id for place in found.places)
        return Recommended(ids, self.rank(found, profile), found.vectors)

    def rank(self, found: Retrieved, profile: Profile | None) -> tuple[str, ...]:
        """Ids of the top k by cosine and affinity; equal ones in the order of retrieval."""
        products = [self.index.catalogue.products[place] for place in found.places]
        scores = [float(cosine) for cosine in found.cosines]
        if profile is not None and self.settings.profiles is not None:
            weight = self.settings.profiles.weight
            scores = [score + weight * profile.affinity(one) for score, one in zip(scores, products)]
        order = sorted(range(len(products)), key=lambda place: -scores[place])
        return tuple(products[place].id for place in order[: self.settings.top_k])

    def __call__(self, item: Item, answer: str) -> dict[str, float]:
        """A metric: ``retrieval/*`` and ``e2e/*`` of the answer, and of the arms beside it under names of their own.

        ``retrieval/formulated`` is 1 where the answer says what to search for. Where it does not, nothing is searched
        and the shopper sees nothing: everything is 0, and ``retrieval/unjudged_at_10`` is not there.

        Raises:
            InvalidInput: The row has no labels, or none at the lowest relevant grade; its right answer cannot be read.
        """
        by_arm = self.measure(item, answer)
        values = {f"{name}_{arm}": by_arm[arm][name] for arm in (RAW, GOLD) for name in (NDCG, SCORE)}
        return {**by_arm[HYDE], **values}

    def measure(self, item: Item, answer: str) -> dict[str, dict[str, float]]:
        """All measures of every arm. Raises as calling it does."""
        row = row_of(item)
        raw, gold = self._standing(json.dumps(row, sort_keys=True))
        right = refuse_unreadable(self.formulate, row, item.reference)
        try:
            query = self.formulate(row, answer)
        except NotFormulatedError:
            nothing = self._scored(row, Query(""), right, Recommended(), ())
            return {RAW: raw, HYDE: {**nothing, "retrieval/formulated": 0.0}, GOLD: gold}
        return {RAW: raw, HYDE: {**self._run(row, query, right), "retrieval/formulated": 1.0}, GOLD: gold}

    def _measure_standing(self, written: str) -> tuple[dict[str, float], dict[str, float]]:
        row = json.loads(written)
        right = refuse_unreadable(self.formulate, row, row["reference"])
        # These arms name no product: what is nearest to their words stands for it.
        right = Query(right.words, right.attributes, right.products[:1])
        gold = self._run(row, without_products(right), right)
        return self._run(row, Query(self.shop.query(row)), right), gold

    def _run(self, row: Mapping[str, Any], query: Query, right: Query) -> dict[str, float]:
        found = self.recommend(query, self.shop.profile(row))
        assert found.vectors is not None
        places, _ = self.index.search(found.vectors[-max(1, len(query.products)) :], 1)
        nearest = tuple(self.index.catalogue.products[place].id for place in places[:, 0])
        return self._scored(row, query, right, found, nearest)

    def relevant(self, row: Mapping[str, Any]) -> Mapping[str, int]:
        """The grades of a row's products.

        Raises:
            InvalidInput: There are none, or none high enough to be found.
        """
        grades = self.shop.grades(row)
        if max(grades.values(), default=0) < self.settings.relevant:
            rule = f"row {row['id']!r} has no product of grade {self.settings.relevant} or more"
            raise InvalidInput(Problem(LABELS, rule, "leave such rows out, or lower evaluate.pipeline.relevant"))
        return grades

    def _scored(
        self, row: Mapping[str, Any], query: Query, right: Query, found: Recommended, nearest: Sequence[str]
    ) -> dict[str, float]:
        grades = self.relevant(row)
        lists = {"retrieved": found.retrieved, "ranked": found.ranked}
        measured = list_measures(lists, grades, self.settings.relevant)
        extraction = attribute_extraction(query.attributes, right.attributes)
        components = {
            "e2e/hypothetical_product": hypothetical_product(nearest, grades, len(right.products)),
            **({} if extraction is None else {"e2e/attribute_extraction": extraction}),
            "e2e/recommendation": LEVELS * measured["ranked"]["ndcg_at_10"],
        }
        return {
            **{f"retrieval/{name}": value for name, value in measured["retrieved"].items()},
            **components,
            SCORE: e2e_score(list(components.values())),
        }


def open_pipeline(
    settings: Pipeline, base_dir: Path, cache: Path, expected: Mapping[str, str] | None = None
) -> ShoppingPipeline:
    """The pipeline that a sweep describes, with its index. Once opened, a process keeps it.

    Args:
        settings: ``evaluate.pipeline``.
        base_dir: What relative paths are taken from.
        cache: Podium's own, for the index.
        expected: The SHA-256 that the tables had when the sweep began, by their keys.

    Raises:
        InvalidInput: A table cannot be used or has changed, or the embedding cannot be had.
        ServiceUnreachable: Embeddings are from an endpoint, and it does not answer.
    """
    found = digests(settings.tables, base_dir)
    refuse_changed(settings.tables, found, expected or {})
    # By contents: a table that was corrected between two calls is another pipeline.
    return _opened(settings.model_dump_json(), json.dumps(found, sort_keys=True), base_dir, cache)


@lru_cache(maxsize=4)
def _opened(settings: str, contents: str, base_dir: Path, cache: Path) -> ShoppingPipeline:
    block = Pipeline.model_validate_json(settings)
    shop = open_shop(block, base_dir)
    index = open_index(shop.catalogue, embedder_of(block.embedding, cache), cache)
    return ShoppingPipeline(block, shop, index, formulation(block, base_dir))
