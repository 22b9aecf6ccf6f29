"""The demo's rubric, level by level, on real rows of the task."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.commerce.catalogue import titles
from recipes.commerce.task import rows
from sweeps.errors import InvalidInput
from tracking.meters.metrics import Item, load_metric
from tracking.meters.shopping import LEVELS, shopping

ROWS = rows(60, seed=3)
GENDERED = next(row for row in ROWS if row["request"]["gender"] == "men")
NEUTRAL = next(row for row in ROWS if row["request"]["gender"] is None)
NAMED = next(row for row in ROWS if row["request"]["title"])


def item_of(row: dict[str, Any]) -> Item:
    return Item("1", row["messages"][:-1], json.dumps(row["messages"][-1]["content"]), row)


def right(row: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(row["messages"][-1]["content"])


def scored(row: dict[str, Any], answer: Any) -> dict[str, float]:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return {key.removeprefix("quality/"): value for key, value in shopping(item_of(row), text).items()}


def test_every_right_answer_has_five() -> None:
    assert len(LEVELS) == 6
    for row in ROWS:
        scores = scored(row, right(row))
        assert scores.pop("score") == 5
        assert set(scores.values()) == {1.0}
        assert ("title" in scores) == bool(row["request"]["title"])


@pytest.mark.parametrize(
    "answer", ["", "Sandals!", "{}", '{"proposal": []}', '{"proposal": [{"category": "Sandals"}]}']
)
def test_0_no_proposal(answer: str) -> None:
    assert set(scored(GENDERED, answer).values()) == {0.0}


def test_1_wrong_numbers_or_a_gift_card() -> None:
    one_category = right(GENDERED)
    del one_category["proposal"][1]
    assert scored(GENDERED, one_category)["score"] == 1
    few_products = right(GENDERED)
    few_products["proposal"][1]["products"].pop()
    assert scored(GENDERED, few_products)["score"] == 1
    many_products = right(GENDERED)
    many_products["proposal"][0]["products"].append("Another")
    assert scored(GENDERED, many_products)["score"] == 1
    gift_card = right(GENDERED)
    gift_card["proposal"][1]["products"][-1] = "A Gift Card"
    scores = scored(GENDERED, gift_card)
    assert (scores["score"], scores["no_gift_card"], scores["json_valid"]) == (1, 0, 1)


def test_2_right_numbers_but_another_category_or_gender() -> None:
    swapped = right(GENDERED)
    swapped["proposal"].reverse()
    assert scored(GENDERED, swapped)["score"] == 2
    other_gender = json.loads(json.dumps(right(GENDERED)).replace("Men's", "Women's"))
    scores = scored(GENDERED, other_gender)
    assert scores["score"] == 2
    assert scores["categories"] == 1, "the categories are right, whatever their gender"
    assert scores["gender"] < 1
    one_product = right(GENDERED)
    one_product["proposal"][1]["products"][-1] = "Women's cotton jeans"
    assert scored(GENDERED, one_product)["score"] == 2
    unlabelled = right(GENDERED)
    unlabelled["proposal"][0]["category"] = GENDERED["request"]["category"]
    assert scored(GENDERED, unlabelled)["score"] == 2


def test_a_gender_where_there_is_none_is_wrong() -> None:
    gendered = right(NEUTRAL)
    gendered["proposal"][0]["products"][-1] = "Men's " + gendered["proposal"][0]["products"][-1]
    assert scored(NEUTRAL, gendered)["score"] == 2


def test_3_right_category_but_not_the_attribute_or_the_title() -> None:
    answer = right(GENDERED)
    answer["proposal"][0]["products"][-1] = "Men's shiny things"
    scores = scored(GENDERED, answer)
    assert scores["score"] == 3
    assert scores["attributes"] == pytest.approx(2 / 3)
    late_title = right(NAMED)
    first = late_title["proposal"][0]["products"]
    first[0], first[1] = first[1], first[0]
    scores = scored(NAMED, late_title)
    assert (scores["score"], scores["title"], scores["attributes"]) == (3, 0, 1)


def test_4_a_specific_product_that_does_not_exist() -> None:
    answer = right(GENDERED)
    attribute = GENDERED["request"]["attribute"]
    answer["proposal"][1]["products"][0] = "Nonesuch Nothing"
    scores = scored(GENDERED, answer)
    assert (scores["score"], scores["exists"]) == (4, 0.75)
    answer["proposal"][0]["products"][1] = f"Men's Nonesuch {attribute} Thing"
    if not GENDERED["request"]["title"]:
        assert scored(GENDERED, answer)["exists"] == 0.5
    assert "Nonesuch Nothing" not in titles()


def test_a_row_of_other_data_is_refused() -> None:
    with pytest.raises(InvalidInput, match="row '9' has the request None"):
        shopping(Item("9", [], "{}", {}), "{}")


PRODUCTS = st.lists(st.sampled_from([*sorted(titles())[:9], "gift card", "Men's x"]), min_size=1, max_size=6)
ENTRIES = st.fixed_dictionaries(
    {"category": st.sampled_from(["Men's Sandals", "Tents"]), "explanation": st.just("So."), "products": PRODUCTS}
)


@given(st.sampled_from(ROWS), st.fixed_dictionaries({"proposal": st.lists(ENTRIES, min_size=1, max_size=4)}))
def test_parts_are_shares_and_the_score_follows_from_them(row: dict[str, Any], answer: dict[str, Any]) -> None:
    scores = scored(row, answer)
    score = scores.pop("score")
    assert 1 <= score <= 5
    assert all(0 <= value <= 1 for value in scores.values())
    assert score < 2 or scores["no_gift_card"] == 1
    assert score < 3 or scores["gender"] == 1
    assert score < 4 or scores["attributes"] == 1
    assert score < 5 or scores["exists"] == 1


def test_it_loads_by_name_without_torch(tmp_path: Any) -> None:
    assert load_metric("shopping", tmp_path) is shopping


def test_4_and_no_more_where_a_product_is_repeated() -> None:
    the_same_twice = right(GENDERED)
    first, _, generic = the_same_twice["proposal"][0]["products"]
    the_same_twice["proposal"][0]["products"] = [first, first, generic]
    assert scored(GENDERED, the_same_twice)["score"] == 4
