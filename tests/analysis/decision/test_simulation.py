"""A small turn of the simulation: who is promoted, and who is called the one champion, though no better than others."""

import numpy as np
import pytest

from tests.benchmarks import decision
from tests.benchmarks.drawn_sweeps import World, draw, mean_of_integers


@pytest.mark.parametrize("world", [decision.EQUAL[0], decision.EQUAL[4], decision.WORLDS[11]], ids=lambda one: one.name)
def test_false_promotions_and_champions_stay_within_alpha(world: World) -> None:
    _, ours = decision.simulate(world, 200, seed=5)
    for count, total in (decision.false_promotions(ours), decision.false_champions(ours)):
        assert decision.lower_bound(count, total) <= decision.ALPHA
    assert decision.false_promotions(ours)[1] + decision.false_champions(ours)[1] >= 200
    assert abs(np.mean([one.bias for one in ours])) < 0.05


def test_the_bound_tells_a_rate_that_is_too_high() -> None:
    """The check can fail: the highest mean promotes about half of those that are no better."""
    theirs, _ = decision.simulate(decision.EQUAL[3], 50, seed=5)
    assert decision.lower_bound(*decision.false_promotions(theirs)) > 0.5
    assert decision.lower_bound(72, 1_000) > 0.05
    assert decision.lower_bound(50, 1_000) < 0.05
    assert decision.lower_bound(0, 1_000) == 0


def test_both_procedures_spend_the_same() -> None:
    for world in (*decision.WORLDS, *decision.EQUAL):
        references = world.num_references
        budget = (world.num_candidates + references) * decision.PER_ARM
        spent, before = (3 + references) * world.challenge, 0
        for one in decision.rounds_of(world):
            spent, before = spent + one.num_arms * (one.stop - before), one.stop
        assert spent <= budget
        assert spent >= budget - 60 or one.stop == world.dev or world.rounds is not None


def test_the_truth_of_integers_is_their_mean() -> None:
    rng = np.random.default_rng(0)
    drawn = np.clip(np.round(rng.normal(4.2, 1.2, 400_000)), 0, 5)
    assert mean_of_integers(np.array([4.2]), 1.2)[0] == pytest.approx(drawn.mean(), abs=0.01)
    sweep = draw(decision.WORLDS[5], rng)
    assert set(np.unique(sweep.dev)) <= {0, 1, 2, 3, 4, 5}
    assert sweep.truth.max() < 5
