"""The choice on dev and what the challenge set makes of it, over item files as an evaluation leaves them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.champion import choose, choose_on_dev, confirmed
from analysis.confirmation import dev_score, dev_scores, frozen_rule, outcome_of
from analysis.decision.outcome import Outcome
from analysis.decision.rule import DecisionRule
from analysis.plain import plain
from analysis.rule import Rule
from sweeps.spec import Confirm
from tracking.state import BASE, INCUMBENT, Evaluation, State, SweepState, TrialState

SPEC = {"champion": {"maximize": "quality/score"}, "evaluate": {"metrics": ["shopping"]}}
RULE = Rule("quality/score", "max")
NOISE = (0.0, 1.0, -1.0, 0.5, -0.5, 0.0)


def scores(mean: float, n: int = 60, shift: int = 0) -> list[float]:
    """Scores around a mean, unlike those of another shift."""
    return [mean + NOISE[(place + shift) % len(NOISE)] for place in range(n)]


def evaluation(folder: Path, arm: str, split: str, values: Sequence[float | None]) -> Evaluation:
    path = folder / "evaluations" / f"{arm}-{split}.jsonl"
    path.parent.mkdir(exist_ok=True)
    lines = [{"id": str(place), "metrics": {"quality/score": value}} for place, value in enumerate(values)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if known else None
    return Evaluation("e", arm, split, len(values), {"quality/score": mean}, str(path.relative_to(folder)))


def sweep(
    folder: Path,
    dev: Mapping[str, Sequence[float | None]],
    challenge: Mapping[str, Sequence[float | None]],
) -> SweepState:
    """A sweep whose trials are a, b, c … in the order of ``dev``; other arms of ``challenge`` are no trials."""
    state = SweepState("s", folder, 0.0, SPEC, {}, {})
    for number, (name, values) in enumerate(dev.items()):
        trial = TrialState(name, number, {}, "cpu", State.DONE, adapter="a")
        trial.evaluations.append(evaluation(folder, name, "dev", values))
        if name in challenge:
            trial.evaluations.append(evaluation(folder, name, "challenge", challenge[name]))
        state.trials[name] = trial
    for arm in challenge.keys() - dev.keys():
        state.arms[arm] = [evaluation(folder, arm, "challenge", challenge[arm])]
    return state


def decided(state: SweepState, references: Sequence[str] = (BASE,), groups: Mapping[str, str] | None = None) -> Outcome:
    rule = frozen_rule(RULE, choose_on_dev(state).ranking, references, Confirm())
    assert isinstance(rule, DecisionRule)
    outcome = outcome_of(state, rule, groups or {})
    assert isinstance(outcome, Outcome)
    return outcome


def test_better_than_the_base_and_all_others_is_a_champion(tmp_path: Path) -> None:
    dev = {"a": scores(4.0), "b": scores(2.0, shift=1)}
    state = sweep(tmp_path, dev, {"a": scores(4.0), "b": scores(2.0, shift=2), BASE: scores(1.0, shift=3)})
    outcome = decided(state)
    assert (outcome.kind, outcome.pick) == ("champion", "a")
    choice = confirmed(choose_on_dev(state), plain(outcome.to_dict()))
    assert (choice.kind, choice.champion, choice.ties) == ("champion", "a", ("a",))


def test_equals_are_a_tie_and_the_best_on_dev_is_promoted(tmp_path: Path) -> None:
    dev = {"a": scores(3.9), "b": scores(4.0, shift=1)}
    state = sweep(tmp_path, dev, {"a": scores(4.0), "b": scores(4.0, shift=1), BASE: scores(1.0)})
    choice = confirmed(choose_on_dev(state), plain(decided(state).to_dict()))
    assert (choice.kind, choice.champion, set(choice.ties)) == ("tie", "b", {"a", "b"})
    assert choice.ties[0] == "b"


@pytest.mark.parametrize("best_there_was", [BASE, INCUMBENT])
def test_no_better_than_what_there_was_is_none_and_says_how_many_items_would_tell(
    tmp_path: Path, best_there_was: str
) -> None:
    there = {BASE: scores(1.0, shift=2), INCUMBENT: scores(1.0, shift=2), best_there_was: scores(3.9, shift=2)}
    state = sweep(tmp_path, {"a": scores(4.0)}, {"a": scores(4.0), **there})
    outcome = decided(state, (BASE, INCUMBENT))
    assert (outcome.kind, outcome.pick) == ("none", None)
    assert outcome.need.items
    choice = confirmed(choose_on_dev(state), plain(outcome.to_dict()))
    assert choice.champion is None
    assert choice.ranking == ("a",)  # which `podium export --trial` takes all the same


def test_five_items_decide_nothing(tmp_path: Path) -> None:
    state = sweep(tmp_path, {"a": scores(4.0)}, {"a": scores(4.0, n=5), BASE: scores(1.0, n=5)})
    outcome = decided(state)
    assert outcome.kind == "none"
    assert any("at least 10 groups" in sentence for sentence in outcome.why)


def test_items_of_one_group_count_as_one(tmp_path: Path) -> None:
    values, base = scores(3.0), scores(2.6, shift=1)
    state = sweep(tmp_path, {"a": values}, {"a": values, BASE: base})
    alone = decided(state).promotion[0]
    together = decided(state, groups={str(place): str(place // 5) for place in range(60)}).promotion[0]
    assert (alone.num_clusters, together.num_clusters) == (60, 12)


def test_an_arm_whose_evaluation_failed_is_left_out_and_named(tmp_path: Path) -> None:
    state = sweep(tmp_path, {"a": scores(4.0), "b": scores(3.0)}, {"a": scores(4.0), BASE: scores(1.0)})
    outcome = decided(state, (BASE, INCUMBENT))
    assert outcome.rule.contenders == ("a",)
    assert outcome.rule.references == (BASE,)
    assert "Left out, since its evaluation on the challenge set failed: the incumbent." in outcome.why


def test_without_the_candidate_or_anything_to_beat_nothing_is_decided(tmp_path: Path) -> None:
    state = sweep(tmp_path, {"a": scores(4.0), "b": scores(3.0)}, {"b": scores(4.0), BASE: scores(1.0)})
    rule = frozen_rule(RULE, ("a", "b"), (BASE,), Confirm())
    assert isinstance(rule, DecisionRule)
    assert "of trial 0: its evaluation failed" in str(outcome_of(state, rule, {}))
    state = sweep(tmp_path, {"a": scores(4.0)}, {"a": scores(4.0)})
    rule = frozen_rule(RULE, ("a",), (BASE,), Confirm())
    assert isinstance(rule, DecisionRule)
    assert "there is nothing to beat" in str(outcome_of(state, rule, {}))


@pytest.mark.parametrize(
    ("rule", "confirm", "words"),
    [
        (RULE, Confirm(top=0), "the challenge set stays sealed"),
        (Rule("val/loss", "min"), Confirm(), "val/loss is no score of single answers"),
        (Rule("quality/length", "min"), Confirm(), "only scores of which more is better"),
    ],
)
def test_what_cannot_be_confirmed_says_why(rule: Rule, confirm: Confirm, words: str) -> None:
    assert words in str(frozen_rule(rule, ("a",), (BASE,), confirm))


def test_the_recorded_outcome_holds_as_long_as_dev_names_the_same_candidate(tmp_path: Path) -> None:
    state = sweep(tmp_path, {"a": scores(4.0)}, {"a": scores(4.0), BASE: scores(4.0, shift=1)})
    state.champion = confirmed(choose_on_dev(state), plain(decided(state).to_dict())).to_dict()
    assert choose(state).champion is None
    better = TrialState("b", 1, {}, "cpu", State.DONE, adapter="a")
    better.evaluations.append(evaluation(tmp_path, "b", "dev", scores(5.0)))
    state.trials["b"] = better
    assert choose(state).champion == "b"  # by dev, until the challenge set is read for it
    assert choose(state).outcome is None


def test_a_judge_that_is_not_calibrated_chooses_nobody(tmp_path: Path) -> None:
    state = sweep(tmp_path, {"a": scores(4.0)}, {})
    block = "the judge is not calibrated"
    state.champion = {**choose_on_dev(state).to_dict(), "why": [block], "blocked": block}
    assert choose(state).champion is None
    assert choose(state).why == (block,)


def test_the_best_of_many_equals_is_corrected_down_to_them(tmp_path: Path) -> None:
    dev = {name: scores(3.0 + 0.1 * place, n=30, shift=place) for place, name in enumerate("abcdef")}
    state = sweep(tmp_path, dev, {})
    found = dev_score(state, "f", "quality/score", {})
    assert found is not None
    assert 3.0 <= found["corrected"] < found["mean"]
    assert (found["n"], found["best_of"]) == (30, 6)
    assert dev_score(state, "nobody", "quality/score", {}) is None


def test_who_was_judged_on_more_items_is_first(tmp_path: Path) -> None:
    dev = {"lucky": scores(4.5, n=20), "steady": scores(4.0, n=60)}
    state = sweep(tmp_path, dev, {})
    assert choose_on_dev(state).ranking == ("lucky", "steady")
    state.spec = {**SPEC, "champion": {"maximize": "quality/score", "contenders": {"start": 2, "items": 60}}}
    choice = choose_on_dev(state)
    assert choice.ranking == ("steady", "lucky")
    assert choice.why[0].startswith("Trial 1 came farthest, with quality/score 4 on 60 dev items")
    assert choice.why[-1] == "The runner-up is trial 0 with 4.55 on 20 dev items."


def test_scores_that_the_ledger_does_not_count_are_left_out(tmp_path: Path) -> None:
    """A round that was killed when its scores were on the disk already is judged again."""
    state = sweep(tmp_path, {"a": scores(4.0, n=60), "b": scores(3.5, n=60)}, {})
    state.trials["a"].evaluations[0] = replace(state.trials["a"].evaluations[0], n=20)
    assert {arm: len(found) for arm, found in dev_scores(state, "quality/score").items()} == {"a": 20, "b": 60}
