"""The demo's preference pairs: right against wrong, apart from the demo's rows, and not told apart by their size."""

import json
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

import pytest

from recipes.commerce import pairs, task
from recipes.commerce.pairs import FAULTS
from recipes.compose import compose
from recipes.data.preferences import checked_pairs
from recipes.data.splits import load
from recipes.facts import recipe_facts
from recipes.schema import Data
from sweeps.errors import InvalidInput
from tracking.meters.metrics import Item, validator
from tracking.meters.shopping import shopping


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return checked_pairs(enumerate(pairs.rows(600, 3), start=1), "pairs")


def test_they_are_the_same_each_time_and_others_with_another_seed() -> None:
    assert pairs.rows(20, 3) == pairs.rows(40, 3)[:20]
    assert pairs.rows(20, 3) != pairs.rows(20, 4)


def test_the_right_answer_has_the_best_score_and_the_wrong_one_a_lower(found: list[dict[str, Any]]) -> None:
    """By the meter of the demo, which shares nothing with the faults. It does not read explanations."""
    worse = dict.fromkeys(FAULTS, 0)
    for row in found:
        rest = {key: row[key] for key in ("request", "group")}
        item = Item("1", row["messages"][:-1], row["messages"][-1]["content"], rest)
        best = shopping(item, item.reference)["quality/score"]
        assert best == 5.0
        worse[row["fault"]] += shopping(item, row["rejected"])["quality/score"] < best
    total = {name: sum(row["fault"] == name for row in found) for name in FAULTS}
    assert min(total.values()) > 20, total
    blind = {name for name in FAULTS if worse[name] < total[name]}
    assert blind <= {"repeated_generic", "vague_explanation", "third_category", "wrong_companion"}, (worse, total)


def test_neither_length_nor_the_number_of_categories_tells_them_apart(found: list[dict[str, Any]]) -> None:
    chosen = [len(row["messages"][-1]["content"]) for row in found]
    rejected = sorted(len(row["rejected"]) for row in found)
    below = sum((bisect_left(rejected, one) + bisect_right(rejected, one)) / 2 for one in chosen)
    assert 0.45 < below / len(chosen) / len(rejected) < 0.55, "the area under the ROC curve of the length"
    counts = [len(json.loads(row["rejected"])["proposal"]) for row in found]
    assert abs(counts.count(1) - counts.count(3)) <= 5
    assert counts.count(2) > 0.7 * len(counts)


def test_wrong_answers_keep_the_form(found: list[dict[str, Any]]) -> None:
    valid = validator(task.PROPOSAL_SCHEMA)
    assert all(valid(json.loads(row["rejected"])) for row in found)


def test_no_prompt_is_one_of_the_demos_rows_and_groups_are_on_the_same_side() -> None:
    def data(name: Any) -> Data:
        return Data(builtin=name, rows=3000, seed=5, group="group")

    rows, both = load(data("commerce"), Path()), load(data("commerce_pairs"), Path(), method="dpo")

    def of(sides: Any, key: Any) -> dict[str, set[str]]:
        return {side: {key(row) for row in members} for side, members in sides.rows.items()}

    prompts = of(rows, lambda row: row["messages"][1]["content"])
    asked = of(both, lambda row: row["messages"][1]["content"])
    assert not set[str]().union(*prompts.values()) & set[str]().union(*asked.values())
    groups, paired = of(rows, lambda row: row["group"]), of(both, lambda row: row["group"])
    for side in ("validation", "dev", "challenge"):
        assert not groups[side] & paired["train"], side


def test_a_recipe_of_method_dpo_reads_them_and_any_other_is_refused() -> None:
    settings = {**compose("tiny_commerce_sft"), "method": "dpo"}
    settings["data"] = {**settings["data"], "builtin": "commerce_pairs", "rows": 200}
    facts, rows = recipe_facts(settings, Path())
    assert facts.train_rows == len(rows.rows["train"]) > 100
    assert all(row["rejected"] for row in rows.rows["train"])
    with pytest.raises(InvalidInput, match="builtin commerce_pairs: a preference pair, but method sft"):
        recipe_facts({**settings, "method": "sft"}, Path())
    settings["data"]["builtin"] = "commerce"
    with pytest.raises(InvalidInput, match="builtin commerce: a row of one answer, but method dpo"):
        recipe_facts(settings, Path())
