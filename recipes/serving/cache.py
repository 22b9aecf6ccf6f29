"""Keys and values: of prompts that begin alike, kept for the next one; of rows that are continued together."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

MIN_SHARED = 16  # tokens; less is computed again as fast as it is found
MOST_PREFIXES = 4  # of each model

Pairs = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer, keys and values: (rows, heads, tokens, width)."""


def pairs_of(cache: DynamicCache) -> Pairs:
    """What a cache of transformers holds."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def cache_of(pairs: Pairs) -> DynamicCache:
    """A cache of transformers with these."""
    cache = DynamicCache()
    for number, (key, value) in enumerate(pairs):
        cache.update(key, value, number)
    return cache


class Prefixes:
    """Prompts whose keys and values are there, one of each kind: a prompt takes the place of one that begins alike.

    So the instructions that all requests of a task begin with are computed once, whatever follows them.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[tuple[int, ...], Pairs]] = []  # the one that was used last is last

    def find(self, ids: Sequence[int]) -> tuple[int, Pairs]:
        """How many tokens of a prompt are there, and their keys and values; the last token is always left over."""
        shared = [_common(kept, ids) for kept, _ in self._kept]
        most = max(shared, default=0)
        if most < MIN_SHARED:
            return 0, []
        return most, [(key[:, :, :most], value[:, :, :most]) for key, value in self._kept[shared.index(most)][1]]

    def keep(self, ids: tuple[int, ...], pairs: Pairs) -> None:
        """Keep a prompt that was computed."""
        others = [one for one in self._kept if _common(one[0], ids) < MIN_SHARED]
        self._kept = [*others[-(MOST_PREFIXES - 1) :], (ids, pairs)]


def _common(kept: Sequence[int], ids: Sequence[int]) -> int:
    end = min(len(kept), len(ids) - 1)
    return next((place for place in range(end) if kept[place] != ids[place]), end)


class Rows:
    """Keys and values of rows that are continued together, padded at the left."""

    def __init__(self) -> None:
        self._cache: DynamicCache | None = None
        self.lengths: list[int] = []

    def add(self, new: Sequence[Pairs]) -> None:
        """Rows that begin: of each, keys and values of its prompt."""
        parts = ([pairs_of(self._cache)] if self._cache is not None else []) + list(new)
        longest = max(part[0][0].shape[2] for part in parts)
        joined = []
        for layer in range(len(parts[0])):
            keys, values = ([_padded(part[layer][half], longest) for part in parts] for half in (0, 1))
            joined.append((torch.cat(keys), torch.cat(values)))
        self._cache = cache_of(joined)
        self.lengths += [pairs[0][0].shape[2] for pairs in new]

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self.lengths = [self.lengths[place] for place in places]
        if not places:
            self._cache = None
            return
        assert self._cache is not None
        index, longest = torch.tensor(places), max(self.lengths)
        self._cache = cache_of(
            [
                tuple(part[index.to(part.device)][:, :, -longest:] for part in pair)  # type: ignore[misc]
                for pair in pairs_of(self._cache)
            ]
        )

    def advance(self, device: Any) -> dict[str, Any]:
        """What the model is told beside one new token a row: the cache, what of it each row sees, its place."""
        assert self._cache is not None
        positions = torch.tensor(self.lengths, device=device)[:, None]
        self.lengths = [length + 1 for length in self.lengths]
        longest = self._cache.get_seq_length() + 1
        seen = torch.arange(longest, device=device) >= longest - positions - 1
        return {"past_key_values": self._cache, "attention_mask": seen.long(), "position_ids": positions}


def _padded(part: torch.Tensor, length: int) -> torch.Tensor:
    """With zeros at the left of its tokens."""
    return torch.nn.functional.pad(part, (0, 0, length - part.shape[2], 0))
