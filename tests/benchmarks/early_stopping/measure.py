"""Trains whole grids of the demo's sweep, nothing stopped, and writes their loss curves to ``results/``.

    python -m tests.benchmarks.early_stopping.measure                 # goes on where it was interrupted
    python -m tests.benchmarks.early_stopping.measure --grids 1       # a small one

A grid is the demo's space with ``search.algorithm=random``, one for each search seed. All grids hold the recipe's
default values as their first trial, which is trained once. Beside them: repeats of some points with other training
seeds, which show what a loss is worth. Trials share packs of this one process, as they do in a sweep; validating more
often changes no weight.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launchers import home
from launchers.build import Built, build
from launchers.run_folder import commit, validation_file
from recipes.bases import locate
from recipes.data import splits
from recipes.engines.protocol import Diverged, Job
from recipes.schema import Recipe
from sweeps.design_points import planned_points
from sweeps.trial import Trial, make_trial

RESULTS = Path(__file__).resolve().parents[1] / "results" / "early_stopping_curves.json"
SWEEP = Path(__file__).resolve().parents[3] / "sweeps" / "quickstart.yaml"
VALIDATE_EVERY = 3
AT_ONCE = 4  # trials of a pack
NUM_REPEATS = 5  # training seeds of a point
TIMED_STEPS = 30
NUM_POINTS = 4  # points that are repeated: the default and the best of the first grid


class Curves:
    """The measured curves, kept on the disk after each pack.

    ``trials`` by id: values, training seed, ``val/loss`` at each of ``steps`` (fewer where the trial diverged),
    ``train/loss`` at every step, seconds of one core.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = (
            json.loads(path.read_text()) if path.exists() else {"grids": {}, "repeats": [], "trials": {}}
        )

    @property
    def trials(self) -> dict[str, Any]:
        return dict(self.content["trials"])

    def final(self, trial: str) -> float:
        """The loss at the end; infinite where the trial diverged."""
        losses = self.trials[trial]["val/loss"]
        return float(losses[-1]) if len(losses) == len(self.content["steps"]) else float("inf")

    def keep(self) -> None:
        """Write everything, a trial a line."""
        trials = self.content["trials"]
        head = {key: value for key, value in self.content.items() if key != "trials"}
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(trials[key])}" for key in trials)
        part = self.path.with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(head, indent=1)[:-2] + f',\n "trials": {{\n{lines}\n }}\n}}\n')
        part.replace(self.path)


class Bench:
    """The demo's base in memory, and packs on it."""

    def __init__(self, curves: Curves, engine_commit: str | None) -> None:
        import torch

        from recipes.engines.packed.network import Network

        torch.set_num_threads(1)
        self.curves = curves
        self.built = sweep_of(0)
        self.paths = splits.write(self.built.rows, home.cache_folder())
        recipe = Recipe.model_validate(self.built.sweep.settings)
        self.base = str(locate(recipe.base, self.built.base_dir))
        self.network = Network(self.base, recipe.base, "cpu")
        steps = recipe.train.max_steps
        curves.content.setdefault("about", describe(engine_commit, self.built))
        curves.content.setdefault("steps", list(range(VALIDATE_EVERY, steps + 1, VALIDATE_EVERY)))

    def measure(self, trials: Sequence[Trial], words: str) -> None:
        """Train what is not known yet."""
        missing = [trial for trial in trials if trial.id not in self.curves.content["trials"]]
        for start in range(0, len(missing), AT_ONCE):
            begun = time.perf_counter()
            self._train(missing[start : start + AT_ONCE])
            self.curves.keep()
            done = len(trials) - len(missing) + min(len(missing), start + AT_ONCE)
            print(f"{words}: {done} of {len(trials)} trials, {time.perf_counter() - begun:.0f} s", flush=True)

    def _train(self, trials: Sequence[Trial]) -> None:
        from recipes.engines.packed.pack import Pack

        pack = Pack(self.network)
        numbers = {pack.admit(self.job(trial), None): trial for trial in trials}
        validation: dict[int, list[float]] = {number: [] for number in numbers}
        training: dict[int, list[float]] = {number: [] for number in numbers}
        for number in numbers:
            pack.ask(number)
        while pack.round():
            for number in numbers:
                one = pack.trials[number]
                if one.step > len(training[number]):
                    training[number].append(round(one.loss, 5))
                if one.target is None and one.outcome is not None and not isinstance(one.outcome, Diverged):
                    validation[number].append(round(one.outcome.metrics["val/loss"], 5))
                    one.outcome = None
                    if one.step < one.recipe.train.max_steps:
                        pack.ask(number)
        for number, trial in numbers.items():
            self.curves.content["trials"][trial.id] = {
                "values": trial.values,
                "seed": trial.seed,
                "val/loss": validation[number],
                "train/loss": training[number],
                "seconds": round(pack.trials[number].busy_s, 2),
            }

    def job(self, trial: Trial) -> Job:
        validation = validation_file(self.paths, Recipe.model_validate(trial.settings).train.validation_rows)
        return Job(trial.settings, self.base, self.paths["train"], validation, self.paths["train"].parent, "cpu", 1)


