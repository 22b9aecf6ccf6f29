"""Podium's decision against "take the highest mean", on sweeps whose truth is known and for the same judge budget.

Both may have ``PER_ARM`` items judged for each candidate and reference. Taking the highest mean spends them all alike,
and promotes the best candidate when it is above the references. Podium halves candidates on dev and reads the last
three, incumbent and base on the challenge set.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import beta

from analysis.decision import halving
from analysis.decision.decide import decide_table
from analysis.decision.optimism import corrected
from analysis.decision.outcome import Kind
from analysis.decision.rule import DecisionRule
from analysis.decision.scores import Floats, Table
from analysis.rounds import rounds_of as yaml_rounds
from sweeps.spec import Champion
from tests.benchmarks.drawn_sweeps import Drawn, World, draw
from tests.benchmarks.intervals import coverage
from tests.benchmarks.report import report

NUM_SWEEPS = 1_000
PER_ARM = 100
NUM_DRAWS = 999  # of a bootstrap; a real decision takes 9,999
ALPHA = 0.05
MAX_BIAS = 0.02
OPTIMISM_SWEEPS, OPTIMISM_DRAWS = 200, 25

PLAIN = World("spread 0.2", 0.2)
WORLDS = (
    World("spread 0.05", 0.05),
    World("spread 0.1", 0.1),
    PLAIN,
    World("spread 0.3", 0.3),
    World("spread 0.2, integers 0-5", 0.2, integers=True),
    World("spread 0.2, integers 0-5, near the top", 0.2, integers=True, level=4.2),
    World("spread 0.2, the best there five times", 0.2, best_alike=5),
    World("spread 0.2, 200 dev items", 0.2, dev=200),
    World("spread 0.2, 100 dev items", 0.2, dev=100),
    World("spread 0.2, challenge of 100", 0.2, challenge=100),
    World("spread 0.2, rounds of a YAML: dev 25, contenders 10 to 350", 0.2, rounds=(25, 10, 350)),
    World("spread 0.2, the incumbent as good as the best", 0.2, incumbent=0.0, against_best=True),
    World("spread 0.2, the base as good as the best, no incumbent", 0.2, incumbent=None, base=0.0, against_best=True),
)
EQUAL = (
    World("better than the base by 1, no incumbent", 0.0, incumbent=None),
    World("better than the base by 1, no incumbent, integers", 0.0, incumbent=None, integers=True),
    World("better than the base by 1, no incumbent, challenge of 100", 0.0, incumbent=None, challenge=100),
    World("as good as the incumbent", 0.0, incumbent=0.0),
    World("as good as the incumbent, integers near the top", 0.0, incumbent=0.0, integers=True, level=4.2),
    World("as good as the incumbent, challenge of 20 in 10 groups", 0.0, incumbent=0.0, challenge=20),
    World("as good as the base, no incumbent", 0.0, incumbent=None, base=0.0),
)


@dataclass(frozen=True)
class Decided:
    """What a procedure said of one sweep, and how true that is.

    Attributes:
        best: The arm that it names is a best one.
        regret: How much worse than the best.
        no_better: The arm that it names is no better than a reference.
        promoted: It is promoted.
        alike: Another candidate is as good as the arm that it names, or better.
        bias: The reported score less the true one.
        dev_bias: The dev mean less the true one, and what is left of it after correction; NaN where there is none.
    """

    kind: Kind
    best: bool
    regret: float
    no_better: bool
    promoted: bool
    alike: bool
    bias: float
    dev_bias: float = np.nan
    corrected_bias: float = np.nan


def highest_mean(world: World, sweep: Drawn) -> Decided:
    """Every arm on the same first items; the highest mean is taken."""
    means = sweep.dev[:, :PER_ARM].mean(axis=1)
    arm = int(np.argmax(means[: world.num_candidates]))
    promoted = bool((means[arm] > means[world.num_candidates :]).all())
    return _decided(world, sweep, arm, "champion" if promoted else "none", means[arm] - sweep.truth[arm])


def podium(world: World, sweep: Drawn, seed: int) -> Decided:
    """Halving on dev, a frozen rule, and the challenge set once."""
    rounds = rounds_of(world)
    candidates = sweep.dev[: world.num_candidates]
    ranked = halving.ranked(rounds, candidates)
    top = ranked[: halving.KEEP]
    judged = as_judged(rounds, candidates)
    fixed = corrected(judged, top[0], sweep.dev_groups)
    assert fixed is not None
    references = list(range(world.num_candidates, len(sweep.truth)))
    names = {row: str(row) for row in (*top, *references)}
    rule = DecisionRule(
        tuple(names[row] for row in top),
        tuple(names[row] for row in references),
        alpha=ALPHA,
        num_draws=NUM_DRAWS,
        seed=seed,
    )
    items = tuple(map(str, range(world.challenge)))
    rows = sweep.challenge[[*top, *references]]
    outcome = decide_table(rule, Table(rule.arms, items, rows, sweep.challenge_groups))
    arm = int(outcome.pick or rule.candidate)
    reported = next(one.mean for one in outcome.means if one.arm == str(arm))
    assert reported is not None
    truth = sweep.truth[top[0]]
    return replace(
        _decided(world, sweep, arm, outcome.kind, reported - sweep.truth[arm]),
        dev_bias=fixed.mean - truth,
        corrected_bias=fixed.corrected - truth,
    )


def rounds_of(world: World) -> tuple[halving.Round, ...]:
    """What is left of the budget on dev when the challenge set is paid for; a YAML's rounds spend what they spend."""
    if world.rounds is not None:
        first, start, items = world.rounds
        champion = Champion.model_validate({"contenders": {"start": start, "items": items}})
        return yaml_rounds(champion, world.num_candidates, first)
    arms = world.num_candidates + world.num_references
    budget = arms * PER_ARM - (halving.KEEP + world.num_references) * world.challenge
    return halving.schedule(world.num_candidates, world.dev, budget)


