"""Measures of lists against their definitions, and the components of the e2e score."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.meters.retrieval.scoring import attribute_extraction, e2e_score, hypothetical_product, list_measures

IDS = [f"p{number}" for number in range(30)]


def by_definition(ranked: list[str], grades: dict[str, int], relevant: int) -> dict[str, float]:
    """The measures, written out."""

    def dcg(gains: list[int]) -> float:
        return math.fsum(gain / math.log2(place + 2) for place, gain in enumerate(gains[:10]))

    gains = [grades.get(one, 0) for one in ranked]
    right = [one for one, grade in grades.items() if grade >= relevant]
    first = next((place for place, one in enumerate(ranked, start=1) if one in right), None)
    found = {
        "ndcg_at_10": dcg(gains) / dcg(sorted(grades.values(), reverse=True)),
        "recall_at_10": sum(one in right for one in ranked[:10]) / len(right),
        "mrr": 1 / first if first else 0.0,
    }
    if ranked:
        found["unjudged_at_10"] = sum(one not in grades for one in ranked[:10]) / len(ranked[:10])
    return found


@given(
    st.lists(st.sampled_from(IDS), unique=True),
    st.dictionaries(st.sampled_from(IDS), st.integers(0, 3), min_size=1),
    st.integers(1, 3),
)
def test_measures_are_those_of_the_definitions(ranked: list[str], grades: dict[str, int], relevant: int) -> None:
    if max(grades.values()) < relevant:
        grades["p0"] = relevant
    found = list_measures({"list": ranked, "empty": []}, grades, relevant)
    assert found["list"] == pytest.approx(by_definition(ranked, grades, relevant), abs=1e-6)
    assert found["empty"] == {"ndcg_at_10": 0.0, "recall_at_10": 0.0, "mrr": 0.0}, "no share of nothing is unjudged"


def test_hypothetical_products_are_worth_what_is_nearest_to_them() -> None:
    grades = {"a": 3, "b": 1, "c": 0}
    assert hypothetical_product(["a", "a"], grades, 2) == 5.0
    assert hypothetical_product(["a", "b", "c", "unjudged"], grades, 2) == pytest.approx(5 * (1 + 1 / 3) / 4)
    assert hypothetical_product(["a"], grades, 3) == pytest.approx(5 / 3), "those that are missing are worth nothing"
    assert hypothetical_product([], grades, 0) == 0.0


def test_extraction_is_the_f1_of_pairs() -> None:
    right = frozenset({("category", "tents"), ("color", "red")})
    assert attribute_extraction(right, right) == 5.0
    assert attribute_extraction(frozenset({("category", "tents")}), right) == pytest.approx(5 * 2 / 3)
    assert attribute_extraction(frozenset({("category", "mugs")}), right) == 0.0
    assert attribute_extraction(frozenset(), right) == 0.0
    assert attribute_extraction(frozenset(), frozenset()) is None, "there is nothing to extract"


@given(st.lists(st.none() | st.floats(0, 5), min_size=1).filter(any))
def test_the_score_is_the_mean_of_what_there_is(components: list[float | None]) -> None:
    there = [one for one in components if one is not None]
    assert e2e_score(components) == pytest.approx(sum(there) / len(there))
