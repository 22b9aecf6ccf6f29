"""Puts ``kernels`` into a base of transformers on a GPU, once they have been tried there beside its own code."""

import functools
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from recipes.engines.packed.flex import CLOSE

TRIED_TOKENS = 33
ROTATION = "apply_rotary_pos_emb"  # the function of transformers' modelling modules, by which all attentions call it

_log = logging.getLogger(__name__)
_hooked: set[str] = set()


def install(model: Any) -> str | None:
    """Have norms, gates and rotations of a model computed by ``kernels``; why they are not, or None.

    Each kind of module is tried beside its own ``forward`` first, outputs and gradients. What does not agree, or does
    not compile, leaves the model as it was.
    """
    try:
        replaced = {name: (module, new) for name, module in model.named_modules() if (new := _of(module)) is not None}
        kinds = {(type(module), _width(module)): (module, new) for module, new in replaced.values()}
        for module, new in kinds.values():
            inputs = [_drawn(model, TRIED_TOKENS, _width(module))]
            if words := _apart(type(module).__name__, new, module.forward, inputs):
                return _told(words)
        if words := _hook_rotation(model):
            return _told(words)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # of the compiler, in many forms
        return _told(f"{type(error).__name__}: {error}")
    for module, new in replaced.values():
        module.forward = new
    return None


def compare(new: Callable[..., Any], own: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> float:
    """The largest difference of outputs and of gradients at the inputs, relative to the largest number of each."""
    outcomes, grads = [], None
    with torch.inference_mode(False), torch.enable_grad():
        for function in (new, own):
            leaves = [one.detach().clone(memory_format=torch.preserve_format).requires_grad_() for one in inputs]
            outs = function(*leaves)
            outs = (outs,) if isinstance(outs, torch.Tensor) else outs
            grads = grads or [one.detach().flip(-1) for one in outs]  # any numbers but equal ones
            outcomes.append([*(one.detach() for one in outs), *torch.autograd.grad(outs, leaves, grads)])
    pairs = ((one.float(), other.float()) for one, other in zip(*outcomes, strict=True))
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


def _apart(what: str, new: Callable[..., Any], own: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> str | None:
    apart = compare(new, own, inputs)
    return f"{what} differs by {apart:.1e} from its own" if apart > CLOSE[inputs[0].dtype] else None


def _drawn(model: Any, *shape: int) -> torch.Tensor:
    generator = torch.Generator(model.device).manual_seed(0)
    return torch.randn(shape, device=model.device, generator=generator).to(model.dtype)


def _hook_rotation(model: Any) -> str | None:
    """Exchange the function that turns positions into queries and keys, for tensors on a GPU; why not, or None."""
    from recipes.engines.packed.kernels import rotated

    attention = model.get_decoder().layers[0].self_attn
    module: Any = sys.modules[type(attention).__module__]
    own = getattr(module, ROTATION)
    if module.__name__ in _hooked:
        return None  # another base of the family was here before
    heads, width = model.config.num_attention_heads, attention.head_dim
    query, key = (_drawn(model, 2, TRIED_TOKENS, num, width).transpose(1, 2) for num in (heads, heads // 2 or 1))
    angle = _drawn(model, 2, TRIED_TOKENS, width // 2).repeat(1, 1, 2)
    cos, sin = angle.cos(), angle.sin()
    words = _apart(ROTATION, lambda q, k: rotated(q, k, cos, sin), lambda q, k: own(q, k, cos, sin), [query, key])
    if words is None:

        @functools.wraps(own)
        def rotate(query: Any, key: Any, cos: Any, sin: Any, *more: Any, **named: Any) -> Any:
            if query.is_cuda and not more and not named:
                return rotated(query, key, cos, sin)
            return own(query, key, cos, sin, *more, **named)

        setattr(module, ROTATION, rotate)
        _hooked.add(module.__name__)
    return words


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
    _log.warning("norms, gates and rotations are computed as transformers does: %s", why)
    return why