def as_judged(rounds: tuple[halving.Round, ...], values: Floats) -> Floats:
    """The scores that halving asks for; NaN elsewhere."""
    judged = np.full_like(values, np.nan)
    for number, one in enumerate(rounds):
        rows = halving.standing(rounds[: number + 1], values)
        judged[rows, : one.stop] = values[rows, : one.stop]
    return judged


def _decided(world: World, sweep: Drawn, arm: int, kind: Kind, bias: float) -> Decided:
    candidates, references = sweep.truth[: world.num_candidates], sweep.truth[world.num_candidates :]
    mine, others = candidates[arm], np.delete(candidates, arm)
    return Decided(
        kind,
        best=bool(mine >= candidates.max() - 1e-9),
        regret=float(candidates.max() - mine),
        no_better=bool(mine <= references.max() + 1e-9),
        promoted=kind != "none",
        alike=bool(others.max() >= mine - 1e-9),
        bias=float(bias),
    )


def simulate(world: World, num_sweeps: int, seed: int = 0) -> tuple[list[Decided], list[Decided]]:
    """Both procedures on the same sweeps: taking the highest mean, Podium."""
    theirs, ours = [], []
    for number in range(num_sweeps):
        sweep = draw(world, np.random.default_rng([seed, number]))
        theirs.append(highest_mean(world, sweep))
        ours.append(podium(world, sweep, number))
    return theirs, ours


def lower_bound(count: int, total: int, confidence: float = 0.99) -> float:
    """One-sided lower bound of a share, by Clopper and Pearson."""
    return float(beta.ppf(1 - confidence, count, total - count + 1)) if count else 0.0


def false_promotions(decided: Iterable[Decided]) -> tuple[int, int]:
    """How many arms that are no better were promoted, of how many that were named."""
    named = [one.promoted for one in decided if one.no_better]
    return sum(named), len(named)


