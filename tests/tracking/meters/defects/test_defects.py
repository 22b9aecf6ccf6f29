"""Each defect: what it makes wrong, what it leaves, and that what plants it knows nothing of what scores."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tracking.meters.defects as package
from recipes.commerce.catalogue import titles
from recipes.commerce.task import rows
from sweeps.errors import InvalidInput
from sweeps.evaluating import BUILT_IN_DEFECTS
from tracking.meters.defects import BUILT_IN, load_defect

FOLDER = Path(str(package.__file__)).parent
MAY_IMPORT = (
    "recipes.commerce.catalogue",
    "recipes.commerce.task",
    "sweeps.errors",
    "sweeps.evaluating",
    "tracking.meters.defects",
    "tracking.meters.defects.generic",
    "tracking.meters.functions",
)
ROWS = [
    (
        {**{key: value for key, value in row.items() if key != "messages"}, "id": str(number)},
        row["messages"][-1]["content"],
    )
    for number, row in enumerate(rows(150, seed=11))
]
SHOP = ("swapped_gender", "gift_card", "missing_category", "invented_product", "padding")


def text_of(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def planted(name: str) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    """Row, right answer, planted answer, of every row that has a place for the defect."""
    made = [(row, right, BUILT_IN[name].plant(row, text_of(right))) for row, right in ROWS]
    return [(row, right, text) for row, right, text in made if text is not None]


def products(answer: dict[str, Any]) -> list[str]:
    return [title for entry in answer["proposal"] for title in entry["products"]]


def test_what_plants_shares_nothing_with_what_scores() -> None:
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                assert module in MAY_IMPORT or str(module).partition(".")[0] in sys.stdlib_module_names, (path, module)
    asked = "import sys, tracking.meters.defects; print(sorted(m for m in sys.modules if m.startswith('tracking')))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(ast.literal_eval(done.stdout))
    assert loaded <= {"tracking", "tracking.meters", *MAY_IMPORT, "tracking.meters.defects.shop"}, loaded


def test_the_sweep_knows_them_all() -> None:
    assert tuple(BUILT_IN) == BUILT_IN_DEFECTS


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_planted_answer_differs_and_is_always_the_same(name: str) -> None:
    found = planted(name)
    assert bool(found) == (name != "truncation")
    assert found == planted(name), "a judge is not paid twice"
    assert all(text != text_of(right) for _, right, text in found)
    if name != "swapped_gender":
        assert len(found) in (0, len(ROWS))


@pytest.mark.parametrize("name", [*SHOP, "missing_element"])
def test_it_stays_json_of_the_same_shape(name: str) -> None:
    for _, _, text in planted(name):
        for entry in json.loads(text)["proposal"]:
            assert set(entry) == {"category", "explanation", "products"}


def test_swapped_gender() -> None:
    found = planted("swapped_gender")
    assert len(found) == sum("en's" in text_of(right) for _, right in ROWS)
    for row, right, text in found:
        changed = [
            (before, after)
            for before, after in zip(right["proposal"], json.loads(text)["proposal"], strict=True)
            if before != after
        ]
        ((before, after),) = changed
        assert before["explanation"] == after["explanation"]
        other = "Women's" if row["request"]["gender"] == "men" else "Men's"
        assert after["category"].startswith(other)
        assert all(title.startswith(other) for title in after["products"])


def test_gift_card() -> None:
    for _, right, text in planted("gift_card"):
        lost, new = set(products(right)) - set(products(json.loads(text))), set(products(json.loads(text)))
        assert len(lost) <= 1
        assert len(new - set(products(right))) == 1
        assert "gift" in (new - set(products(right))).pop().casefold()


def test_missing_category() -> None:
    lost = set()
    for _, right, text in planted("missing_category"):
        (kept,) = json.loads(text)["proposal"]
        lost.add(right["proposal"].index(kept))
    assert lost == {0, 1}, "either of them"


def test_invented_product() -> None:
    for row, right, text in planted("invented_product"):
        before, after = products(right), products(json.loads(text))
        ((old, new),) = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert old in titles()
        assert new not in titles()
        assert old != row["request"]["title"], "the product that the shopper named stays"
        assert old.split()[-1] == new.split()[-1], "of the same kind"


def test_padding_of_proposals() -> None:
    kinds = set()
    for _, right, text in planted("padding"):
        answer = json.loads(text)
        longer = [
            len(after["explanation"]) - len(before["explanation"])
            for before, after in zip(right["proposal"], answer["proposal"], strict=True)
        ]
        more = len(products(answer)) - len(products(right))
        assert sorted([sum(longer) > 0, more > 0]) == [False, True]
        assert set(products(answer)) == set(products(right))
        kinds.add("products" if more else max(len(entry["explanation"]) for entry in answer["proposal"]) > 200)
    assert kinds == {"products", True, False}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def spaced(value: Any) -> list[str]:
    """A value as models write it: dense, wide, indented."""
    return [text_of(value), *(json.dumps(value, ensure_ascii=False, indent=indent) for indent in (None, 2, 4))]


def numbered(answer: str) -> dict[str, Any]:
    return {"id": str(len(answer)), "reference": answer}


@given(JSON.filter(lambda value: isinstance(value, dict | list)), st.booleans())
def test_any_json_can_break(value: Any, spaced: bool) -> None:
    answer = json.dumps(value) if spaced else text_of(value)
    broken = BUILT_IN["broken_json"].plant(numbered(answer), answer)
    assert broken is not None
    with pytest.raises(ValueError, match=r"."):
        json.loads(broken)


def sizes(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return (len(value) if isinstance(value, list) else 0) + sum(map(sizes, inner))


@given(JSON)
def test_a_list_can_lack_an_element(value: Any) -> None:
    answer = text_of(value)
    shorter = BUILT_IN["missing_element"].plant(numbered(answer), answer)
    if shorter is not None:
        assert sizes(json.loads(shorter)) < sizes(value)
        assert len(shorter) < len(answer)


@given(JSON | st.text())
@example([[], [], [], []])
def test_padding_says_more(value: Any) -> None:
    for answer in {*spaced(value), str(value)}:
        longer = BUILT_IN["padding"].plant(numbered(answer), answer)
        if longer is None:
            continue
        assert len(longer.rstrip()) > len(answer.rstrip())
        if isinstance(value, dict | list) and answer in spaced(value):
            assert type(json.loads(longer)) is type(value), "JSON stays JSON"
            assert longer in spaced(json.loads(longer)), "in the spacing it had"


@given(st.text())
def test_plain_text_can_end_too_soon(answer: str) -> None:
    cut = BUILT_IN["truncation"].plant(numbered(answer), answer)
    if cut is not None:
        assert answer.startswith(cut)
        assert len(cut) < len(answer)


@given(JSON | st.text(), st.fixed_dictionaries({}, optional={"request": JSON}))
def test_rows_of_other_data_have_no_place_for_the_shops_defects(value: Any, row: dict[str, Any]) -> None:
    for name in SHOP[:-1]:
        assert BUILT_IN[name].plant({"id": "1", **row}, text_of(value)) is None
        assert BUILT_IN[name].plant(row, str(value)) is None


def test_a_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def rude(row, answer):\n    return None if row['topic'] == 'none' else f'{answer} Go away.'\n"
    )
    defect = load_defect("mine.py:rude", tmp_path)
    assert defect.name == "rude"
    assert defect.plant({"id": "1", "topic": "t"}, "Yes.") == "Yes. Go away."
    assert defect.plant({"id": "1", "topic": "none"}, "Yes.") is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 3", "a defect returns the changed answer, or None, but got int: 3"),
        ("return {'answer': 'x'}", "a defect returns the changed answer, or None, but got dict"),
        ("return answer", "a defect returns the changed answer, but this is the right one as it was"),
        ("return row['nothing']", "it raised KeyError: 'nothing' (mine.py, line 2)"),
    ],
)
def test_a_users_own_that_fails_is_told_with_its_place(tmp_path: Path, body: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(f"def f(row, answer):\n    {body}\n")
    with pytest.raises(InvalidInput) as told:
        load_defect("mine.py:f", tmp_path).plant({"id": "row-7"}, "yes")
    assert str(told.value).startswith("evaluate.defects: ")
    assert f"mine.py:f, row 'row-7': {said}" in str(told.value)


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match='no defect is called "giftcard"'):
        load_defect("giftcard", tmp_path)
