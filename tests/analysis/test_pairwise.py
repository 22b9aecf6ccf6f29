"""Arms in pairs: who wins, at what strength, what gates decide, and when what came out no longer stands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.answers import find_arms, read_answers
from analysis.certificate import certificate
from analysis.champion import choose
from analysis.claims import check_page
from analysis.pairwise import FILE, compare, num_to_ask, read_pairwise, usual_arms, usual_split
from analysis.report import render
from sweeps.errors import InvalidInput
from tests.tracking.meters.judge.answered import answered_sweep, settings, write_answers
from tests.tracking.meters.judge.serving import Endpoint, verdict
from tests.tracking.meters.judge.test_pairwise import longer, shown
from tracking.ledger import Ledger, SweepState, read
from tracking.meters.judge import judge_of
from tracking.meters.judge.judged import read_pairs

WORDS = ["one", "two", "six", "ten"] * 3


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Prefers the longer answer; of those that are as long, the one that stands first."""

    def reply(body: dict[str, Any]) -> tuple[int, str]:
        first, second = shown(body)["first"], shown(body)["second"]
        return verdict("first") if len(first) == len(second) else longer(body)

    served = Endpoint(reply)
    yield served
    served.close()


def compared(state: SweepState, *arms: str, split: str = "challenge") -> dict[str, Any]:
    judge = judge_of(state.spec["evaluate"]["judge"], state.folder.parents[1] / "cache" / "judge")
    return compare(state, read_answers(state, arms, split), judge, lambda text: None)


def long(text: str, by: int = 1) -> str:
    return text + "!" * by


def test_strengths_pairs_and_the_share_won_against_the_base(endpoint: Endpoint, tmp_path: Path) -> None:
    better = [long(word, 2) for word in WORDS]
    mixed = [long(word) if place < 6 else word[:1] for place, word in enumerate(WORDS)]
    answers = {("t-a", "challenge"): better, ("t-b", "challenge"): mixed, ("base", "challenge"): WORDS}
    state = answered_sweep(tmp_path, settings(endpoint.url), answers)
    found = compared(state, "t-a", "t-b", "base")
    assert found["n"] == found["num_clusters"] == 12
    assert (found["num_comparisons"], found["num_missing"], found["flip_rate"]) == (36, 0, 0.0)
    assert len(endpoint.requests) == 2 * 36, "both orders of every pair"
    by_pair = {(one["first"], one["second"]): one for one in found["pairs"]}
    counted = {pair: (one["wins"], one["losses"], one["ties"]) for pair, one in by_pair.items()}
    assert counted == {("t-a", "t-b"): (12, 0, 0), ("t-a", "base"): (12, 0, 0), ("t-b", "base"): (6, 6, 0)}
    first, *others = found["arms"]
    assert first["arm"] == "t-a"
    assert first["strength"] > 0.8 > max(one["strength"] for one in others)
    assert first["interval"][0] <= first["strength"] <= first["interval"][1]
    rates = {one["arm"]: one["quality/win_rate"] for one in found["arms"]}
    assert rates["base"] is None
    assert rates["t-a"] == {"value": 1.0, "interval": None, "n": 12, "against": "base"}, "no item disagrees"
    assert rates["t-b"]["value"] == 0.5
    assert 0 <= rates["t-b"]["interval"][0] < 0.5 < rates["t-b"]["interval"][1] <= 1
    assert found["tokens"] == 72 * 110
    assert found["usd"] == pytest.approx(72 * 3e-4)
    assert json.loads((state.folder / FILE).read_text()) == found == read_pairwise(state)


def test_a_verdict_that_changes_with_the_order_is_a_tie_and_shown(endpoint: Endpoint, tmp_path: Path) -> None:
    answers = {("t-a", "dev"): ["red", "same", "lamp"], ("base", "dev"): ["hat", "same", "bag"]}
    found = compared(answered_sweep(tmp_path, settings(endpoint.url), answers), "t-a", "base", split="dev")
    [pair] = found["pairs"]
    assert (pair["wins"], pair["ties"], pair["flips"], pair["identical"]) == (1, 2, 1, 1)
    assert pair["flip_rate"] == found["flip_rate"] == 0.5, "a pair of equal answers was asked of nobody"
    assert found["arms"][0]["interval"] is None, "three items are too few"
    [flip] = [one for one in read_pairs(tmp_path / "runs" / "shop", "dev") if one.comparison.flipped]
    assert (flip.item, flip.arm_a, flip.arm_b, flip.answer_a) == ("i0", "t-a", "base", "red")


def test_gates_come_before_the_judge(endpoint: Endpoint, tmp_path: Path) -> None:
    answers = {("t-a", "dev"): ["a", "a", "a", "aa"], ("base", "dev"): ["bbb", "bbb", "bbb", "b"]}
    gates: dict[str, dict[int, float | None]] = {"t-a": {2: 0.0}, "base": {0: 0.0, 1: None, 2: 0.0}}
    state = answered_sweep(tmp_path, settings(endpoint.url), answers, gates=gates)
    found = compared(state, "t-a", "base", split="dev")
    [pair] = found["pairs"]
    assert (pair["wins"], pair["losses"], pair["ties"], pair["missing"], pair["by_gate"]) == (2, 0, 1, 1, 3)
    assert (found["num_missing"], found["first_error"]) == (1, "a gate gave no answer")
    assert len(endpoint.requests) == 2


