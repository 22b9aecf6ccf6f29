"""A trial's session in a pack worker: the side of the light client, which loads no torch.

Whatever happens to the pack, the trial is the client's: it joins again, the same pack started anew or another one, from
the trial's last checkpoint, and Ray Tune counts no failure.
"""

import os
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers import checkpoints
from launchers.pools import LABEL
from recipes.engines.protocol import Diverged, Job, Report, TrainingFailed
from sweeps.errors import InvalidInput, Problem

LOOK_S = 10.0  # between two looks whether a silent pack is alive
HUNG_S = 600.0  # without a single forward pass
JOIN_S = 300.0  # until some pack has room: one that died loads its base again
MAX_LOST = 5  # packs lost in a row, with no report between them


@dataclass(frozen=True)
class PackAddress:
    """Where a client finds the packs of its sweep: Ray actors by name, the one to try first before the others."""

    names: tuple[str, ...]
    first: int

    def in_order(self) -> list[str]:
        """All of them, from the first to try on."""
        return [*self.names[self.first :], *self.names[: self.first]]


class _Lost(Exception):
    """The pack is gone, or no longer knows us."""


class PackSlot:
    """See :class:`recipes.engines.protocol.Session`."""

    def __init__(self, address: PackAddress, job: Job) -> None:
        self._address, self._job = address, job
        self._pack: Any = None
        self._token = ""
        self._busy_before = 0.0  # of slots that were lost
        self._busy = 0.0
        self.energy_j: float | None = None  # its share of its packs' energy; None where a pack does not measure it
        self._energy_before: float | None = 0.0  # of slots that were lost
        self.lost_s = 0.0  # about what packs that died had used for it since its last report
        self._told = time.monotonic()
        self._process = ("", 0)  # the pack's node and process
        self.labels: dict[str, str] = {}  # of the pack's node
        self._company = 0  # other trials in the pack, when it last reported
        self._is_saved = False  # the trial's last checkpoint is what the pack has of it
        self._join()

    @property
    def busy_s(self) -> float:
        """This trial's share of its packs' seconds."""
        return self._busy_before + self._busy

    def advance(self) -> Report:
        """See :class:`recipes.engines.protocol.Session`."""
        if self._company and self._is_saved:
            self._move()
        answer = self._recovering(self._advance)
        self._busy, self._company, self._is_saved = answer["busy_s"], answer["here"] - 1, False
        joules = answer["energy_j"]
        self.energy_j = None if None in (joules, self._energy_before) else self._energy_before + joules
        self._told = time.monotonic()
        return Report(answer["step"], answer["metrics"], answer["done"])

    def save(self, folder: Path) -> None:
        """See :class:`recipes.engines.protocol.Session`."""

        def again() -> dict[str, Any]:
            try:
                return self._call("save", str(folder))
            except _Lost:
                # With the pack went what had been trained since the last checkpoint.
                self._rejoin()
                self._recovering(self._advance)
                raise

        self._recovering(again, rejoin=False)
        self._is_saved = True

    def close(self) -> None:
        """See :class:`recipes.engines.protocol.Session`."""
        if self._pack is not None:
            self._pack.leave.remote(self._token)
            self._pack = None

    def _advance(self) -> dict[str, Any]:
        return self._call("advance")

    def _recovering(self, call: Any, *, rejoin: bool = True) -> dict[str, Any]:
        """Call the pack; join again where it is lost."""
        for lost in range(MAX_LOST + 1):
            try:
                result: dict[str, Any] = call()
            except _Lost as error:
                if lost == MAX_LOST:
                    raise TrainingFailed(f"the pack was lost {MAX_LOST + 1} times in a row: {error}") from None
                if rejoin:
                    self._rejoin()
                continue
            if "error" in result:
                raise error_of(result)
            return result
        raise AssertionError

    def _rejoin(self) -> None:
        self.lost_s += (time.monotonic() - self._told) / (self._company + 1)
        self._leave_behind()
        self._join()
        self._told = time.monotonic()

    def _leave_behind(self) -> None:
        """Keep what the slot so far has used: the next one counts from 0."""
        self._busy_before, self._busy, self._energy_before = self.busy_s, 0.0, self.energy_j

    def _join(self) -> None:
        deadline = time.monotonic() + JOIN_S
        while time.monotonic() < deadline:
            if any(self._joins(name) for name in self._address.in_order()):
                return
            time.sleep(0.2)
        raise TrainingFailed(f"no pack took the trial within {JOIN_S:.0f} s")

    def _joins(self, name: str, *, only_if_idle: bool = False) -> bool:
        """Whether this pack takes the trial, from its last checkpoint."""
        import ray

        checkpoint = checkpoints.latest(self._job.folder)
        me = [ray.get_runtime_context().current_actor] if ray.get_runtime_context().get_actor_id() else []
        self._token = uuid.uuid4().hex
        try:
            self._pack = ray.get_actor(name)
            answer = self._call("join", self._job.fields(), str(checkpoint) if checkpoint else None, me, only_if_idle)
        except (ValueError, _Lost):  # Ray starts it anew
            return False
        if "error" in answer:
            raise error_of(answer)
        if answer["joined"]:
            self.labels, self._process = answer["labels"], (answer["node"], answer["pid"])
        return bool(answer["joined"])

    def _move(self) -> None:
        """Go to a pack of our kind that has nothing to do: towards a sweep's end one is empty while another is full."""
        here, token = self._pack, self._token
        for name in self._address.in_order():
            if _idle_like(name, self.labels) and self._joins(name, only_if_idle=True):
                here.leave.remote(token)
                self._leave_behind()
                return
            self._pack, self._token = here, token

    def _call(self, method: str, *arguments: Any) -> dict[str, Any]:
        """Call the pack and watch it while it works.

        Raises:
            _Lost: It has died, it hangs, or it knows our slot no longer.
        """
        import ray

        reference = getattr(self._pack, method).remote(self._token, *arguments)
        beat, since = -1, time.monotonic()
        while True:
            try:
                answer: dict[str, Any] = ray.get(reference, timeout=LOOK_S)
            except ray.exceptions.GetTimeoutError:
                now = self._beat()
                if now != beat:
                    beat, since = now, time.monotonic()
                elif time.monotonic() - since > (JOIN_S if method == "join" else HUNG_S):  # it may be loading its base
                    self._end_pack()
                    raise _Lost("it did nothing for too long") from None
                continue
            except ray.exceptions.RayError as error:
                time.sleep(0.2)  # Ray is starting it anew
                raise _Lost(str(error).strip().splitlines()[0]) from None
            if answer is not None and answer.get("error") == "gone":
                raise _Lost(answer["message"])
            return answer

    def _end_pack(self) -> None:
        """End a pack that hangs; Ray starts it anew. Ray asks a process to end, which one that is stopped cannot."""
        import ray

        node, pid = self._process
        ray.kill(self._pack, no_restart=False)
        if node == ray.get_runtime_context().get_node_id():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _beat(self) -> int:
        import ray

        try:
            return int(ray.get(self._pack.beat.remote(), timeout=LOOK_S))
        except ray.exceptions.RayError:
            return -1


def _idle_like(name: str, labels: dict[str, str]) -> bool:
    """Whether a pack has nothing to do, on the same kind of device."""
    import ray

    try:
        there = ray.get(ray.get_actor(name).idle.remote(), timeout=LOOK_S)
    except (ValueError, ray.exceptions.RayError):
        return False
    return there is not None and there.get(LABEL) == labels.get(LABEL)


def error_of(answer: dict[str, Any]) -> Exception:
    """The exception that a pack's error stands for."""
    if answer["error"] == "input":
        return InvalidInput([Problem(**problem) for problem in answer["problems"]])
    return (Diverged if answer["error"] == "diverged" else TrainingFailed)(answer["message"])
