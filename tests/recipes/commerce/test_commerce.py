"""The demo's shop, its task and the text that its base has read."""

import itertools
import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from recipes.bases import BUILTIN
from recipes.commerce import corpus, task
from recipes.commerce.catalogue import CATEGORIES, CATEGORY, catalogue, titles
from recipes.compose import compose
from recipes.data.rows import canonical, to_chat
from tracking.meters.metrics import Item
from tracking.meters.shopping import shopping

ROWS = task.rows(300, seed=0)


@pytest.fixture(scope="module")
def lengths() -> dict[str, list[int]]:
    """Tokens of each message of each row, by role, with the turn's header and end."""
    tokenizer = Tokenizer.from_file(str(BUILTIN["builtin:tiny_commerce"] / "tokenizer.json"))
    by_role: dict[str, list[int]] = {"system": [], "user": [], "assistant": []}
    for row in ROWS:
        for message in row["messages"]:
            turn = f"<|start_header_id|>{message['role']}<|end_header_id|>\n\n{canonical(message['content'])}<|eot_id|>"
            by_role[message["role"]].append(len(tokenizer.encode(turn, add_special_tokens=False).ids))
    return by_role


def test_the_shop_is_large_and_its_titles_are_distinct() -> None:
    products = catalogue()
    assert len(products) >= 2000
    assert len(titles()) == len(products)
    assert len({product.category for product in products}) == len(CATEGORIES) >= 30
    for product in products:
        low, high = CATEGORY[product.category].price
        assert low - 1 <= product.price_usd <= high


def test_every_category_goes_with_another_that_exists() -> None:
    for category in CATEGORIES:
        assert category.goes_with in CATEGORY
        assert category.goes_with != category.name


def test_the_same_seed_gives_the_same_shop_and_the_same_rows() -> None:
    assert catalogue.__wrapped__(0) == catalogue(0)
    assert catalogue(1) != catalogue(0)
    assert task.rows(300, seed=0) == ROWS
    assert task.rows(20, seed=0) == ROWS[:20], "more rows begin with the old ones"
    assert task.rows(20, seed=1) != ROWS[:20]


def test_every_right_answer_scores_five() -> None:
    for number, row in enumerate(ROWS):
        item = Item(str(number), row["messages"][:-1], canonical(row["messages"][-1]["content"]), row)
        scores = shopping(item, canonical(row["messages"][-1]["content"]))
        assert scores["quality/score"] == 5
        assert set(scores.values()) == {5.0, 1.0}


def test_rows_are_distinct_and_in_the_common_form() -> None:
    prompts = {json.dumps(row["messages"][:-1]) for row in ROWS}
    assert len(prompts) == len(ROWS)
    for row in ROWS:
        chat = to_chat(row)["messages"]
        assert [message["role"] for message in chat] == ["system", "user", "assistant"]
        assert chat[0]["content"] == task.SYSTEM_PROMPT
        assert json.loads(chat[2]["content"]) == row["messages"][2]["content"]


def test_the_conversation_says_what_the_answer_needs() -> None:
    for row in ROWS:
        request, said = row["request"], row["messages"][1]["content"]
        assert request["attribute"].lower() in said
        assert request["category"].lower() in said
        assert request["occasion"] in said
        assert request["title"] is None or request["title"] in said


def test_a_group_is_one_wish_so_that_paraphrases_stay_on_one_side() -> None:
    wishes: dict[str, set[Any]] = {}
    for row in ROWS:
        request = {key: value for key, value in row["request"].items() if key != "title"}
        wishes.setdefault(row["group"], set()).add(tuple(request.values()))
    assert all(len(wish) == 1 for wish in wishes.values())


def test_rows_fit_the_recipe_and_share_about_half_of_their_tokens(lengths: dict[str, list[int]]) -> None:
    rows = [sum(turns) + 1 for turns in zip(*lengths.values())]
    assert max(rows) <= compose("tiny_commerce_sft")["data"]["max_tokens"] == 512
    shared = lengths["system"][0]
    assert set(lengths["system"]) == {shared}
    own = sum(rows) / len(rows) - shared
    assert 0.9 <= shared / own <= 1.3


def test_an_answer_fits_what_the_recipe_lets_a_model_say(lengths: dict[str, list[int]]) -> None:
    assert max(lengths["assistant"]) <= compose("tiny_commerce_sft")["generate"]["max_new_tokens"]


def test_a_single_query_becomes_a_prompt_of_the_same_form() -> None:
    prompt = task.prompt_of("waterproof tents")
    assert prompt[0] == ROWS[0]["messages"][0]
    assert prompt[1]["content"] == f"### Conversation\nUser: waterproof tents\n{task.CLOSING}"


def documents(number: int, seed: int = 0) -> list[str]:
    corpus._request_stream.cache_clear()  # one stream of shoppers for all documents of a process
    return list(itertools.islice(corpus.documents(seed), number))


def test_the_base_has_never_read_a_proposal() -> None:
    text = "\n".join(documents(3000))
    squeezed = text.replace(" ", "")
    assert '{"proposal":' not in squeezed
    assert '"products":' not in squeezed
    assert '"explanation":' not in squeezed
    for row in ROWS:
        assert canonical(row["messages"][2]["content"]) not in text


def test_the_base_has_read_of_every_category_and_every_kind() -> None:
    text = "\n".join(documents(3000))
    assert all(category.name.lower() in text for category in CATEGORIES)
    for mark in ("Repeat.", "Repeat as JSON.", "Write as JSON.", "### Conversation", "go well with", "price $"):
        assert mark in text


def test_the_corpus_is_the_same_for_the_same_seed() -> None:
    assert documents(200) == documents(200)
    assert documents(200, seed=1) != documents(200)


def test_what_is_written_reads_back(tmp_path: Any) -> None:
    path = tmp_path / "rows.jsonl"
    task.write(str(path), 5)
    assert [json.loads(line) for line in path.read_text().splitlines()] == ROWS[:5]
