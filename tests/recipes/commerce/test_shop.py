"""The demo's shop: labels by construction, and shoppers whose purchases tell of their taste."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.commerce.catalogue import catalogue
from recipes.commerce.shop import (
    NUM_FAVOURITES,
    NUM_PURCHASES,
    NUM_SHOPPERS,
    DemoShop,
    favourites,
    formulated,
    purchases,
    shopper_of,
)
from recipes.commerce.task import rows
from sweeps.errors import InvalidInput
from sweeps.retrieving import Profiles

ROWS = [{**row, "id": str(at)} for at, row in enumerate(rows(80, seed=5))]
SHOP = DemoShop(Profiles())
ROWS_SHA256 = "436ce8aacf8a83cee37c64c00acefe970f0517beaa8b97c9098fda0f92bdf9b0"


def test_the_training_rows_are_what_they_were() -> None:
    """The shop adds nothing to them: the base that ships and stored results were made of these."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(50, seed=0))
    assert hashlib.sha256(text.encode()).hexdigest() == ROWS_SHA256


@pytest.mark.parametrize("row", ROWS[:20], ids=lambda row: row["id"])
def test_labels_are_graded_by_what_the_request_asks_for(row: dict[str, object]) -> None:
    request = row["request"]
    assert isinstance(request, dict)
    grades = SHOP.grades(row)
    assert len(grades) == len(catalogue())
    for product in catalogue():
        asked = product.category == request["category"] and product.gender == request["gender"]
        right = asked and product.attribute == request["attribute"]
        assert (grades[product.title] >= 1) == asked
        assert (grades[product.title] >= 2) == right
    best = [title for title, grade in grades.items() if grade == 3]
    if request["title"]:
        assert best == [request["title"]]


def test_the_query_is_the_shoppers_latest_turn_without_the_instructions() -> None:
    query = SHOP.query(ROWS[0])
    assert query in ROWS[0]["messages"][1]["content"]
    assert "Recommendation" not in query
    assert not query.startswith("User:")


def test_right_answers_are_read_as_the_request_behind_them() -> None:
    for row in ROWS:
        found = formulated(row["messages"][-1]["content"]["proposal"][0])
        request = row["request"]
        gender = {"gender": request["gender"]} if request["gender"] else {}
        assert found["category"] == request["category"]
        assert found["attributes"] == {**gender, "attribute": request["attribute"]}


def test_an_unknown_category_has_no_attribute() -> None:
    assert formulated({"category": "Whales", "products": ["Oak Whale"]})["attributes"] == {}


@given(st.integers(0, NUM_SHOPPERS - 1))
def test_shoppers_are_the_same_each_time_and_mostly_buy_what_they_like(shopper: int) -> None:
    liked = favourites(shopper)
    brands = {product.title: product.brand for product in catalogue()}
    bought = purchases(shopper)
    assert (len(liked), len(bought)) == (NUM_FAVOURITES, NUM_PURCHASES)
    assert sum(brands[title] in liked for title in bought) >= NUM_PURCHASES / 2


def test_the_profile_is_made_of_purchases_alone() -> None:
    row = ROWS[0]
    profile = SHOP.profile(row)
    assert profile is not None
    brands = {product.title: product.brand for product in catalogue()}
    bought = {brands[title] for title in purchases(shopper_of(row["request"]))}
    for product in SHOP.catalogue.products:
        assert (profile.affinity(product) > 0) == (product.fields["brand"] in bought)
    assert DemoShop(None).profile(row) is None


def test_rows_of_other_data_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match="the shop commerce is for the demo's data, but row '3' has the request None"
    ):
        SHOP.grades({"id": "3", "messages": []})
