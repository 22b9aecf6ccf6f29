"""Drawing tokens: each answer has random numbers of its own, so that neither its batch nor its neighbours change it.

A library's sampler draws for a whole batch from one generator, and an answer then depends on what it was batched with:
a run that was interrupted could not go on as it began. Here token ``t`` of the answer with a key takes the ``t``-th
number of the generator that seed and key make, and the token at that place of the distribution (by its inverse).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        temperature: Above 0; logits are divided by it.
        top_p: Tokens are drawn from the likeliest that have this probability together (Holtzman et al. 2020).
        seed: Another one draws other answers.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0


class Sampler:
    """Draws the next token of each answer of a batch, as transformers' processor of logits.

    Args:
        sampling: How.
        keys: Names each answer; the same key draws the same answer.
    """

    def __init__(self, sampling: Sampling, keys: Sequence[str]) -> None:
        self._sampling = sampling
        self._draws = [random.Random(f"{sampling.seed}/{key}") for key in keys]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores with every token but the drawn one out of reach."""
        chosen = self.choose(scores)
        return scores.new_full(scores.shape, float("-inf")).scatter(1, chosen[:, None], 0.0)

    def choose(self, scores: Any) -> Any:
        """Draw from logits, (answers, tokens); what is at minus infinity is never drawn. Returns (answers,)."""
        import torch

        probabilities = torch.softmax(scores.float() / self._sampling.temperature, -1)
        ordered, tokens = torch.sort(probabilities, dim=-1, descending=True, stable=True)
        reached = ordered.cumsum(-1)
        kept = ((reached - ordered) < self._sampling.top_p) & (ordered > 0)
        mass = (ordered * kept).sum(-1, keepdim=True)
        at = torch.tensor([[draw.random()] for draw in self._draws], dtype=torch.float32, device=scores.device) * mass
        # Rounding may put a number at the very end: the last token that is kept takes it.
        place = torch.minimum((reached <= at).sum(-1, keepdim=True), kept.sum(-1, keepdim=True) - 1)
        return tokens.gather(1, place)[:, 0]
