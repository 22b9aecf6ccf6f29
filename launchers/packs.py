"""The packs of a session, seen from the driver: one worker for each GPU or core, and who goes into which."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launchers.build import Built
from launchers.pack_slot import PackAddress, error_of
from launchers.pack_worker import PackWorker
from launchers.pools import selector
from recipes.bases import locate
from recipes.engines.packed.planner import slots_worth
from recipes.schema import Recipe
from sweeps.facts import Pool
from sweeps.latency import Latency
from tracking.ledger import Ledger

PLAN = "packs.json"  # in the run's folder: what the planner measured

CLIENT_CPU = 0.01  # a client waits nearly all the time
THREADS = 4 + 4  # of a worker's calls, beside three for each slot


def make_packs(built: Built, ledger: Ledger, have: Mapping[str, int]) -> "Packs":
    """The packs of a sweep's session."""
    settings = built.sweep.settings
    recipe = Recipe.model_validate(settings)
    spec = built.sweep.spec
    base = str(locate(recipe.base, built.base_dir) or recipe.base.path)
    step_tokens = int(built.sweep.facts.tokens_per_row * recipe.train.micro_batch_size)
    at_once = min(spec.search.num_trials, spec.concurrency or spec.search.num_trials)
    plan = ledger.folder / PLAN
    decisions = json.loads(plan.read_text(encoding="utf-8"))["chunks"] if plan.is_file() else {}
    return Packs(built.pools, have, (base, settings["base"]), step_tokens, at_once, decisions)


def keep_plan(folder: Path, told: dict[str, Any], say: Callable[[str], None]) -> None:
    """Keep what the planner measured with the run, for its next session, and say it."""
    if not told:
        return
    (folder / PLAN).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if told["why_no_trees"]:
        say(f"rows did not share their prefixes: {told['why_no_trees']}")
    if told.get("why_no_flex"):
        say(f"attention went over dense masks: {told['why_no_flex']}")
    for tokens, size in sorted(told["chunks"].items(), key=lambda entry: int(entry[0])):
        say(f"steps of up to {tokens} tokens: trials per forward pass {size}, as measured")


class Packs:
    """Starts the workers; they live as long as the session.

    Args:
        have: Units (GPUs, cores) of each pool.
        base: The base that most trials adapt; see :class:`launchers.pack_worker.PackWorker`.
        step_tokens: What a trial computes in one forward pass, about.
        at_once: The most trials that may run at once: more packs, or slots, are never needed.
        decisions: What the planner measured in an earlier session.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        have: Mapping[str, int],
        base: tuple[str, dict[str, Any]],
        step_tokens: int,
        at_once: int,
        decisions: dict[str, int],
    ) -> None:
        import ray

        gpu = pools[0].device == "gpu"
        units = [pool for pool in pools for _ in range(have[pool.name])][:at_once]
        self.slots_per_pack = max(1, min(slots_worth("cuda" if gpu else "cpu", step_tokens), -(-at_once // len(units))))
        self.names: tuple[str, ...] = tuple(f"pack-{number}" for number in range(len(units)))
        self._handles = []
        self._assigned: dict[str, int] = {}  # our trial's id: the pack that it is sent to
        share = max(0.0, 1.0 - CLIENT_CPU * self.slots_per_pack)
        for name, pool in zip(self.names, units, strict=True):
            options: dict[str, Any] = {"num_cpus": share}
            if gpu:
                options |= {"num_gpus": 1, "label_selector": selector([pool])}
            worker = ray.remote(PackWorker).options(
                name=name, max_restarts=-1, max_concurrency=THREADS + 3 * self.slots_per_pack, **options
            )
            self._handles.append(worker.remote(base, pools[0].device, 1, self.slots_per_pack, decisions, len(units)))

    @property
    def capacity(self) -> int:
        """Trials at once."""
        return len(self.names) * self.slots_per_pack

    def fit(self, job: dict[str, Any]) -> None:
        """Wait until the base is loaded, and hold no more trials than memory has room for.

        Args:
            job: The fields of a trial's ``Job``, as a client hands them to its pack.

        Raises:
            InvalidInput: Not a single such trial fits.
        """
        import ray

        for answer in ray.get([handle.places.remote(job) for handle in self._handles]):
            if "error" in answer:
                raise error_of(answer)
            self.slots_per_pack = max(1, min(self.slots_per_pack, answer["places"]))

    def address(self, trial: str, running: Sequence[str]) -> PackAddress:
        """Where a trial goes: the pack with the fewest of those that are running (our ids)."""
        loads = Counter(self._assigned[other] for other in running if other in self._assigned)
        chosen = min(range(len(self.names)), key=lambda place: loads[place])
        self._assigned[trial] = chosen
        return PackAddress(self.names, chosen)

    def evaluate(self, jobs: Sequence[Any], place: int) -> Any:
        """Start an evaluation of several arms on one pack; a reference to a result for each."""
        return self._handles[place].evaluate.remote(list(jobs))

    def measure(self, jobs: Sequence[Any], latency: Latency) -> Any:
        """Start measuring latency on the first pack; nothing else may be running."""
        return self._handles[0].measure.remote(list(jobs), latency)

    def stop(self) -> None:
        """End the workers, and free what they hold."""
        import ray

        for handle in self._handles:
            ray.kill(handle)

    def decisions(self) -> dict[str, Any]:
        """What the first pack's planner has decided; the others decide alike on a like machine."""
        import ray

        try:
            told: dict[str, Any] = ray.get(self._handles[0].decisions.remote(), timeout=10)
        except ray.exceptions.RayError:
            return {}
        return told
