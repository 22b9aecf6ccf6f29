"""What is read of answers: by expressions, by a function of one's own, and of the demo's proposals."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recipes.commerce.task import rows
from sweeps.errors import InvalidInput
from sweeps.retrieving import Pipeline
from tracking.meters.retrieval.formulation import NotFormulatedError, Query, formulation, without_products

OWN = {"catalogue": "products.csv", "labels": "labels.csv"}
FUNCTIONS = """\
def own(row, answer): return {"category": row["kind"], "products": answer.split(";")}
def text(row, answer): return answer
def nothing(row, answer): return None
def wrong(row, answer): return {"titles": answer}
def raises(row, answer): return row["orders"]
"""


def read(answer: Any, folder: Path = Path(), **block: Any) -> Query:
    settings = Pipeline.model_validate({**OWN, **block})
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return formulation(settings, folder)({"id": "7", "kind": "Tents"}, text)


def test_the_form_that_importers_write_needs_no_expressions() -> None:
    answer = {"category": "Tents", "attributes": {"Color": "Red", "size": 2}, "products": ["Oak Tent", "Elm Tent"]}
    found = read(answer)
    assert found.words == "Tents. Red. 2"
    assert found.products == ("Oak Tent", "Elm Tent")
    assert found.attributes == {("category", "tents"), ("color", "red"), ("size", "2")}
    assert found.texts == ("Tents. Red. 2", "Oak Tent", "Elm Tent")


def test_expressions_reach_into_an_answer() -> None:
    paths = {"category": "proposal[0].category", "attributes": None, "products": "proposal[0].products"}
    found = read({"proposal": [{"category": "Mugs", "products": ["Steel Mug"]}]}, formulation=paths)
    assert found == Query("Mugs", frozenset({("category", "mugs")}), ("Steel Mug",))


@pytest.mark.parametrize(
    ("attributes", "pairs"),
    [
        ({"color": ["red", "blue"]}, {("color", "red"), ("color", "blue")}),
        ([{"name": "color", "value": "red"}], {("color", "red")}),
        (["red", "wide"], {("", "red"), ("", "wide")}),
        ("red", {("", "red")}),
        ({"color": None}, set()),
    ],
)
def test_attributes_come_in_several_forms(attributes: Any, pairs: set[tuple[str, str]]) -> None:
    found = read({"attributes": attributes, "products": "x"})
    assert found.attributes == pairs


@pytest.mark.parametrize("answer", ["", "A tent!", "[]", "{}", '{"category": ""}', '{"products": []}', "NaN", '"tent"'])
def test_an_answer_without_anything_to_search_for_is_said_to_be_so(answer: str) -> None:
    with pytest.raises(NotFormulatedError):
        read(answer)


@given(
    st.text()
    | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_answer_breaks_the_reading_of_it(answer: Any) -> None:
    for block in (OWN, {"catalogue": "commerce"}):
        try:
            found = formulation(Pipeline.model_validate(block), Path())(
                {"id": "1"}, answer if isinstance(answer, str) else json.dumps(answer)
            )
        except NotFormulatedError:
            continue
        assert found.texts


def test_a_function_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTIONS, encoding="utf-8")

    def own(name: str) -> Query:
        return read("Oak Tent;Elm Tent", tmp_path, formulation=f"mine.py:{name}")

    assert own("own") == Query("Tents", frozenset({("category", "tents")}), ("Oak Tent", "Elm Tent"))
    assert own("text").products == ("Oak Tent;Elm Tent",)
    with pytest.raises(NotFormulatedError):
        own("nothing")
    with pytest.raises(InvalidInput, match="it must return category, attributes and products, a text, or None"):
        own("wrong")
    with pytest.raises(InvalidInput, match="row '7': it raised KeyError: 'orders'"):
        own("raises")


def test_the_demos_proposals() -> None:
    formulate = formulation(Pipeline(catalogue="commerce"), Path())
    row = rows(1, seed=2)[0]
    entry = row["messages"][-1]["content"]["proposal"][0]
    found = formulate(row, json.dumps(row["messages"][-1]["content"]))
    assert found.products == tuple(entry["products"])
    assert ("category", row["request"]["category"].casefold()) in found.attributes
    assert ("attribute", row["request"]["attribute"].casefold()) in found.attributes
    for broken in ("{}", '{"proposal": []}', '{"proposal": [{"category": 3}]}', '{"proposal": [[]]}', "no JSON"):
        with pytest.raises(NotFormulatedError):
            formulate(row, broken)


def test_gold_is_what_the_right_answer_says_but_its_products() -> None:
    assert without_products(Query("Tents. red", frozenset(), ("Oak Tent",))) == Query("Tents. red")
    assert without_products(Query("", frozenset(), ("Oak Tent",))).texts == ("Oak Tent",)


@pytest.mark.parametrize(
    ("block", "rule"),
    [
        ({**OWN, "formulation": "mine"}, "must be a block of JMESPath expressions or file.py:function"),
        ({**OWN, "formulation": {"category": None, "attributes": None, "products": None}}, "but all are null"),
        ({**OWN, "formulation": {"category": "a["}}, 'must be a JMESPath expression, but got "a\\["'),
        ({**OWN, "profiles": {}}, "profiles need a history"),
        ({"catalogue": "commerce", "profiles": {"history": "a.csv"}}, "profiles.history belong to a catalogue"),
        ({**OWN, "embedding": {"endpoint": "host", "model": "m"}}, "must be a URL"),
    ],
)
def test_a_block_that_cannot_be_meant_is_refused(block: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Pipeline.model_validate(block)


def test_a_block_survives_being_stored() -> None:
    for block in ({"catalogue": "commerce", "relevant": 2, "profiles": {}}, {**OWN, "embedding": "minilm"}):
        settings = Pipeline.model_validate(block)
        assert Pipeline.model_validate(settings.model_dump(mode="json")) == settings
        assert Pipeline.model_validate_json(settings.model_dump_json()) == settings