def test_items_of_one_group_are_drawn_together(endpoint: Endpoint, tmp_path: Path) -> None:
    answers = {("t-a", "dev"): [long(word) for word in WORDS], ("base", "dev"): WORDS}
    state = answered_sweep(tmp_path, settings(endpoint.url), answers, group="shopper")
    found = compared(state, "t-a", "base", split="dev")
    assert (found["n"], found["num_clusters"]) == (12, 6)
    assert found["arms"][0]["interval"] is None, "six shoppers are too few, twelve items would not be"


def test_only_what_all_were_asked_is_compared(endpoint: Endpoint, tmp_path: Path) -> None:
    answers = {("t-a", "dev"): ["aa", "aa", "aa"], ("base", "dev"): ["b", "b"]}
    state = answered_sweep(tmp_path, settings(endpoint.url), answers)
    assert read_answers(state, ("t-a", "base"), "dev").items[-1].id == "i1"
    path = state.folder / "evaluations" / "base-dev.jsonl"
    path.write_text(path.read_text().replace("Question", "Another question"))
    with pytest.raises(InvalidInput, match="trial 0, the base have no item of the dev set in common"):
        read_answers(state, ("t-a", "base"), "dev")
    path.write_text('{"id": "i0"}\n')
    with pytest.raises(InvalidInput, match=r"line 1: .*base-dev\.jsonl: every line must be an item with its answer"):
        read_answers(state, ("t-a", "base"), "dev")


def test_what_was_paid_is_asked_for_no_more(endpoint: Endpoint, tmp_path: Path) -> None:
    answers = {("t-a", "dev"): ["aa", "aaa"], ("base", "dev"): ["b", "b"]}
    state = answered_sweep(tmp_path, settings(endpoint.url), answers)
    judge = judge_of(state.spec["evaluate"]["judge"], tmp_path / "cache" / "judge")
    both = read_answers(state, ("t-a", "base"), "dev")
    assert num_to_ask(both, judge) == 4
    compared(state, "t-a", "base", split="dev")
    assert num_to_ask(both, judge) == 0
    again = compared(state, "t-a", "base", split="dev")
    assert len(endpoint.requests) == 4
    assert (again["cached"], again["tokens"], again["usd"]) == (1.0, 0, 0)
    assert again["usd_saved"] == pytest.approx(4 * 3e-4)


def test_whose_answers_are_compared_unless_it_is_said(tmp_path: Path) -> None:
    answers = {
        (f"t-{arm}", split): ["x" * size] for split in ("dev", "challenge") for size, arm in enumerate("abcd", 1)
    }
    answers |= {("base", "dev"): ["x"], ("base", "challenge"): ["x"]}
    state = answered_sweep(tmp_path / "before", None, answers)
    assert usual_split(state) == "dev"
    assert usual_arms(state, "dev") == ("t-d", "t-c", "t-b", "base"), "the best three on dev"
    decided = answered_sweep(tmp_path / "after", None, answers, (["t-a", "t-d"], ["incumbent", "base"]))
    assert usual_split(decided) == "challenge"
    assert usual_arms(decided, "challenge") == ("t-a", "t-d", "base"), "the incumbent has left no answers"


def test_arms_by_number_id_its_beginning_and_name(tmp_path: Path) -> None:
    answers = {(arm, "dev"): ["x"] for arm in ("t-aa", "t-ab", "base", "incumbent")}
    state = answered_sweep(tmp_path, None, answers)
    assert find_arms(state, ["1", "t-aa", "incumbent", "t-ab"]) == ("t-ab", "t-aa", "incumbent")
    with pytest.raises(InvalidInput) as wrong:
        find_arms(state, ["t-a", "bsae", "7"])
    told = str(wrong.value)
    assert '"t-a" may be any of t-aa, t-ab (give the whole id)' in told
    assert 'no arm of shop is called "bsae" (did you mean "base"?)' in told
    assert 'no arm of shop is called "7" (valid: base, incumbent, 0, 1, t-aa, t-ab)' in told


def test_the_report_and_the_certificate_show_it(endpoint: Endpoint, tmp_path: Path) -> None:
    answers = {("t-a", "dev"): [long(word) for word in WORDS], ("base", "dev"): WORDS}
    state = answered_sweep(tmp_path, settings(endpoint.url), answers)
    choice = choose(state)
    assert certificate(state, choice, {}, None, {})["pairwise"] is None
    assert 'id="pairwise"' not in render(state, choice)
    found = compared(state, "t-a", "base", split="dev")
    assert certificate(state, choice, {}, None, {})["pairwise"] == found
    page = render(state, choice)
    assert 'id="pairwise"' in page
    assert "Answers to the dev set, n = 12 items" in page
    assert check_page(page) == []


def test_it_stands_for_the_answers_and_the_judge_that_it_is_of(endpoint: Endpoint, tmp_path: Path) -> None:
    answers = {("t-a", "dev"): ["aa"], ("base", "dev"): ["b"]}
    state = answered_sweep(tmp_path, settings(endpoint.url), answers)
    compared(state, "t-a", "base", split="dev")
    state.spec["evaluate"]["judge"]["rubric"] = "5: it is kind."
    assert read_pairwise(state) is None, "another judge"
    write_answers(state.folder, "t-a", "dev", ["a"])
    with Ledger(state.folder) as ledger:
        items = "evaluations/t-a-dev.jsonl"
        ledger.append("evaluation", id="anew", arm="t-a", split="dev", n=1, metrics={}, items=items)
    assert read_pairwise(read(state.folder)) is None, "other answers"
    (state.folder / FILE).write_text("{")
    with pytest.raises(InvalidInput, match=r"is damaged \(`podium judge compare` writes it again\)"):
        read_pairwise(state)