def false_champions(decided: Iterable[Decided]) -> tuple[int, int]:
    """How many arms were called the one champion, of how many with an equal."""
    named = [one.kind == "champion" for one in decided if one.alike]
    return sum(named), len(named)


def run() -> None:
    """Simulate everything and write the tables."""
    began = time.process_time()
    results = {world: simulate(world, NUM_SWEEPS) for world in WORLDS}
    equal = {world: simulate(world, NUM_SWEEPS, seed=1) for world in EQUAL}
    told = _conditions()
    report("decision", [_row(world, *both) for world, both in results.items()], told)
    report("decision_equal", [_equal_row(world, *both) for world, both in equal.items()], told)
    kept = {world: ours for world, (_, ours) in {**results, **equal}.items()}
    report(
        "decision_optimism",
        _optimism(kept),
        {**told, "sweeps of the bootstrap": OPTIMISM_SWEEPS, "its draws": OPTIMISM_DRAWS},
    )
    rows, conditions = coverage()
    seconds = round(time.process_time() - began)
    report("decision_intervals", rows, {**conditions, "CPU seconds that all four tables took": seconds})


def _conditions() -> dict[str, Any]:
    world = World("", 0)
    return {
        "sweeps": NUM_SWEEPS,
        "candidates": world.num_candidates,
        "budget": f"{PER_ARM} judged items for each candidate and reference, challenge included",
        "unless said": f"level {world.level:g}, incumbent {world.incumbent:+g} and base {world.base:+g} against the "
        f"mean candidate, {world.dev} dev and {world.challenge} challenge items, continuous scores",
        "standard deviations": f"item {world.item:g}; arm by conversation {world.by_cluster:g}, arm by item "
        f"{world.by_item:g}, judge {world.judge:.3f}, together 1",
        "items of a conversation": world.cluster,
        "rounds": ", ".join(f"{one.num_arms} arms to item {one.stop}" for one in rounds_of(PLAIN)),
        "bootstrap draws": NUM_DRAWS,
        "alpha": ALPHA,
        "fails": "where the one-sided 99 % lower bound of a share (Clopper-Pearson) is above alpha",
        "named": "picked: by Podium the one promoted, or the candidate that dev named where nobody is promoted",
        "gain": "points, with its 95 % interval, paired over sweeps",
        "reported score": "of Podium the challenge mean of the arm that it names; errors are standard errors",
    }


def _row(world: World, theirs: list[Decided], ours: list[Decided]) -> dict[str, Any]:
    gain = 100 * (np.array([one.best for one in ours], float) - np.array([one.best for one in theirs], float))
    margin = 1.96 * gain.std(ddof=1) / len(gain) ** 0.5
    met = gain.mean() >= 10 and gain.mean() > margin
    return {
        "setting": world.name,
        "best named, highest mean, %": _percent(one.best for one in theirs),
        "best named, Podium, %": _percent(one.best for one in ours),
        "gain": f"{gain.mean():+.1f} ({gain.mean() - margin:+.1f} to {gain.mean() + margin:+.1f})",
        "10 points": "met" if met else "missed",
        "regret, highest mean": _mean(one.regret for one in theirs),
        "regret, Podium": _mean(one.regret for one in ours),
        "promoted though no better, highest mean": _share(*false_promotions(theirs)),
        "promoted though no better, Podium": _share(*false_promotions(ours)),
        "within alpha": _within(*false_promotions(ours)),
        "one champion though another is as good, highest mean": _share(*false_champions(theirs)),
        "one champion though another is as good, Podium": _share(*false_champions(ours)),
        "within alpha too": _within(*false_champions(ours)),
        "bias of the reported score, highest mean": _with_error(one.bias for one in theirs),
        "bias, Podium": _with_error(one.bias for one in ours),
        "within 0.02": "yes" if abs(_mean(one.bias for one in ours)) <= MAX_BIAS else "MISSED",
        "champion / tie / none, Podium, %": " / ".join(
            f"{_percent(one.kind == kind for one in ours):.1f}" for kind in ("champion", "tie", "none")
        ),
    }


