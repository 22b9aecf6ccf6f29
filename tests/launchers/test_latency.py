"""Who is timed before a sweep decides."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from analysis.champion import choose_on_dev
from launchers.latency import next_to_time
from tracking.ledger import Evaluation, State, SweepState, TrialState

LIMIT = "latency/formulation_p95_s"
SPEC = {"champion": {"maximize": "quality/score", "subject_to": {LIMIT: "< 1"}}, "evaluate": {"metrics": ["shopping"]}}


def sweep_of(scores: list[float]) -> SweepState:
    trials = {}
    for number, score in enumerate(scores):
        trial = TrialState(f"t{number}", number, {"lr": number}, "cpu", State.DONE, adapter="a")
        trial.evaluations.append(Evaluation("e", trial.id, "dev", 10, {"quality/score": score}))
        trials[trial.id] = trial
    return SweepState("s", Path("s"), 0.0, SPEC, {}, {}, trials)


def time_it(state: SweepState, trial: str, seconds: float | None) -> None:
    missing = {} if seconds is not None else {LIMIT: "9 of 100 requests have no answer, and it is one of them"}
    found = Evaluation(f"l-{trial}", trial, "latency", 100, {LIMIT: seconds}, detail={"missing": missing})
    state.trials[trial].evaluations.append(found)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.sampled_from([0.5, 0.9, 1.0, 3.0]))), max_size=9),
    st.integers(0, 4),
    st.data(),
)
def test_the_loop_ends_and_chooses_as_if_everybody_had_been_timed(
    trials: list[tuple[int, float | None]], top: int, data: st.DataObject
) -> None:
    state, everybody = sweep_of([score for score, _ in trials]), sweep_of([score for score, _ in trials])
    for number, (_, seconds) in enumerate(trials):
        time_it(everybody, f"t{number}", seconds)
    tried: set[str] = set()
    while best := next_to_time(state, top, tried):
        assert len(best) <= top
        assert tried.isdisjoint(best)
        tried |= set(best)
        for trial in best:
            time_it(state, trial, trials[int(trial[1:])][1])
    assert len(tried) <= len(trials)
    found, right = choose_on_dev(state).champion, choose_on_dev(everybody).champion
    unmeasurable = sum(seconds is None for _, seconds in trials)
    if top > unmeasurable:
        assert found == right
    elif found is not None:
        assert found in tried, "nobody wins who was not timed"


def test_a_verdict_says_why_a_latency_is_missing() -> None:
    state = sweep_of([1.0])
    time_it(state, "t0", None)
    choice = choose_on_dev(state)
    assert choice.champion is None
    told = f"{LIMIT} is not measured (9 of 100 requests have no answer, and it is one of them), must be < 1"
    assert choice.verdicts["t0"].failures == (told,)
