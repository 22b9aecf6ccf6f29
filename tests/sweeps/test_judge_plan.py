"""What a judge will be asked, at most: verdicts by what they are for, and their price."""

from collections.abc import Callable

import pytest

from sweeps.plan import plan
from sweeps.spec import Sweep

Make = Callable[[str], Sweep]

SPACE = "space: {optimizer.lr: loguniform(1e-5, 1e-3)}\nsearch: {trials: 20}\n"
PRICE = "{input_usd_per_1m: 2, output_usd_per_1m: 10, source: list, date: 2026-11-01}"
JUDGE = "endpoint: 'http://x', rubric: '" + "r" * 400 + "'"


def evaluate(more: str = "", price: str = f", price: {PRICE}") -> str:
    return f"{SPACE}evaluate: {{dev: 10, challenge: 30, judge: {{model: m, {JUDGE}{price}}}{more}}}\n"


def test_a_sweep_without_a_judge_asks_none(make_sweep: Make) -> None:
    assert plan(make_sweep(SPACE)).judge is None


def test_planted_defects_are_paid_for_like_any_answer(make_sweep: Make) -> None:
    with_them = plan(make_sweep(evaluate(", defects: {plant: [padding, truncation], rows: 12}"))).judge
    without = plan(make_sweep(evaluate(", defects: []"))).judge
    assert with_them is not None
    assert without is not None
    assert with_them.verdicts["planted defects"] == 12 * 3, "each row clean, and with each defect"
    assert with_them.num_verdicts - without.num_verdicts == 36
    assert with_them.usd is not None
    assert without.usd is not None
    assert with_them.usd / without.usd == pytest.approx(with_them.num_verdicts / without.num_verdicts, rel=1e-3)


def test_the_verdicts_by_hand(make_sweep: Make) -> None:
    more = "champion: {confirm: {top: 3}, contenders: {start: 4, items: 25}}\n"
    found = plan(make_sweep(evaluate(", defects: {plant: padding, rows: 5}") + more)).judge
    assert found is not None
    assert found.verdicts == {
        "trials": 200,
        "the base": 10,
        "contenders": 60,
        "planted defects": 10,
        "the challenge set": (3 + 2 + 1 + 1) * 30,
    }
    assert found.tokens_out == 80 * found.num_verdicts


def test_answers_in_the_other_way_are_judged_too(make_sweep: Make) -> None:
    more = "champion: {confirm: {top: 3}, contenders: {start: 4, items: 25}}\n"
    free, both = (
        plan(make_sweep(evaluate() + more)).judge,
        plan(make_sweep(evaluate() + more + "serving: {rescore: 2}\n")).judge,
    )
    assert free is not None
    assert both is not None
    assert both.num_verdicts - free.num_verdicts == 2 * 25, "on as many items as contenders have"
    guided = plan(make_sweep(evaluate() + more + "serving: {guided: true}\n")).judge
    assert guided is not None
    assert guided.verdicts["the base"] == 20, "the base in the schema, too"
    assert guided.verdicts["the challenge set"] == free.verdicts["the challenge set"]


def test_without_a_price_dollars_are_unknown_and_say_whose(make_sweep: Make) -> None:
    found = plan(make_sweep(evaluate(price=""))).judge
    assert found is not None
    assert found.usd is None
    assert "no price: m has none (evaluate.judge.price)" in found.lines()[0]


def test_a_panel_asks_each_of_its_judges_at_its_own_price(make_sweep: Make) -> None:
    panel = f"[{{model: a, price: {PRICE}}}, {{model: b, price: {PRICE}}}]"
    one = plan(make_sweep(evaluate())).judge
    two = plan(make_sweep(f"{SPACE}evaluate: {{dev: 10, challenge: 30, judge: {{panel: {panel}, {JUDGE}}}}}\n")).judge
    assert one is not None
    assert two is not None
    assert one.usd is not None
    assert two.usd == pytest.approx(2 * one.usd)


def test_old_prices_are_noted(make_sweep: Make) -> None:
    import datetime

    sweep = make_sweep(SPACE + "pools: [h100]\n")
    assert not any("days old" in note for note in plan(sweep, today=datetime.date(2027, 1, 29)).notes)
    [note] = [note for note in plan(sweep, today=datetime.date(2027, 1, 30)).notes if "old" in note]
    assert note == "the price of h100 is 90 days old (2026-11-01): check it, prices move by weeks"
