"""Lets nemo-automodel 0.7.0 train on a machine without CUDA. Does nothing where CUDA exists.

Its recipe calls three functions of ``torch.cuda`` unguarded, and ``from_pretrained`` asks for the current CUDA device.
"""

import types
from typing import Any


def apply() -> bool:
    """Patch ``torch.cuda``'s memory counters and AutoModel's device look-up. True if anything was patched."""
    import torch

    if torch.cuda.is_available():
        return False
    torch.cuda.reset_peak_memory_stats = lambda *args, **kwargs: None
    torch.cuda.max_memory_allocated = lambda *args, **kwargs: 0
    torch.cuda.empty_cache = lambda *args, **kwargs: None

    from nemo_automodel._transformers import auto_model

    class CpuCuda:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch.cuda, name)

        def current_device(self) -> Any:
            return torch.device("cpu")

    class CpuTorch(types.ModuleType):
        cuda = CpuCuda()

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        @staticmethod
        def device(*args: Any) -> Any:
            return torch.device("cpu") if args and args[0] == "cuda" else torch.device(*args)

    auto_model.torch = CpuTorch("torch")
    return True
