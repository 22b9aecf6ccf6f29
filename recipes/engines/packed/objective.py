"""What a trial makes smaller: cross-entropy, or a preference loss. Both are made of sums of nats over runs of targets.

A forward pass gives each trial the summed cross-entropy (nats) of some runs of its targets. To learn by example
(``Likelihood``) one sum over all of them is enough. To prefer one answer to another (``Preferring``) each answer is a
run: its sum is minus the answer's log-probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from recipes.engines.packed.network import Batch
from recipes.schema import Preference, Recipe


class Objective(Protocol):
    """What one trial makes smaller."""

    def runs(self, batch: Batch) -> Sequence[int]:
        """How many targets each sum is over, in the order of the batch's layout."""

    def weight(self, whole: Sequence[Batch]) -> float:
        """What each sum is multiplied by before ``loss`` is handed it.

        Args:
            whole: The parts of the step's batch.
        """

    def loss(self, nats: torch.Tensor, batch: Batch, whole: Sequence[Batch]) -> torch.Tensor:
        """A part's share in the loss of the step, differentiable.

        Args:
            nats: (runs,) weighted sums, float32.
            batch: The part.
        """

    def figures(self, nats: torch.Tensor, batches: Sequence[Batch]) -> dict[str, float]:
        """What to report of the validation split, ``val/loss`` among it.

        Args:
            nats: (runs of all batches,) plain sums.
        """


@dataclass(frozen=True)
class Likelihood:
    """Supervised fine-tuning: the mean cross-entropy over all targets of the batch."""

    def runs(self, batch: Batch) -> Sequence[int]:
        """See ``Objective``."""
        return (len(batch.layout.targets),)

    def weight(self, whole: Sequence[Batch]) -> float:
        """See ``Objective``."""
        return 1.0 / max(1, sum(len(part.layout.targets) for part in whole))

    def loss(self, nats: torch.Tensor, batch: Batch, whole: Sequence[Batch]) -> torch.Tensor:
        """See ``Objective``."""
        return nats.sum()

    def figures(self, nats: torch.Tensor, batches: Sequence[Batch]) -> dict[str, float]:
        """See ``Objective``."""
        return {"val/loss": float(nats.sum()) / max(1, sum(len(batch.layout.targets) for batch in batches))}


@dataclass(frozen=True)
class Preferring:
    """Direct preference optimization: the mean over the pairs of the batch; see ``recipes.schema.Preference``.

    Of each pair a batch has two rows, the preferred answer's first, and the log-probabilities that the start gave both.
    """

    preference: Preference

    def runs(self, batch: Batch) -> Sequence[int]:
        """See ``Objective``."""
        return batch.layout.counts

    def weight(self, whole: Sequence[Batch]) -> float:
        """See ``Objective``."""
        return 1.0

    def loss(self, nats: torch.Tensor, batch: Batch, whole: Sequence[Batch]) -> torch.Tensor:
        """See ``Objective``."""
        if not batch.reference:  # no pair at all: a member with fewer parts than its neighbours
            return nats.sum() * 0.0
        changes, counts = _changes(nats, [batch])
        num_pairs = sum(len(part.reference) for part in whole) // 2
        total = self._of_pairs(changes, counts).sum() / num_pairs
        if self.preference.sft_weight:
            tokens = sum(sum(part.layout.counts[::2]) for part in whole if part.reference)
            total = total + self.preference.sft_weight * nats[::2].sum() / tokens
        return total

    def figures(self, nats: torch.Tensor, batches: Sequence[Batch]) -> dict[str, float]:
        """See ``Objective``."""
        nats = nats.double()
        changes, counts = _changes(nats, batches)
        loss = float(self._of_pairs(changes, counts).mean())
        likelihood = float(nats[::2].sum() / counts[:, 0].sum())
        margins = changes[:, 0] - changes[:, 1]
        chosen, rejected = (-nats.view(-1, 2)).mean(0).tolist()
        return {
            "val/loss": loss + self.preference.sft_weight * likelihood,
            "dpo/loss": loss,
            "dpo/reward_margin": self.preference.beta * float(margins.mean()),
            "dpo/reward_accuracy": float((margins > 0).double().mean()),
            "dpo/chosen_logp": chosen,
            "dpo/rejected_logp": rejected,
            "dpo/chosen_logp_change": float(changes[:, 0].mean()),
        }

    def _of_pairs(self, changes: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """The loss of each pair, (pairs,).

        Args:
            changes: (pairs, 2): how much likelier either answer has become since the start, in nats.
            counts: (pairs, 2): tokens of either answer.
        """
        beta, smoothing = self.preference.beta, self.preference.label_smoothing
        if self.preference.loss == "ipo":
            means = changes / counts
            return (means[:, 0] - means[:, 1] - 1 / (2 * beta)).square()
        margins = beta * (changes[:, 0] - changes[:, 1])
        return -(1 - smoothing) * functional.logsigmoid(margins) - smoothing * functional.logsigmoid(-margins)


def objective_of(recipe: Recipe) -> Objective:
    """What a trial of this recipe makes smaller."""
    return Preferring(recipe.preference) if recipe.method == "dpo" else Likelihood()


def _changes(nats: torch.Tensor, batches: Sequence[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """How much likelier each answer has become, and its tokens; both (pairs, 2)."""
    reference = torch.tensor([one for batch in batches for one in batch.reference], dtype=nats.dtype)
    counts = torch.tensor([one for batch in batches for one in batch.layout.counts], dtype=nats.dtype)
    return (-nats - reference.to(nats.device)).view(-1, 2), counts.to(nats.device).view(-1, 2)
