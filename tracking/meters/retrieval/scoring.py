"""Ranked lists and formulations held against what is right.

Measures of lists are those of ``ir-measures``: nDCG@10 with the grades as gains (Järvelin and Kekäläinen, 2002),
recall@10, reciprocal rank, and judged@10, of which unjudged is the rest.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tracking.meters.retrieval.formulation import Pair

LEVELS = 5.0
CUTOFF = 10


def list_measures(
    ranked: Mapping[str, Sequence[str]], grades: Mapping[str, int], relevant: int
) -> dict[str, dict[str, float]]:
    """Measures of several lists of one query, by the list's name.

    Args:
        ranked: Ids of products, the best first, by name.
        grades: Of the products that are judged.
        relevant: The lowest grade that recall and reciprocal rank count.

    Returns:
        ``ndcg_at_10``, ``recall_at_10``, ``mrr`` and ``unjudged_at_10`` each; an empty list has 0 of the first three,
        and of unjudged products no share.
    """
    import ir_measures

    filled = {name: ids for name, ids in ranked.items() if ids}
    run = {name: {one: float(-place) for place, one in enumerate(ids)} for name, ids in filled.items()}
    # Products of grade 0 beyond the lists change no measure, and there may be very many of them.
    listed = {one for ids in ranked.values() for one in ids}
    judged = {one: grade for one, grade in grades.items() if grade or one in listed}
    found = {name: {"ndcg_at_10": 0.0, "recall_at_10": 0.0, "mrr": 0.0} for name in ranked}
    names = _measures(relevant)
    for one in ir_measures.iter_calc(list(names), dict.fromkeys(filled, judged), run) if filled else ():
        name = names[one.measure]
        found[one.query_id][name] = 1.0 - one.value if name == "unjudged_at_10" else float(one.value)
    return found


@cache
def _measures(relevant: int) -> dict[Any, str]:
    from ir_measures import RR, Judged, R, nDCG

    return {
        nDCG @ CUTOFF: "ndcg_at_10",
        R(rel=relevant) @ CUTOFF: "recall_at_10",
        RR(rel=relevant): "mrr",
        Judged @ CUTOFF: "unjudged_at_10",
    }


def hypothetical_product(nearest: Sequence[str], grades: Mapping[str, int], expected: int) -> float:
    """0–5: what the products nearest to the hypothetical ones are worth, as a share of the best there is.

    Args:
        nearest: The id of the product nearest to each hypothetical one.
        grades: Of the products that are judged.
        expected: Hypothetical products of the right answer: with fewer, those that are missing are worth nothing.
    """
    best = max(grades.values())
    gains = [grades.get(one, 0) / best for one in nearest]
    return LEVELS * math.fsum(gains) / max(len(gains), expected, 1)


def attribute_extraction(given: frozenset[Pair], right: frozenset[Pair]) -> float | None:
    """0–5: F1 of the pairs of name and value, the category one of them; None where the right answer has none."""
    if not right:
        return None
    return LEVELS * 2 * len(given & right) / (len(given) + len(right))


def e2e_score(components: Sequence[float | None]) -> float:
    """0–5: the mean of the components that there are."""
    there = [one for one in components if one is not None]
    return math.fsum(there) / len(there)
