"""The demo's pipeline over real answers: scores, arms, profiles, times, and what cannot be searched for."""

import json
from pathlib import Path
from typing import Any

import pytest

from recipes.commerce.task import rows
from sweeps.errors import InvalidInput
from sweeps.retrieving import Pipeline
from tracking.meters.latency.stages import Stage, measure_stages
from tracking.meters.metrics import Item, row_of
from tracking.meters.quality import score_answers
from tracking.meters.retrieval import SearchStages, ShoppingPipeline, open_pipeline
from tracking.meters.retrieval.rehearsal import rehearse_pipeline

ROWS = rows(24, seed=11)
ITEMS = [
    Item(str(at), row["messages"][:-1], json.dumps(row["messages"][-1]["content"]), {"request": row["request"]})
    for at, row in enumerate(ROWS)
]
RIGHT = [item.reference for item in ITEMS]
DEMO = Pipeline.model_validate({"catalogue": "commerce", "relevant": 2, "profiles": {}})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pipeline(cache: Path) -> ShoppingPipeline:
    return open_pipeline(DEMO, Path(), cache)


def mean(values: list[dict[str, float]], name: str) -> float:
    return sum(one[name] for one in values) / len(values)


def test_right_answers_find_more_than_the_shoppers_words(pipeline: ShoppingPipeline) -> None:
    found = [pipeline(item, answer) for item, answer in zip(ITEMS, RIGHT, strict=True)]
    assert mean(found, "e2e/attribute_extraction") == 5.0
    assert mean(found, "retrieval/formulated") == 1.0
    assert mean(found, "retrieval/unjudged_at_10") == 0.0, "every product of the demo is judged"
    assert mean(found, "retrieval/ndcg_at_10") > mean(found, "retrieval/ndcg_at_10_raw") + 0.05
    assert mean(found, "retrieval/ndcg_at_10_gold") > mean(found, "retrieval/ndcg_at_10_raw") + 0.05
    assert mean(found, "e2e/score") > mean(found, "e2e/score_raw") + 1
    for one in found:
        parts = ("e2e/hypothetical_product", "e2e/attribute_extraction", "e2e/recommendation")
        assert one["e2e/score"] == pytest.approx(sum(one[name] for name in parts) / 3)
        assert all(0 <= value <= 5 for value in one.values())


def test_the_arms_beside_do_not_depend_on_the_answer(pipeline: ShoppingPipeline) -> None:
    for answer in (RIGHT[0], RIGHT[1], "no JSON"):
        found = pipeline.measure(ITEMS[0], answer)
        assert found["raw"] == pipeline.measure(ITEMS[0], RIGHT[0])["raw"]
        assert found["gold"] == pipeline.measure(ITEMS[0], RIGHT[0])["gold"]


@pytest.mark.parametrize("answer", ["", "Sandals!", "{}", '{"proposal": []}', '{"proposal": [{"category": "Tents"}]}'])
def test_an_answer_that_says_nothing_finds_nothing_and_is_counted(pipeline: ShoppingPipeline, answer: str) -> None:
    found = pipeline(ITEMS[0], answer)
    assert found["retrieval/formulated"] == 0.0
    assert "retrieval/unjudged_at_10" not in found, "no share of nothing"
    assert {found[name] for name in ("retrieval/ndcg_at_10", "retrieval/mrr", "e2e/score")} == {0.0}


def test_another_category_is_worth_less_in_every_component(pipeline: ShoppingPipeline) -> None:
    other = next(at for at, row in enumerate(ROWS) if row["request"]["category"] != ROWS[0]["request"]["category"])
    wrong, right = pipeline(ITEMS[0], RIGHT[other]), pipeline(ITEMS[0], RIGHT[0])
    for name in ("retrieval/ndcg_at_10", "e2e/hypothetical_product", "e2e/attribute_extraction", "e2e/recommendation"):
        assert wrong[name] < right[name]


def test_what_a_shopper_bought_moves_up_what_it_likes(pipeline: ShoppingPipeline, cache: Path) -> None:
    without = open_pipeline(DEMO.model_copy(update={"profiles": None}), Path(), cache)
    with_it = [pipeline.measure(item, item.reference)["gold"] for item in ITEMS]
    plain = [without.measure(item, item.reference)["gold"] for item in ITEMS]
    assert mean(with_it, "retrieval/ndcg_at_10") == mean(plain, "retrieval/ndcg_at_10"), "retrieval knows no shopper"
    assert mean(with_it, "e2e/recommendation") > mean(plain, "e2e/recommendation")


