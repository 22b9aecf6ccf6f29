"""A pack worker: the Ray actor that holds a base and trains the trials in its slots, one process for each GPU or core.

One thread does all the work with torch. Calls from outside (Ray runs each in a thread of its own) hand it what is to be
done and wait. Every answer is plain values, an error too: so nothing depends on how Ray pickles exceptions.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from launchers.evaluation import Answer, EvaluationJob, items_of, limit_threads, measure, scored
from recipes.engines.packed.memory import NoRoom
from recipes.engines.protocol import Diverged, Job, TrainingFailed
from sweeps.errors import InvalidInput
from sweeps.latency import Latency
from tracking.meters.energy import EnergyMeter

PING_S = 1.0
IDLE_CLIENT_S = 600.0  # a client that holds a slot and asks for nothing has hung
GONE = {"error": "gone", "message": "the pack knows no such slot"}


@dataclass
class _Slot:
    """A trial's place in a pack.

    Attributes:
        asked: Set while the client waits for a report.
        energy_j: Its share of the GPU's energy in the rounds that trained it; None where that is not measured.
        quiet_since: When it last had what it asked for.
    """

    pack: Any
    number: int
    asked: "Future[dict[str, Any]] | None" = None
    energy_j: float | None = 0.0
    quiet_since: float = field(default_factory=time.monotonic)


class PackWorker:
    """See the module. Everything public is called by Ray.

    Args:
        base: The base that most trials adapt, as a job has it: its path, and the recipe's ``base`` block.
        device: "cpu" or "gpu".
        threads: CPU threads of torch.
        num_slots: Trials at once.
        decisions: Chunk sizes that an earlier session measured; see ``packed.planner``.
        num_packs: How many packs share this machine's memory; a GPU's is one pack's own.
    """

    def __init__(
        self,
        base: tuple[str, dict[str, Any]],
        device: str,
        threads: int,
        num_slots: int,
        decisions: dict[str, int],
        num_packs: int = 1,
    ) -> None:
        self._device, self._threads, self._num_slots, self._decisions = device, threads, num_slots, decisions
        self._num_packs = num_packs
        self._packs: dict[str, Any] = {}
        self._slots: dict[str, _Slot] = {}
        self._answering = 0  # calls of ``evaluate``
        self._todo: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._beats = 0
        self._meter = EnergyMeter(device)
        threading.Thread(target=self._work, daemon=True, name="pack").start()
        self._loading = self._submit(lambda: self._pack(*base) and None)  # while the clients start

    def join(
        self, token: str, job: dict[str, Any], checkpoint: str | None, client: Any, only_if_idle: bool = False
    ) -> dict[str, Any]:
        """Give a trial a slot.

        Args:
            token: Names the slot; new for each attempt to join.
            job: The fields of a ``Job``.
            checkpoint: Where to go on from.
            client: Its actor, in a list, so that Ray hands over the handle itself; its death frees the slot.
            only_if_idle: Not where there is anything else to do.

        Returns:
            ``joined`` (False: all slots are taken, or memory has no room for one more), this process's ``pid``, its
            ``node``, and the ``labels`` of this node; or an error.
        """
        return self._do(lambda: self._join(token, job, checkpoint, client, 1 if only_if_idle else self._num_slots))

    def idle(self) -> dict[str, str] | None:
        """The labels of this node, or None while there is anything to do. Answers at once, in the midst of a round."""
        return None if self._slots or self._answering else _node_labels()

    def places(self, job: dict[str, Any]) -> dict[str, Any]:
        """How many trials like this one can be here at once, at most ``num_slots``: ``places``, or an error.

        Args:
            job: As for ``join``.
        """

        def places() -> dict[str, Any]:
            typed = Job.of(job)
            pack = self._pack(typed.base, typed.settings["base"])
            return {"places": min(self._num_slots, pack.room.most_slots(pack.need(typed)))}

        return self._do(places)

    def advance(self, token: str) -> dict[str, Any]:
        """Train a trial to its next report.

        Returns:
            ``step``, ``metrics``, ``done``, ``busy_s``, ``energy_j``, and how many trials are ``here``; or an error.
        """
        slot = self._slots.get(token)
        if slot is None:
            return GONE
        asked: Future[dict[str, Any]] = Future()

        def ask() -> None:
            slot.asked = asked
            slot.pack.ask(slot.number)

        self._submit(ask)
        return asked.result()

    def save(self, token: str, folder: str) -> dict[str, Any]:
        """Write a trial's state at its last report; see ``recipes.engines.protocol.Session.save``."""

        def save() -> dict[str, Any]:
            slot = self._slots.get(token)
            if slot is None:
                return GONE
            slot.pack.save(slot.number, Path(folder))
            return {}

        return self._do(save)

    def leave(self, token: str) -> None:
        """Free a slot. Unknown ones are none."""
        self._submit(lambda: self._drop(token, "it left"))

    def beat(self) -> int:
        """Counts forward passes: as long as it grows, the pack is alive."""
        return self._beats + sum(int(pack.beats) for pack in list(self._packs.values()))

    def decisions(self) -> dict[str, Any]:
        """What the planner has decided and measured."""
        packs = list(self._packs.values())
        if not packs:
            return {"chunks": {}, "measured": {}, "why_no_trees": None, "why_no_flex": None}
        from recipes.engines.packed import flex

        planner = packs[0].planner
        return {
            "chunks": planner.decisions,
            "measured": planner.measured,
            "why_no_trees": packs[0].network.why_no_trees,
            "why_no_flex": flex.why_not(),  # on a GPU
        }

    def evaluate(self, jobs: list[EvaluationJob]) -> list[dict[str, Any]]:
        """Answer and score several arms, those with the same items together; a result or an error for each."""
        self._answering += 1
        try:
            return self._evaluate(jobs)
        finally:
            self._answering -= 1

    def _evaluate(self, jobs: list[EvaluationJob]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = [{} for _ in jobs]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, job in enumerate(jobs):
            asked = (job.rows, job.limit, job.system, str(job.schema), job.max_new_tokens)
            key = (job.base, str(job.base_settings), *asked)
            groups.setdefault(key, []).append(place)
        for places in groups.values():
            first = jobs[places[0]]
            answered = self._do(partial(self._answer, [jobs[place] for place in places]))
            if "error" in answered:
                for place in places:
                    results[place] = answered
                continue
            items = items_of(first)
            for place, answers in zip(places, answered["answers"], strict=True):
                try:  # apart from the training thread: a judge is waited for
                    used = answered["seconds"] / len(places)
                    results[place] = scored(jobs[place], items, answers, used)
                    joules = answered["energy_j"]
                    results[place]["detail"] |= {
                        "machine_s": round(used, 2),  # scoring leaves the pack to the trials
                        "energy_j": None if joules is None else round(joules / len(places), 1),
                    }
                except Exception as error:
                    results[place] = {"error": "evaluation", "message": str(error) or type(error).__name__}
        return results

    def measure(self, jobs: list[EvaluationJob], latency: Latency) -> list[dict[str, Any]]:
        """Latency of several arms, one after the other, in this process; see ``launchers.evaluation.measure``."""
        measured = self._do(lambda: {"results": measure(jobs, latency, self._alone)})
        if "error" in measured:
            raise RuntimeError(measured["message"])
        results: list[dict[str, Any]] = measured["results"]
        return results

    def _alone(self, job: EvaluationJob) -> Answer:
        from recipes.engines.packed.decode import load_adapter, texts

        network = self._pack(job.base, job.base_settings).network
        adapter = load_adapter(network, Path(job.adapter) if job.adapter else None)

        def answer(prompts: Sequence[Any]) -> list[str]:
            self._beats += 1
            return texts(network, [adapter], prompts, job.max_new_tokens, job.schema)[0]

        return answer

    def _join(self, token: str, raw: dict[str, Any], checkpoint: str | None, client: Any, most: int) -> dict[str, Any]:
        if len(self._slots) >= most:
            return {"joined": False}
        job = Job.of(raw)
        pack = self._pack(job.base, job.settings["base"])
        try:
            number = pack.admit(job, Path(checkpoint) if checkpoint else None)
        except NoRoom:
            return {"joined": False}
        self._slots[token] = _Slot(pack, number)
        if client:
            threading.Thread(target=self._watch, args=(token, client[0]), daemon=True, name="client").start()
        return {"joined": True, "labels": _node_labels(), "node": _node(), "pid": os.getpid()}

    def _pack(self, base: str, settings: dict[str, Any]) -> Any:
        """The pack of a base, loaded when it is first asked for."""
        from recipes.schema import Base

        typed = Base.model_validate(settings)
        key = f"{base} {typed.model_dump_json()}"
        if key not in self._packs:
            limit_threads(self._device, self._threads)
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            from recipes.engines.packed.memory import Room, free_bytes, keep_what_is_freed
            from recipes.engines.packed.network import Network
            from recipes.engines.packed.pack import Pack
            from recipes.engines.packed.planner import Planner
            from recipes.lean import lean_imports

            if self._device == "gpu":  # two bases seldom fit; one that nobody trains makes room
                for other in [other for other, pack in self._packs.items() if not pack.trials]:
                    self._beats += self._packs.pop(other).beats
            keep_what_is_freed()
            with lean_imports():
                network = Network(base, typed, self._device)
            planner = Planner(network.device.type, dict(self._decisions))
            room = Room(network.shape, free_bytes(network.device.type, self._num_packs))
            self._packs[key] = Pack(network, planner, room)
        return self._packs[key]

    def _answer(self, jobs: list[EvaluationJob]) -> dict[str, Any]:
        from recipes.engines.packed.decode import load_adapter, texts

        began = time.perf_counter()
        self._meter.lap()
        pack = self._pack(jobs[0].base, jobs[0].base_settings)
        adapters = [load_adapter(pack.network, Path(job.adapter) if job.adapter else None) for job in jobs]
        prompts = [jobs[0].question(item) for item in items_of(jobs[0])]

        def progress() -> None:
            self._beats += 1

        answers = texts(pack.network, adapters, prompts, jobs[0].max_new_tokens, jobs[0].schema, progress)
        return {"answers": answers, "seconds": time.perf_counter() - began, "energy_j": self._meter.lap()}

    def _watch(self, token: str, client: Any) -> None:
        """Free the slot of a client that has died, or that has hung. Its liveness is asked for behind its own work."""
        import ray

        while token in self._slots:
            try:
                alive = ray.get(client.__ray_ready__.remote(), timeout=IDLE_CLIENT_S) is not None
            except ray.exceptions.GetTimeoutError:
                alive = True  # busy, e.g. waiting for us
            except ray.exceptions.RayError:
                alive = False
            slot = self._slots.get(token)
            if slot is None:
                return
            if not alive:
                self._submit(lambda: self._drop(token, "its client died"))
                return
            if slot.asked is None and time.monotonic() - slot.quiet_since > IDLE_CLIENT_S:
                self._submit(lambda: self._drop(token, "its client hangs"))
                return
            time.sleep(PING_S)

    def _drop(self, token: str, why: str) -> None:
        slot = self._slots.pop(token, None)
        if slot is None:
            return
        slot.pack.retire(slot.number)
        if slot.asked is not None:
            slot.asked.set_result({"error": "gone", "message": f"the slot was freed: {why}"})

    def _submit(self, function: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._todo.put((function, future))
        return future

    def _do(self, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Have the working thread do this; what it raises comes back as an error."""
        try:
            result: dict[str, Any] = self._submit(function).result()
        except Exception as error:
            return _told(error)
        return result

    def _work(self) -> None:
        while True:
            # While trials train, look for calls between two rounds; else wait for one.
            training = any(slot.asked is not None for slot in self._slots.values())
            while True:
                try:
                    function, future = self._todo.get(block=not training)
                except queue.Empty:
                    break
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)
                training = True
            for pack in list(self._packs.values()):
                try:
                    self._round(pack)
                except Exception as error:  # e.g. no memory: every trial of the round fails, the pack goes on
                    self._fail(pack, error)
            self._tell()

    def _round(self, pack: Any) -> None:
        """Train the trials that wait, and share out what the GPU took for it as its time is shared out."""
        here = [slot for slot in self._slots.values() if slot.pack is pack]
        before = [pack.trials[slot.number].busy_s for slot in here]
        self._meter.lap()
        if not pack.round():
            return
        joules = self._meter.lap()
        busy = [pack.trials[slot.number].busy_s - begun for slot, begun in zip(here, before, strict=True)]
        for slot, seconds in zip(here, busy, strict=True):
            unknown = joules is None or slot.energy_j is None
            slot.energy_j = None if unknown else slot.energy_j + joules * seconds / (sum(busy) or 1.0)

    def _tell(self) -> None:
        """Answer the clients whose trials have come to a report."""
        for slot in self._slots.values():
            outcome = slot.pack.trials[slot.number].outcome if slot.asked is not None else None
            if slot.asked is None or outcome is None:
                continue
            if isinstance(outcome, Diverged):
                answer = _told(outcome)
            else:
                answer = {"step": outcome.step, "metrics": outcome.metrics, "done": outcome.done}
            asked, slot.asked, slot.quiet_since = slot.asked, None, time.monotonic()
            busy_s = slot.pack.trials[slot.number].busy_s
            used = {"busy_s": busy_s, "energy_j": slot.energy_j}
            asked.set_result({**answer, **used, "here": len(self._slots)})

    def _fail(self, pack: Any, error: Exception) -> None:
        for token, slot in list(self._slots.items()):
            if slot.pack is pack and slot.asked is not None:
                asked, slot.asked = slot.asked, None
                self._drop(token, "its round failed")
                asked.set_result(_told(error))


def _told(error: Exception) -> dict[str, Any]:
    """An error as values."""
    if isinstance(error, InvalidInput):
        return {"error": "input", "message": str(error), "problems": [vars(problem) for problem in error.problems]}
    if isinstance(error, Diverged):
        return {"error": "diverged", "message": str(error)}
    known = isinstance(error, TrainingFailed)
    return {"error": "training", "message": str(error) if known else f"{type(error).__name__}: {error}"}


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _node_labels() -> dict[str, str]:
    import ray

    here = _node()
    return next((dict(node.get("Labels", {})) for node in ray.nodes() if node["NodeID"] == here), {})
