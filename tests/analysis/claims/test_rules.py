import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.claims import (
    AnyClaim,
    Claim,
    Limit,
    Relative,
    Rule,
    Share,
    check,
    check_markdown,
    check_page,
    facts,
    from_facts,
    limit,
    mark,
    relative,
)
from sweeps.errors import InvalidInput
from sweeps.metrics import METRICS

LATENCY = "latency/agent_p95_s"
BEFORE = Claim(LATENCY, "incumbent", 4.5, "challenge", 96)
AFTER = Claim(LATENCY, "champion", 2.3, "challenge", 96)

names = st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,5})?", fullmatch=True)
values = st.floats(1e-3, 1e5)
comparable = st.sampled_from([metric.name for metric in METRICS if metric.unit not in ("share", "0–1")])


@st.composite
def relatives(draw: st.DrawFn) -> Relative:
    """A figure against a baseline's, both measured on the same items."""
    metric, data, n = draw(comparable), draw(names), draw(st.integers(1, 10**6))
    sha256 = draw(st.none() | st.just("d" * 64))
    base = Claim(metric, draw(names), draw(values), data, n, sha256)
    made = relative(Claim(metric, draw(names), draw(values), data, n, sha256), base)
    assert made is not None
    if draw(st.booleans()):
        around = draw(st.floats(0, 50))
        made = replace(made, interval=(made.percent - around, made.percent + around))
    return made


def _without(claim: Claim | None, rule: Rule) -> Claim:
    assert claim is not None
    return replace(claim, data=None) if rule is Rule.DATA else replace(claim, n=None)


def against(arm: str, value: float = 4.5, data: str = "challenge") -> Relative:
    made = relative(replace(AFTER, data=data), Claim(LATENCY, arm, value, data, 96))
    assert made is not None
    return made


def rules(claims: list[AnyClaim]) -> set[Rule]:
    return {violation.rule for violation in check(claims)}


def test_a_relative_figure_says_all_that_it_needs() -> None:
    assert str(against("incumbent")) == "−48.9 % against incumbent on challenge, n = 96 (4.5 → 2.3 s)"


@given(relatives())
def test_what_is_rendered_is_accepted(claim: Relative) -> None:
    assert check([claim]) == []
    assert check_page(f"<p>It is {mark(claim)}.</p>") == []
    assert check_markdown(f"It is {claim}.") == []
    assert from_facts(json.loads(json.dumps(facts(claim)))) == claim


@given(relatives(), st.sampled_from([Rule.BASELINE, Rule.DATA, Rule.N]))
def test_what_lacks_baseline_data_or_n_is_refused(claim: Relative, rule: Rule) -> None:
    whole = claim
    if rule is Rule.BASELINE:
        claim = replace(claim, baseline=None)
    else:
        claim = replace(claim, claim=_without(claim.claim, rule), baseline=_without(claim.baseline, rule))
    assert rules([claim]) == {rule}
    assert {violation.rule for violation in check_page(f"<p>{mark(claim)}</p>")} >= {rule}
    assert whole.baseline is not None
    words = {
        Rule.BASELINE: f" against {whole.baseline.arm}",
        Rule.DATA: f" on {whole.claim.data}",
        Rule.N: f", n = {whole.claim.n}",
    }[rule]
    text = str(whole).replace(words, "", 1)
    assert rule in {violation.rule for violation in check_markdown(f"It is {text}.")}


@given(relatives(), st.floats(0.2, 1e3))
def test_what_its_values_do_not_give_is_refused(claim: Relative, off: float) -> None:
    wrong = replace(claim, percent=claim.percent + off, interval=None)
    assert rules([wrong]) == {Rule.ARITHMETIC}
    assert Rule.ARITHMETIC in {violation.rule for violation in check_page(f"<p>{mark(wrong)}</p>")}


