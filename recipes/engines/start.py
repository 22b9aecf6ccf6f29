"""Where a trial starts: the first weights of its adapter, the same for every engine."""

import hashlib
import math
from typing import Any


def start_a(site: str, rank: int, in_features: int, seed: int) -> Any:
    """The first ``A`` of one adapted layer, (rank, in_features) in float32; ``B`` starts at zero.

    Normal after Glorot and Bengio (2010), as NeMo AutoModel initialises it. The draw follows from the trial's seed and
    the layer's name alone, so it depends on no other layer, no other trial and no engine.

    Args:
        site: The layer's full name in the base, e.g. ``model.layers.0.self_attn.q_proj``.
    """
    import torch

    digest = hashlib.sha256(f"{seed}/{site}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randn(rank, in_features, generator=generator) * math.sqrt(2.0 / (rank + in_features))
