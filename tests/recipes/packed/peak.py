"""Bytes of the tensors that a piece of code has alive at its peak, on any device."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):  # type: ignore[misc]
    """Within it, every operator's new storages are counted until they are freed.

    Attributes:
        most: Bytes at the peak. What was there before is none of it, nor what an operator needs within itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self._now = 0
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            self._meet(tensor, new=False)
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            self._meet(tensor, new=True)
        self.most = max(self.most, self._now)
        return result

    def _meet(self, tensor: Any, *, new: bool) -> None:
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes() if new else 0
            self._now += self._alive[key]
            weakref.finalize(storage, self._part, key)

    def _part(self, key: int) -> None:
        self._now -= self._alive.pop(key)
