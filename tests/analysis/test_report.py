import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.champion import choose
from analysis.claims import check_page
from analysis.importance import Importance, importance
from analysis.report import render, write_report
from analysis.rule import Rule
from analysis.scales import Scale, number, scale_of
from sweeps.spec import Constraint
from tests.analysis.synthetic import SPEC, synthetic
from tracking.ledger import FORMAT, Ledger, SweepState, read

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Collects what a page would load, its ids, and its text outside of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden = tag in ("script", "style")
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]
        self.ids |= {str(value) for name, value in attrs if name == "id"}

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_the_page_is_whole_and_needs_no_network(state: SweepState, tmp_path: Path) -> None:
    path = write_report(state, tmp_path / "deep" / "report.html")
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert page.loads == []
    figures = ("parallel", "importance", "agreement", "curves", "trade-offs", "costs")
    assert page.ids >= {"champion", "leaderboard", *figures, *(f"figure-{name}" for name in figures)}
    assert html.count("* plotly.js v") == 1
    for words in ("Trial 3", "Base model, schema enforced", "Default recipe (trial 0)", "Median trial", "n = 48"):
        assert words in page.text
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_sweep_that_has_just_started_has_a_page(home: Path) -> None:
    with Ledger(home / "runs" / "new") as ledger:
        ledger.append("sweep", name="new", format=FORMAT, spec=SPEC, recipe={}, facts={})
        ledger.append("trial", trial="a", number=0, values={"lora.rank": 8}, pool="cpu", max_steps=4)
    state = read(home / "runs" / "new")
    text = Page(render(state, choose(state))).text
    assert "None qualifies" in text
    assert "No trial has reported a loss yet." in text
    assert "Too few trials to tell" in text


def test_no_champion_is_told_with_reasons(state: SweepState) -> None:
    choice = choose(state, Rule("quality/score", "max", (Constraint(metric="quality/score", op=">", bound=9.0),)))
    assert "must be > 9" in Page(render(state, choice)).text


def test_names_and_values_cannot_inject_html(home: Path) -> None:
    evil = "<script>alert(1)</script>"
    with Ledger(home / "runs" / "x") as ledger:
        ledger.append("sweep", name=evil, format=FORMAT, spec=SPEC, recipe={}, facts={})
        for number_, value in enumerate((evil, "b")):
            ledger.append("trial", trial=f"t{number_}", number=number_, values={evil: value}, pool=evil, max_steps=4)
    state = read(home / "runs" / "x")
    assert evil not in render(state, choose(state))


@pytest.mark.parametrize("num_trials", [0, 1, 4, 20])
def test_a_page_claims_nothing_without_what_it_rests_on(home: Path, num_trials: int) -> None:
    state = synthetic(home, num_trials=num_trials)
    for rule in (
        None,
        Rule("val/loss", "min"),
        Rule("quality/score", "max", (Constraint(metric="cost/usd", op="<", bound=0.0),)),
    ):
        assert check_page(render(state, choose(state, rule))) == []


def test_changes_are_against_the_incumbent_where_there_is_one(home: Path) -> None:
    state = synthetic(home)
    state.spec["evaluate"] = {"incumbent": {"model": "yesterday"}}
    champion = choose(state).champion
    assert champion is not None
    with Ledger(state.folder) as ledger:
        for arm, score in (("base", 1.0), ("incumbent", 2.0)):
            fields = {"n": 48, "metrics": {"quality/score": score, "quality/json_valid": 0.5}}
            ledger.append("evaluation", id=f"{arm}-again", arm=arm, split="challenge", **fields)
        spec = state.spec
        state = ledger.read()
    state.spec = spec
    html = render(state, choose(state))
    assert check_page(html) == []
    assert html.count('data-claim="') == 1, "of the score; no percentage is taken of a share, and latency has no pair"
    assert "% against incumbent on challenge, n = 48 (2 → " in Page(html).text
    del state.spec["evaluate"]
    assert "% against base on challenge, n = 48 (1 → " in Page(render(state, choose(state))).text


def test_a_constraint_is_told_with_the_figure_that_keeps_it(state: SweepState) -> None:
    assert "It keeps quality/json_valid >= 0.9, being 1." in choose(state).why


def test_a_page_that_claims_more_is_not_written(state: SweepState, tmp_path: Path) -> None:
    choice = replace(choose(state), why=("It is 48.9 % faster than the base.",))
    with pytest.raises(AssertionError, match=r"48\.9 % faster"):
        write_report(state, tmp_path / "report.html", choice)
    assert list(tmp_path.glob("*.html")) == []


def test_a_users_own_words_may_hold_percentages(home: Path, tmp_path: Path) -> None:
    state = synthetic(home, name="30% faster")
    for trial in state.trials.values():
        trial.values["data.part"] = "top 10% of all that we ever sold" if trial.number % 2 else "twice as many"
    page = write_report(state, tmp_path / "report.html").read_text(encoding="utf-8")
    assert check_page(page) == []
    assert check_page(page.replace('name="quoted"', 'name="other"')) != []


def test_the_learning_rate_mattered_most(state: SweepState) -> None:
    found = importance(state, Rule("quality/score", "max"))
    assert isinstance(found, Importance)
    assert next(iter(found.shares)) == "optimizer.lr"
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert (found.n, found.evaluator) == (20, "fANOVA")
    assert importance(state, Rule("quality/score", "max")) == found


def test_a_key_that_some_trials_lack_is_judged_by_ped_anova(state: SweepState) -> None:
    for trial in state.trials.values():
        if trial.values["optimizer.name"] == "adam":
            del trial.values["optimizer.weight_decay"]
    found = importance(state, Rule("quality/score", "max"))
    assert isinstance(found, Importance)
    assert found.evaluator == "PED-ANOVA"
    assert "Trial 3" in Page(render(state, choose(state))).text


def test_three_trials_are_too_few_for_importance(home: Path) -> None:
    found = importance(synthetic(home, num_trials=3), Rule("quality/score", "max"))
    assert found == "Too few trials to tell: 3 have quality/score, 4 are needed."


def test_scales(state: SweepState) -> None:
    assert scale_of(state, "optimizer.lr", [1e-4, 3e-4]).kind == "log"
    assert scale_of(state, "lora.rank", [16, 8, 16, 32, 8, 8, 8]) == Scale("category", 8.0, 32.0, ("8", "16", "32"))
    assert scale_of(state, "x", [0.0, 0.5, 1.0]).kind == "linear"
    assert scale_of(state, "x", [True, False]).categories == ("false", "true")
    assert Scale("log", 1e-5, 1e-3).position(1e-4) == pytest.approx(0.5)
    assert [text for _, text in Scale("linear", 0.7, 4.84).ticks()] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("value", "text"), [(3e-4, "3e-4"), (0.0, "0"), (12.0, "12"), (0.08219, "0.08219"), (1e6, "1e6")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_leaderboard_and_report_import_nothing_heavy() -> None:
    code = (
        "import sys, analysis.leaderboard, analysis.champion, analysis.export, analysis.verify, analysis.report\n"
        "print(*sorted({'torch', 'transformers', 'peft', 'mlflow', 'ray', 'optuna', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