def test_an_agent_searches_for_the_shoppers_words_where_the_answer_cannot_be_read(pipeline: ShoppingPipeline) -> None:
    answers = {item.id: answer for item, answer in zip(ITEMS[:3], ["no JSON", *RIGHT[1:3]], strict=True)}
    search = SearchStages(pipeline)
    stages: dict[str, Stage] = {"formulation": lambda item, _: answers[item.id], **search.stages}
    measured = measure_stages(stages, ITEMS[:3], requests=90)
    assert search.own_words == {ITEMS[0].id}
    p95 = {stage: measured.metrics[f"latency/{stage}_p95_s"] for stage in (*stages, "agent")}
    assert all(value is not None and value > 0 for value in p95.values())
    assert measured.detail["num_errors"] == 0
    ranked = search.stages["ranking"](ITEMS[1], search.stages["retrieval"](ITEMS[1], RIGHT[1]))
    right = pipeline.formulate(row_of(ITEMS[1]), RIGHT[1])
    assert ranked == pipeline.recommend(right, pipeline.shop.profile(row_of(ITEMS[1]))).ranked, (
        "what is timed is what is scored"
    )


def test_it_is_a_metric_of_an_evaluation(pipeline: ShoppingPipeline) -> None:
    result = score_answers(ITEMS[:4], [*RIGHT[:3], "no JSON"], [pipeline])
    assert result.metrics["retrieval/formulated"] == 0.75
    assert result.counts == {"retrieval/unjudged_at_10": 3}
    assert result.missing == {}
    assert result.per_item[3]["metrics"]["e2e/score"] == 0.0


def tables(folder: Path) -> Pipeline:
    (folder / "products.csv").write_text("id,title\na,Oak Tent\nb,Pine Tent\nc,Steel Mug\n", encoding="utf-8")
    (folder / "labels.csv").write_text("query,product,grade\n1,a,2\n1,c,0\n2,c,1\n", encoding="utf-8")
    return Pipeline.model_validate({"catalogue": "products.csv", "labels": "labels.csv", "relevant": 2})


def item(number: int, answer: Any) -> Item:
    return Item(str(number), [{"role": "user", "content": "a tent"}], json.dumps(answer))


def test_a_catalogue_of_ones_own(tmp_path: Path) -> None:
    opened = open_pipeline(tables(tmp_path), tmp_path, tmp_path / "cache")
    right = {"category": "Tent", "products": ["Oak Tent"]}
    found = opened(item(1, right), json.dumps(right))
    assert found["retrieval/ndcg_at_10"] == 1.0
    assert found["retrieval/unjudged_at_10"] == pytest.approx(1 / 3)
    assert found["e2e/score"] == 5.0


def test_a_row_without_a_relevant_product_is_missing_and_told_before_the_sweep(tmp_path: Path) -> None:
    settings, right = tables(tmp_path), {"products": ["Oak Tent"]}
    opened = open_pipeline(settings, tmp_path, tmp_path / "cache")
    result = score_answers([item(1, right), item(2, right)], [json.dumps(right)] * 2, [opened], max_missing=0.5)
    assert result.missing["e2e/score"] == 1
    assert result.per_item[1]["metrics"]["e2e/score"] is None
    assert "no product of grade 2 or more" in result.errors[0]["first"]
    with pytest.raises(InvalidInput, match="row '2' has no product of grade 2 or more") as caught:
        rehearse_pipeline(settings, tmp_path, tmp_path / "cache", [item(2, right)] * 9)
    assert str(caught.value).endswith("and 4 more")


def test_a_table_that_is_corrected_is_read_again_and_one_that_changes_under_a_sweep_is_refused(tmp_path: Path) -> None:
    settings = tables(tmp_path)
    first = open_pipeline(settings, tmp_path, tmp_path / "cache")
    assert open_pipeline(settings, tmp_path, tmp_path / "cache") is first
    (tmp_path / "products.csv").write_text("id,title\na,Oak Tent\nb,Elm Tent\nc,Mug\n", encoding="utf-8")
    assert open_pipeline(settings, tmp_path, tmp_path / "cache").shop.catalogue.products[1].text == "Elm Tent"
    with pytest.raises(InvalidInput, match=r"products\.csv has changed since the sweep began"):
        open_pipeline(settings, tmp_path, tmp_path / "cache", {"catalogue": "0" * 64})
