"""How many trials share a forward pass: measured on the first real steps, never more than pays.

Small steps gain from company: what each launch and each read of the base costs is shared. Large steps lose by it: their
tensors leave the cache. So for each size of step a few numbers of trials are timed, one at a time among them, and the
fastest is kept. Timing is done on steps that are needed anyway: a trial's result does not depend on its company.
"""

import math
from dataclasses import dataclass, field
from typing import Any

SATURATED_TOKENS = {
    "cpu": 1024,
    "cuda": 8192,
}  # from so many tokens a pass on, more bring little; where the search starts
FEWEST_SLOTS = {"cpu": 1, "cuda": 2}
SAMPLES = 5
CLEARLY = 0.95  # a larger chunk must take at most this share of a smaller one's time; timings vary by less than that


def slots_worth(device: str, step_tokens: int) -> int:
    """Trials that a pack should hold: as many as fill a forward pass.

    On a GPU two at least, so that one trains while another one is saved. On a CPU the second client would cost more
    than that brings: it starts on the cores that train.

    Args:
        device: "cpu" or "cuda".
        step_tokens: What a trial computes in one forward pass.
    """
    return max(FEWEST_SLOTS[device], SATURATED_TOKENS[device] // max(1, step_tokens))


@dataclass
class Planner:
    """Chunk sizes by the size of a trial's step.

    Args:
        device: "cpu" or "cuda".
        known: What an earlier session of the sweep measured, as ``decisions`` gives it.
    """

    device: str
    known: dict[str, int] = field(default_factory=dict)
    _seconds: dict[int, dict[int, list[float]]] = field(default_factory=dict)

    def size(self, tokens: int, num_trials: int) -> int:
        """How many trials of so many tokens go together, out of so many that are ready."""
        key = _bucket(tokens)
        if str(key) in self.known:
            return min(self.known[str(key)], num_trials)
        seconds = self._seconds.setdefault(key, {})
        possible = [size for size in self._candidates(key) if size <= num_trials]
        for size in possible:
            if len(seconds.get(size, ())) < SAMPLES:
                return size
        best = 1
        for size in possible:
            if min(seconds[size]) < CLEARLY * min(seconds[best]):
                best = size
        if len(possible) == len(self._candidates(key)):
            self.known[str(key)] = best
        return best

    def record(self, tokens: int, size: int, seconds: float) -> None:
        """A chunk of so many trials took so long for one step."""
        self._seconds.setdefault(_bucket(tokens), {}).setdefault(size, []).append(seconds / size)

    @property
    def decisions(self) -> dict[str, int]:
        """Chunk size by tokens of a trial's step (rounded up to a power of two), where it is decided."""
        return dict(self.known)

    @property
    def measured(self) -> dict[str, Any]:
        """Seconds a trial and step, by tokens and chunk size."""
        return {
            str(key): {str(size): min(times) for size, times in sorted(sizes.items())}
            for key, sizes in sorted(self._seconds.items())
        }

    def _candidates(self, key: int) -> list[int]:
        guess = max(1, SATURATED_TOKENS[self.device] // key)
        return sorted({1, max(1, guess // 2), guess, 2 * guess})


def _bucket(tokens: int) -> int:
    return 1 << math.ceil(math.log2(max(1, tokens)))
