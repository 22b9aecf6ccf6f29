"""A sweep of preference trials: what decides between equal ones, and which are flagged."""

from pathlib import Path
from typing import Any

import pytest

from analysis.certificate import certificate
from analysis.champion import agreement, choose
from analysis.leaderboard import leaderboard
from analysis.report_tables import leaderboard_table
from analysis.rule import Rule, effective_rule
from tracking.ledger import FORMAT, Ledger, SweepState, read

# beta, val/loss, dpo/reward_accuracy, dpo/chosen_logp_change
TRIALS = [(0.1, 0.40, 1.0, 2.0), (0.5, 0.05, 1.0, -3.5), (0.1, 0.30, 0.9, 4.0), (0.2, 0.20, 1.0, 2.5)]


def sweep(home: Path, spec: dict[str, Any] | None = None, *, key: str = "preference.beta") -> SweepState:
    """Four finished trials."""
    folder = home / "runs" / "pairs"
    written = {"name": "pairs", "champion": {"maximize": "dpo/reward_accuracy"}, **(spec or {})}
    with Ledger(folder) as ledger:
        recipe = {"method": "dpo"}
        ledger.append("sweep", name="pairs", format=FORMAT, spec=written, recipe=recipe, facts={})
        for number, (beta, loss, accuracy, change) in enumerate(TRIALS):
            trial = f"{number}abc"
            ledger.append("trial", trial=trial, number=number, values={key: beta}, pool="cpu", max_steps=8)
            metrics = {"val/loss": loss, "dpo/reward_accuracy": accuracy, "dpo/chosen_logp_change": change}
            ledger.append("report", trial=trial, step=8, metrics=metrics)
            ledger.append("adapter", trial=trial, folder=f"trials/{trial}/adapter")
            ledger.append("state", trial=trial, state="DONE")
        ledger.append("end", status="DONE")
    return read(folder)


def test_between_equal_accuracies_the_likelier_chosen_answers_decide(tmp_path: Path) -> None:
    state = sweep(tmp_path)
    choice = choose(state)
    assert choice.champion == "3abc"
    assert choice.ranking == ("3abc", "0abc", "1abc", "2abc")
    assert "the higher likelihood of the chosen answers decides (2.5 against 2)" in " ".join(choice.why)
    assert agreement(state, "dpo/reward_accuracy")["n"] == 0, "losses of different scales agree with nothing"
    told = certificate(state, choice, {"name": "a base", "identity": None}, None, {})["rule"]["tie_break"]
    assert told == ["higher dpo/chosen_logp_change", "lower cost/usd", "lower number"]


def test_where_losses_compare_the_lower_one_decides(tmp_path: Path) -> None:
    choice = choose(sweep(tmp_path, key="optimizer.lr"))
    assert choice.ranking == ("1abc", "3abc", "0abc", "2abc")
    assert "the lower validation loss decides" in " ".join(choice.why)


@pytest.mark.parametrize(
    ("key", "expected"),
    [("preference.beta", Rule("dpo/reward_accuracy", "max")), ("optimizer.lr", Rule("val/loss", "min"))],
)
def test_without_evaluated_answers_the_rule_is_what_compares(key: str, expected: Rule, tmp_path: Path) -> None:
    state = sweep(tmp_path, {"champion": {}}, key=key)
    rule, note = effective_rule(state)
    assert rule == expected
    assert note
    assert note.endswith(f"{expected.metric}.")


def test_a_trial_whose_chosen_answers_became_unlikely_is_flagged(tmp_path: Path) -> None:
    state = sweep(tmp_path)
    table = leaderboard(state).table.set_index("id")
    assert table.loc["1abc", "warning"].startswith("the chosen answers are less likely than at the start")
    assert not table.drop(index="1abc")["warning"].any()
    rows = {row["title"].split(":")[0]: row["title"] for row in leaderboard_table(state, choose(state))["rows"]}
    assert "(dpo/chosen_logp_change -3.5 nats)" in rows["1abc"]
    assert "likely" not in rows["0abc"]
