"""Where a sweep's money went: every part adds up to the whole, and a point of score has a price or says why not."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.champion import choose
from analysis.report import write_report
from analysis.serving import serving_costs
from analysis.spending import repriced, spending
from sweeps.errors import InvalidInput
from sweeps.pricing import Price, Traffic
from tests.analysis.synthetic import SPEC, synthetic, trial_id
from tests.pools import pool
from tracking.ledger import Ledger, SweepState
from tracking.meters.cost import cost_of, shares

POOL = pool("cpu", 0.05)
TRAFFIC = Traffic(peak_rps=50, mean_rps=20)


@pytest.fixture
def state(tmp_path: Path) -> SweepState:
    found = synthetic(tmp_path)
    found.facts["pools"] = {"cpu": POOL.model_dump(mode="json")}
    return found


def latency(state: SweepState, arm: str, mean_s: float) -> SweepState:
    """The sweep with the latency of one more arm."""
    with Ledger(state.folder) as ledger:
        detail = {"mean_s": mean_s, "seconds": 1.0}
        ledger.append(
            "evaluation", id=f"latency-{arm}", arm=arm, split="latency", n=9, metrics={"latency/x": None}, detail=detail
        )
        read = ledger.read()
    read.facts["pools"] = state.facts["pools"]
    return read


def test_the_parts_of_all_arms_are_what_was_spent(state: SweepState) -> None:
    found = spending(state, choose(state))
    assert sum(part.usd for part in found.parts) == pytest.approx(found.usd)
    assert sum(share.usd for share in found.shares.values()) == pytest.approx(found.machine_usd)
    assert sum(usd for of in found.closer.values() for usd in of.values()) == pytest.approx(found.machine_usd)
    idle = sum(part.shares["idle"] for part in found.parts)
    assert idle == pytest.approx(shares(state)["idle"].usd)
    assert [part.usd for part in found.parts] == sorted((part.usd for part in found.parts), reverse=True)


def test_a_point_is_all_that_was_spent_over_what_was_gained(state: SweepState) -> None:
    choice = choose(state)
    found = spending(state, choice)
    base = next(point for point in found.points if point.against == "Base model")
    assert base.champion is not None
    assert base.other == 0.0
    assert base.usd_per_point == pytest.approx(found.usd / base.champion)
    staged = next(point for point in spending(state, choice, before=2.0).points if point.against == "Base model")
    assert staged.usd_per_point == pytest.approx((found.usd + 2.0) / base.champion), "as a later stage's champion"


def test_a_point_that_was_not_gained_has_no_price(state: SweepState) -> None:
    choice = choose(state)
    for one in state.arms["base"]:
        one.metrics["quality/score"] = 5.0
    [base] = [point for point in spending(state, choice).points if point.against == "Base model"]
    assert (base.usd_per_point, base.why) == (None, "the champion gained nothing")


def test_other_prices_change_the_dollars_and_nothing_else(state: SweepState) -> None:
    before = spending(state, choose(state))
    double = Price(usd_per_hour=0.1, date="2026-11-02", source="another list")
    after = spending(repriced(state, {"cpu": double}), choose(state))
    assert {kind: one.unit_s for kind, one in after.shares.items()} == {
        kind: one.unit_s for kind, one in before.shares.items()
    }
    held = sum(share.unit_s for share in after.shares.values())
    assert after.machine_usd == pytest.approx(held / 3600 * 0.1)
    assert after.foretold is None, "that was at other prices"
    with pytest.raises(InvalidInput, match="has no entry for cpu"):
        repriced(state, {"h100": double})


def test_whoever_was_only_paid_for_has_a_part(state: SweepState) -> None:
    lost = cost_of("evaluation", POOL, 7.0, "defects", "dev")
    with_it = replace(state, costs=[*state.costs, lost])
    found = spending(with_it, choose(with_it))
    assert "defects" in {part.arm for part in found.parts}
    assert sum(part.usd for part in found.parts) == pytest.approx(found.usd)


def test_serving_is_against_the_baseline_with_both_figures(state: SweepState) -> None:
    champion = choose(state).champion
    assert champion is not None
    state = latency(latency(state, "base", 0.5), champion, 0.25)
    served = serving_costs(state, choose(state), TRAFFIC, POOL)
    base, best = served[:2]
    assert (base.arm, best.arm) == ("base", champion)
    assert (base.cost.replicas, best.cost.replicas) == (33, 17)
    assert base.change is None
    assert best.change == "−48.5 % against base on latency requests, n = 9 (1204 → 620.5 US$ a month)"


def test_an_arm_that_was_not_timed_has_no_dollars(state: SweepState) -> None:
    served = serving_costs(state, choose(state), TRAFFIC, POOL)
    assert {one.cost.monthly_usd for one in served} == {None}
    assert all("neither its goodput nor its latency" in (one.cost.why or "") for one in served)


def test_a_limit_on_the_month_is_a_constraint_like_any_other(tmp_path: Path) -> None:
    """With the dollars of serving recorded, a dear trial does not qualify, and one without them neither."""
    bound = {"cost/monthly_usd": "< 900"}
    spec = {**SPEC, "champion": {**SPEC["champion"], "subject_to": bound}}
    state = synthetic(tmp_path, spec=spec)
    best = choose(state, None).verdicts
    assert all("cost/monthly_usd is not measured, must be < 900" in one.failures for one in best.values())
    with Ledger(state.folder) as ledger:
        for number, usd in ((1, 1200.0), (2, 600.0)):
            metrics = {"cost/monthly_usd": usd, "cost/usd_per_1k_requests": usd / 5e4}
            ledger.append(
                "evaluation", id=f"serving-{number}", arm=trial_id(number), split="serving", n=9, metrics=metrics
            )
        choice = choose(ledger.read())
    assert choice.champion == trial_id(2)
    assert "cost/monthly_usd is 1200, must be < 900" in choice.verdicts[trial_id(1)].failures


def test_the_report_draws_the_month_with_what_it_rests_on(state: SweepState, tmp_path: Path) -> None:
    """The words of a price's source are the user's own: what they claim is no claim of the page."""
    champion = choose(state).champion
    assert champion is not None
    page = write_report(state, tmp_path / "without.html").read_text()
    assert 'id="serving"' not in page
    state = latency(latency(state, "base", 0.5), champion, 0.25)
    own = POOL.price.model_copy(update={"source": "our list, 30 % faster and cheaper than before"})
    state.spec["traffic"] = TRAFFIC.model_dump(mode="json")
    state.facts["serving"] = POOL.model_copy(update={"price": own}).model_dump(mode="json")
    page = write_report(state, tmp_path / "with.html").read_text()
    assert 'id="serving"' in page
    for told in ("A peak of 50 requests a second", "US$ 0.05 per core-hour", "17 replicas"):
        assert told in page