def sweep_of(seed: int) -> Built:
    """The demo's sweep with a search seed, stopping nothing, validating often."""
    changes = [f"search.seed={seed}", "search.algorithm=random", f"set.train.validate_every={VALIDATE_EVERY}"]
    return build(SWEEP, changes)


def describe(engine_commit: str | None, built: Built) -> dict[str, Any]:
    """What was measured, on what."""
    names = ("torch", "transformers")
    return {
        "what": "val/loss and train/loss of the demo's trials, none stopped early",
        "commit": engine_commit,
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
        "machine": f"{platform.machine()}, one core of a shared virtual machine, one torch thread",
        "base": built.sweep.facts.base_identity,
        "data": built.sweep.facts.data_identity,
    }


def validation_in_steps(bench: Bench) -> float:
    """Optimizer steps of a trial that take as long as one validation, by this process's CPU time."""
    from recipes.engines.packed.pack import Pack

    trials = planned_points(bench.built.sweep).trials[:AT_ONCE]

    def seconds(every: int) -> float:
        pack = Pack(bench.network)
        begun = time.process_time()
        for trial in trials:
            train = {**trial.settings["train"], "validate_every": every}
            pack.ask(pack.admit(bench.job(replace(trial, settings={**trial.settings, "train": train})), None))
        while any(one.step < TIMED_STEPS for one in pack.trials.values()):
            for number, one in pack.trials.items():
                if one.target is None:
                    pack.ask(number)
            pack.round()
        return time.process_time() - begun

    seconds(TIMED_STEPS)  # the planner tries its chunk sizes
    seldom, often = seconds(TIMED_STEPS), seconds(VALIDATE_EVERY)
    validation = (often - seldom) / (TIMED_STEPS / VALIDATE_EVERY - 1)
    return round(validation / ((seldom - validation) / TIMED_STEPS), 2)


def repeats_of(bench: Bench, ids: Iterable[str], grid: Sequence[Trial]) -> list[list[str]]:
    """The same points with other training seeds; a list of ids for each point."""
    found = []
    for key in ids:
        point = next(trial for trial in grid if trial.id == key)
        again = [make_trial(bench.built.sweep, point.number, point.values, k) for k in range(NUM_REPEATS)]
        bench.measure(again, f"repeats of trial {point.number}")
        found.append([trial.id for trial in again])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=10, help="search seeds, from 0 (default: 10)")
    parser.add_argument("--to", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    options = parser.parse_args()
    curves = Curves(options.to)
    bench = Bench(curves, commit())
    about = curves.content["about"]
    if "validation_in_steps" not in about:
        about["validation_in_steps"] = validation_in_steps(bench)
    grids: list[list[Trial]] = []
    for seed in range(options.grids):
        grids.append(list(planned_points(sweep_of(seed).sweep).trials))
        bench.measure(grids[-1], f"grid {seed}")
        curves.content["grids"][str(seed)] = [trial.id for trial in grids[-1]]
        if seed == 0:
            best = sorted((trial.id for trial in grids[0][1:]), key=curves.final)[: NUM_POINTS - 1]
            curves.content["repeats"] = repeats_of(bench, [grids[0][0].id, *best], grids[0])
        curves.keep()


if __name__ == "__main__":
    main()
