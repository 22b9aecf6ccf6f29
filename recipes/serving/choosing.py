"""The next token of one answer: the likeliest or a drawn one, of those that its schema allows."""

import torch

from recipes.guiding import Guide
from recipes.serving.asking import Sampling


class SchemaError(ValueError):
    """No answer can be led through its schema."""


class Chooser:
    """Follows one answer.

    Args:
        ends: Tokens that end it; the first is the one that a finished schema allows.
        guide: Leads the answer through its schema; None where it has none.
    """

    def __init__(self, sampling: Sampling, ends: tuple[int, ...], guide: Guide | None = None) -> None:
        self._sampling, self._ends, self._guide = sampling, ends, guide
        self._count = 0
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    @property
    def is_complete(self) -> bool:
        """Whether the schema allows no further token."""
        return self._guide is not None and self._guide.is_complete

    def choose(self, logits: torch.Tensor) -> int:
        """The next token.

        Args:
            logits: (1, vocabulary), changed in place.

        Raises:
            SchemaError: The schema allows nothing more, and is not finished: it has no end, or outgrew what can be
                followed.
        """
        if self._count < self._sampling.min_tokens:
            logits[:, list(self._ends)] = float("-inf")
        if self._guide is not None:
            self._guide.mask(logits)
        token = int(logits.argmax(-1)) if self._sampling.temperature == 0 else self._draw(logits[0])
        while self._guide is not None and not self._guide.fits(token):  # the likeliest does
            logits[:, token] = float("-inf")
            token = self._draw(logits[0])
        if self._guide is not None:
            self._guide.take(token)
            if self._guide.error:
                raise SchemaError(self._guide.error)
        self._count += 1
        return token

    def _draw(self, logits: torch.Tensor) -> int:
        """By temperature and nucleus (Holtzman et al. 2020); on the CPU, so that a seed draws alike on every device."""
        shares = torch.softmax(logits.float().cpu() / self._sampling.temperature, -1)
        if self._sampling.top_p < 1:
            ordered, places = shares.sort(descending=True)
            kept = ordered.cumsum(0) - ordered < self._sampling.top_p  # the first one always
            shares = torch.zeros_like(shares).scatter_(0, places[kept], ordered[kept])
        return int(torch.multinomial(shares, 1, generator=self._generator))
