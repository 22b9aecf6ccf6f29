"""The arms of retrieval from a real ledger with stored answers: figures, the report's drawing, and the table."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.champion import choose
from analysis.report import render
from analysis.retrieval import measured_arms, recomputed_arms, rows_of, settings_of
from recipes.commerce.task import rows
from sweeps.errors import InvalidInput
from tests.analysis.synthetic import FACTS, SPEC, synthetic
from tracking.ledger import FORMAT, Ledger, SweepState, read
from tracking.meters.metrics import Item
from tracking.meters.quality import score_answers
from tracking.meters.retrieval import open_pipeline

PIPELINE = {"catalogue": "commerce", "relevant": 2, "profiles": {}}
ITEMS = [
    Item(str(at), row["messages"][:-1], json.dumps(row["messages"][-1]["content"]), row | {"group": row["group"]})
    for at, row in enumerate(rows(30, seed=4))
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def pipelined(home: Path) -> SweepState:
    """A sweep of one trial that answers rightly, and a base that answers every second time."""
    folder = home / "runs" / "shop"
    spec = {**SPEC, "evaluate": {"pipeline": PIPELINE}, "champion": {"maximize": "e2e/score"}}
    recipe = {"data": {"group": "group"}}
    with Ledger(folder) as ledger:
        ledger.append("sweep", name="shop", format=FORMAT, spec=spec, recipe=recipe, facts={**FACTS, "base_dir": "."})
        ledger.append("trial", trial="a", number=0, values={"lora.rank": 8}, pool="cpu", max_steps=4)
        ledger.append("adapter", trial="a", folder="trials/a/adapter")
        for split in ("dev", "challenge"):
            for arm in ("base", "a"):
                answers = [item.reference if arm == "a" or at % 2 else "?" for at, item in enumerate(ITEMS)]
                result = score_answers(ITEMS, answers, [_opened(home)])
                name = f"evaluations/{arm}-{split}.jsonl"
                result.write_items(folder / name)
                detail: dict[str, Any] = {"pipeline": {"files": {}}}
                more: dict[str, Any] = {"n": result.n, "metrics": result.metrics, "items": name, "detail": detail}
                ledger.append("evaluation", id=f"{arm}-{split}", arm=arm, split=split, **more)
        ledger.append("state", trial="a", state="DONE")
        ledger.append("end", status="DONE")
    return read(folder)


def _opened(home: Path) -> Any:
    from sweeps.retrieving import Pipeline

    return open_pipeline(Pipeline.model_validate(PIPELINE), Path(), home / "cache")


def test_arms_go_from_the_shoppers_words_to_the_gold_attributes(pipelined: SweepState) -> None:
    arms = measured_arms(pipelined, "challenge")
    assert [(one.arm, one.kind) for one in arms] == [("raw", "raw"), ("base", "hyde"), ("a", "hyde"), ("gold", "gold")]
    figures = {one.arm: one.figures["retrieval/ndcg_at_10"] for one in arms}
    base, right = figures["base"], figures["a"]
    assert base.mean is not None
    assert right.mean is not None
    assert base.mean < right.mean
    assert all(one.n == 30 and one.low is not None and one.low <= one.mean <= one.high for one in figures.values())  # type: ignore[operator]
    assert arms[0].gain.mean == 0
    assert arms[1].gain.mean == pytest.approx(base.mean - (figures["raw"].mean or 0))
    assert arms[1].figures["retrieval/unjudged_at_10"].n == 15, "where nothing was found, no share of it is unjudged"


def test_searching_again_gives_what_was_measured(pipelined: SweepState, home: Path) -> None:
    settings, files = settings_of(pipelined)
    assert (settings.relevant, files) == (2, {})
    measured, again = measured_arms(pipelined, "dev"), recomputed_arms(pipelined, "dev", _opened(home))
    for one, other in zip(measured, again, strict=True):
        assert one.gain == other.gain
        assert one.figures.items() <= other.figures.items()
    assert {"retrieval/mrr", "retrieval/recall_at_10"} <= again[0].figures.keys()
    rows = rows_of(again, "tfidf")
    assert [row["label"] for row in rows] == [
        "The shopper's words",
        "Base model",
        "Champion (trial 0)",
        "Gold attributes",
    ]
    assert rows[2]["gain_low"] > 0


def test_the_report_draws_them(pipelined: SweepState) -> None:
    page = render(pipelined, choose(pipelined))
    assert 'id="figure-retrieval"' in page
    assert "What is found?" in page


def test_a_sweep_without_a_pipeline_has_no_section_and_says_so(tmp_path: Path) -> None:
    state = synthetic(tmp_path)
    assert "What is found?" not in render(state, choose(state))
    with pytest.raises(InvalidInput, match="shop has no pipeline, so nothing is retrieved"):
        settings_of(state)


def test_a_damaged_file_is_named_with_its_line(pipelined: SweepState, tmp_path: Path, home: Path) -> None:
    import shutil

    shutil.copytree(home / "runs" / "shop", tmp_path / "runs" / "shop")
    path = tmp_path / "runs" / "shop" / "evaluations" / "base-dev.jsonl"
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"line 30: .*every line must be an item with its answer"):
        measured_arms(read(tmp_path / "runs" / "shop"), "dev")