@pytest.mark.parametrize("field", ["metric", "data", "n", "sha256"])
def test_figures_of_other_items_are_not_compared(field: str) -> None:
    other = {"metric": "latency/ttft_p95_s", "data": "dev", "n": 64, "sha256": "e" * 64}
    apart = Claim(**{**vars(BEFORE), field: other[field]})
    assert Rule.COMPARABLE in rules([Relative(AFTER, apart, 100 * (2.3 / 4.5 - 1))])
    with pytest.raises(AssertionError, match="same metric on the same items"):
        relative(AFTER, apart)


def test_nothing_is_a_percentage_of_nothing() -> None:
    assert relative(AFTER, replace(BEFORE, value=0.0)) is None
    assert rules([Relative(AFTER, replace(BEFORE, value=0.0), math.inf)]) == {Rule.ARITHMETIC}


def test_different_baselines_do_not_stand_side_by_side() -> None:
    assert rules([against("incumbent"), against("base")]) == {Rule.MIXED}
    assert rules([against("incumbent"), against("incumbent", data="dev")]) == {Rule.MIXED}
    quality = relative(
        Claim("quality/score", "champion", 2.49, "dev", 64), Claim("quality/score", "incumbent", 3.18, "dev", 64)
    )
    assert quality is not None
    assert rules([against("incumbent"), quality]) == set(), "another metric may have other rows"


def test_a_baseline_has_one_value() -> None:
    """2.03 is 36.2 % below one baseline and 39.7 % below another, whatever both are called."""
    score = Claim("quality/score", "NFT", 2.03, "challenge", 100)
    figures = [relative(score, replace(score, arm="base model", value=value)) for value in (3.18, 3.37)]
    assert [one and round(one.percent, 1) for one in figures] == [-36.2, -39.8]
    assert rules([one for one in figures if one]) == {Rule.MOVED}


def test_a_percentage_of_a_percentage() -> None:
    share = Claim("quality/json_valid", "champion", 0.97, "challenge", 96)
    with pytest.raises(AssertionError, match="not taken of a percentage"):
        relative(share, replace(share, arm="base", value=0.94))


def test_an_interval_holds_its_figure() -> None:
    assert rules([replace(against("incumbent"), interval=(-60.0, -40.0))]) == set()
    assert rules([replace(against("incumbent"), interval=(-40.0, -30.0))]) == {Rule.ARITHMETIC}


def test_a_limit_comes_with_its_figure_and_holds() -> None:
    kept = limit(replace(AFTER, value=1.83), "<", 2.0)
    assert str(kept) == "1.83 s on challenge, n = 96, below 2 s"
    missed = limit(AFTER, "<", 2.0)
    assert str(missed) == "2.3 s on challenge, n = 96, not below 2 s"
    for claim in (kept, missed):
        assert check([claim]) == []
        assert check_page(f"<p>{mark(claim)}</p>") == []
        assert check_markdown(str(claim)) == []
    boast = Limit(AFTER, "<", 2.0)
    assert rules([boast]) == {Rule.LIMIT}
    assert {violation.rule for violation in check_page(f"<p>{mark(boast)}</p>")} == {Rule.LIMIT}
    assert {violation.rule for violation in check_markdown(str(boast))} == {Rule.LIMIT}


def test_a_share_is_of_something_and_at_most_all_of_it() -> None:
    share = Share(0.27, "the answers", "challenge", 96)
    assert str(share) == "27 % of the answers on challenge, n = 96"
    assert rules([share]) == set()
    assert rules([replace(share, n=0)]) == {Rule.N}
    assert rules([replace(share, value=1.2)]) == {Rule.ARITHMETIC}


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"kind": "boast"},
        {"kind": "claim", "metric": "x"},
        {"kind": "limit", "claim": None, "op": "<", "bound": 2},
        {**facts(AFTER), "value": "fast"},
        {**facts(AFTER), "value": math.nan},
        {**facts(AFTER), "interval": [1]},
        {**facts(against("base")), "claim": 7},
        {**facts(against("base")), "percent": "much"},
    ],
    ids=str,
)
def test_what_are_no_facts_is_told(value: object) -> None:
    with pytest.raises(InvalidInput, match="no facts of a claim"):
        from_facts(value)