def _equal_row(world: World, theirs: list[Decided], ours: list[Decided]) -> dict[str, Any]:
    promotions = false_promotions(ours)
    return {
        "twenty equal trials": world.name,
        "champion": sum(one.kind == "champion" for one in ours),
        "tie set": sum(one.kind == "tie" for one in ours),
        "none": sum(one.kind == "none" for one in ours),
        "named one champion": _share(*false_champions(ours)),
        "champion within alpha": _within(*false_champions(ours)),
        "promoted though no better": _share(*promotions),
        "promotion within alpha": _within(*promotions),
        "the same, highest mean": _share(*false_promotions(theirs)),
        "bias of the reported score, highest mean": _with_error(one.bias for one in theirs),
        "bias, Podium": _with_error(one.bias for one in ours),
    }


def _optimism(results: dict[World, list[Decided]]) -> list[dict[str, Any]]:
    """What is left of the winner's optimism on dev by each way to correct it."""
    bootstrapped = {WORLDS[1], PLAIN, WORLDS[4], EQUAL[0]}
    return [
        {
            "setting": world.name if world in WORLDS else f"twenty equal trials, {world.name}",
            "dev mean": _with_error(one.dev_bias for one in ours),
            "bootstrap": _with_error(_bootstrapped(world)) if world in bootstrapped else None,
            "shrunk (Podium)": _with_error(one.corrected_bias for one in ours),
            "challenge mean": _with_error(one.bias for one in ours),
            "challenge mean, where promoted": _with_error(one.bias for one in ours if one.promoted),
            "shrunk, where promoted": _with_error(one.corrected_bias for one in ours if one.promoted),
            "promoted": sum(one.promoted for one in ours),
        }
        for world, ours in results.items()
    ]


def _bootstrapped(world: World) -> list[float]:
    """The bias that is left if optimism is taken to be what the winner of resampled items gains on average.

    Items are drawn anew within each round, halving is done again, and the winner's mean is compared with its own mean
    over the items that were judged.
    """
    rounds, left = rounds_of(world), []
    stops = [0, *(one.stop for one in rounds)]
    for number in range(OPTIMISM_SWEEPS):
        sweep = draw(world, np.random.default_rng([0 if world in WORLDS else 1, number]))
        rng = np.random.default_rng(number)
        values = sweep.dev[: world.num_candidates]
        judged = as_judged(rounds, values)
        winner = halving.ranked(rounds, values)[0]
        gained = []
        for _ in range(OPTIMISM_DRAWS):
            order = np.concatenate([rng.integers(a, b, b - a) for a, b in pairwise(stops)])
            drawn = judged[:, order]
            best = halving.ranked(rounds, drawn)[0]
            gained.append(np.nanmean(drawn[best]) - np.nanmean(judged[best]))
        left.append(float(np.nanmean(judged[winner]) - np.mean(gained) - sweep.truth[winner]))
    return left


def _percent(flags: Iterable[bool]) -> float:
    return 100 * float(np.mean(list(flags)))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _with_error(values: Iterable[float]) -> str | None:
    """Mean and standard error."""
    found = np.array(list(values))
    return f"{found.mean():+.3f} ± {found.std(ddof=1) / len(found) ** 0.5:.3f}" if len(found) > 1 else None


def _share(count: int, total: int) -> str | None:
    return f"{100 * count / total:.1f} % ({count} of {total})" if total else None


def _within(count: int, total: int) -> str | None:
    if not total:
        return None
    bound = lower_bound(count, total)
    return f"{'FAILS' if bound > ALPHA else 'yes'}, bound {100 * bound:.1f} %"
