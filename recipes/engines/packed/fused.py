"""Puts ``kernels`` into a base of transformers on a GPU, once they have been tried there on its own modules."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from recipes.engines.packed.flex import CLOSE

TRIED_TOKENS = 33

_log = logging.getLogger(__name__)


def install(model: Any) -> str | None:
    """Have norms and gates of a model computed by ``kernels``; why they are not, or None.

    Every kind of module is tried beside its own ``forward`` first, outputs and gradients. What does not agree, or does
    not compile, leaves the model as it was.
    """
    try:
        replaced = {name: (module, new) for name, module in model.named_modules() if (new := _of(module)) is not None}
        kinds = {(type(module), _width(module)): (module, new) for module, new in replaced.values()}
        for module, new in kinds.values():
            apart = prove(module, new, model.dtype, model.device)
            if apart > CLOSE[model.dtype]:
                return _told(f"{type(module).__name__} differs by {apart:.1e} from its own")
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # of the compiler, in many forms
        return _told(f"{type(error).__name__}: {error}")
    for module, new in replaced.values():
        module.forward = new
    return None


def prove(module: Any, new: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype, device: torch.device) -> float:
    """The largest difference of outputs and gradients from the module's own forward, relative to the largest number."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (TRIED_TOKENS, _width(module))
    x, grad = (torch.randn(shape, device=device, generator=generator).to(dtype) for _ in range(2))
    found = []
    with torch.inference_mode(False), torch.enable_grad():
        for forward in (new, module.forward):
            leaf = x.clone().requires_grad_()
            out = forward(leaf)
            found.append([out.detach(), *torch.autograd.grad(out, [leaf], grad)])
    pairs = ((one.float(), other.float()) for one, other in zip(*found, strict=True))
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def _of(module: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What takes a module's place; None where there is nothing."""
    from recipes.engines.packed.kernels import rms_norm

    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return partial(rms_norm, weight=module.weight, eps=module.variance_epsilon)
    if {"gate_proj", "up_proj", "down_proj"} <= {name for name, _ in module.named_children()} and _is_silu(module):
        return partial(_feed_forward, module)
    return None


def _is_silu(module: Any) -> bool:
    return type(getattr(module, "act_fn", None)).__name__ in ("SiLU", "SiLUActivation")


def _width(module: Any) -> int:
    weight = module.weight if hasattr(module, "weight") else None
    return int(weight.shape[0]) if weight is not None else int(module.gate_proj.in_features)


def _feed_forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    from recipes.engines.packed.kernels import gated

    out: torch.Tensor = module.down_proj(gated(module.gate_proj(x), module.up_proj(x)))
    return out


def _told(why: str) -> str:
    why = " ".join(why.split())[:300]
    _log.warning("norms and gates are computed as transformers does: %s", why)
    return why
