"""The last layer computes its outputs where they are looked at, and nowhere else.

Past the attention of the last layer no token needs another one, and only the tokens that predict a target are read. So
its output projection and its feed-forward block see those alone; all others get zeros, which nobody reads.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

WORTHWHILE = 0.9  # share of the tokens; to pick out more than that costs what it saves


class Sparing(torch.nn.Module):  # type: ignore[misc]
    """Stands in for a module that treats every token by itself.

    Attributes:
        places: The tokens that are computed, as many for each trial: places in (trials * tokens,), (trials * some,).
            None for all. Stays as it is until the next forward pass, since backward may compute the layer again.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.places: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(trials, tokens, in) to (trials, tokens, out)."""
        if self.places is None:
            return self.module(x)
        some = x.reshape(-1, x.shape[-1]).index_select(0, self.places)
        y = self.module(some.view(x.shape[0], -1, x.shape[-1])).flatten(0, 1)
        return y.new_zeros(x.shape[0] * x.shape[1], y.shape[-1]).index_copy(0, self.places, y).view(*x.shape[:-1], -1)


def spare_last_layer(decoder: Any) -> tuple[Sparing, ...]:
    """Put ``Sparing`` modules into the last layer of a decoder of transformers, and return them."""
    layer = decoder.layers[-1]
    layer.self_attn.o_proj = Sparing(layer.self_attn.o_proj)
    layer.mlp = Sparing(layer.mlp)
    return layer.self_attn.o_proj, layer.mlp


def places_of(sources: Sequence[Sequence[int]], tokens: int, round_up: Callable[[int], int]) -> tuple[int, ...] | None:
    """Which tokens the last layer computes; None for all.

    Args:
        sources: Of each trial, the tokens that are read, in any order, repeated or not.
        tokens: Of each trial, padding included.
        round_up: To a number of tokens for which products are fast.
    """
    read = [set(some) for some in sources]
    number = round_up(max(map(len, read)))
    if number > WORTHWHILE * tokens:
        return None
    places: list[int] = []
    for trial, some in enumerate(read):
        # Others fill up to the common number, each of them once: a token that is there twice would be learned twice.
        others = (token for token in range(tokens) if token not in some)
        chosen = [*some, *(next(others) for _ in range(number - len(some)))]
        places += [trial * tokens + token for token in sorted(chosen)]
    return tuple(places)
