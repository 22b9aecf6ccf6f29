from hypothesis import given
from hypothesis import strategies as st

from recipes.engines.packed.planner import SAMPLES, Planner, slots_worth


def measured(cost: dict[int, float], tokens: int = 60, num_trials: int = 20) -> Planner:
    """A planner that was used until it had decided, where a chunk of n costs ``cost[n]`` seconds."""
    planner = Planner("cpu")
    for _ in range(100):
        size = planner.size(tokens, num_trials)
        planner.record(tokens, size, cost[size])
    return planner


def test_the_fastest_size_is_kept() -> None:
    cost = {1: 1.0, 8: 2.0, 16: 8.0, 32: 64.0}
    planner = measured(cost, num_trials=40)
    assert planner.decisions == {"64": 8}
    assert planner.size(50, 40) == 8
    assert planner.size(50, 5) == 5


def test_one_at_a_time_where_company_does_not_pay() -> None:
    planner = measured({size: size * 1.01 for size in range(1, 65)}, num_trials=40)
    assert planner.decisions == {"64": 1}


@given(st.integers(1, 5000), st.integers(1, 64), st.lists(st.floats(0.1, 10), min_size=64, max_size=64))
def test_it_is_never_slower_than_one_at_a_time(tokens: int, num_trials: int, speeds: list[float]) -> None:
    cost = {size: size * speeds[size - 1] for size in range(1, 65)} | {
        128: 1e9,
        256: 1e9,
        512: 1e9,
        1024: 1e9,
        2048: 1e9,
    }
    size = measured(cost, tokens, num_trials).size(tokens, num_trials)
    assert 1 <= size <= num_trials
    assert cost[size] / size <= cost[1]


def test_every_size_that_is_tried_is_timed_often_enough() -> None:
    planner = Planner("cpu")
    tried = []
    for _ in range(4 * SAMPLES):
        tried.append(planner.size(100, 64))
        planner.record(100, tried[-1], 1.0)
    assert sorted(set(tried)) == [1, 4, 8, 16]
    assert all(tried.count(size) == SAMPLES for size in set(tried))


def test_what_was_measured_is_not_measured_again() -> None:
    assert Planner("cpu", {"128": 4}).size(100, 20) == 4
    assert Planner("cpu", {"128": 4}).size(100, 2) == 2


def test_few_trials_decide_nothing_for_many() -> None:
    planner = measured({1: 1.0, 2: 1.0, 8: 0.5, 16: 0.5, 32: 0.5}, num_trials=2)
    assert planner.decisions == {}


def test_a_pack_holds_what_fills_a_pass_and_never_one_alone() -> None:
    assert slots_worth("cpu", 32) == 32
    assert slots_worth("cpu", 4000) == 1
    assert slots_worth("cuda", 100_000) == 2
    assert slots_worth("cuda", 600) == 13
