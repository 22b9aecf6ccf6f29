"""A base in memory with the adapters that are served on it, one of which is on at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipes.generation import end_tokens, load_base
from recipes.schema import Base
from sweeps.errors import InvalidInput, Problem


class Models:
    """Used by one thread at a time.

    Args:
        path: The base's folder, or its id on the hub.
        base: How it is loaded.
        adapters: By the name under which it is served, a PEFT folder; None is the base itself.
        device: "cpu" or "gpu".

    Raises:
        InvalidInput: The base keeps other things of a text than keys and values.
    """

    def __init__(self, path: str, base: Base, adapters: Mapping[str, Path | None], device: str) -> None:
        network, self.tokenizer = load_base(path, base, device)
        if getattr(network, "_is_stateful", False):
            rule = f"{path} keeps a state in place of keys and values, which the local server does not continue"
            raise InvalidInput(Problem("base", rule, "serve it with `--for vllm`"))
        self._places = {name: f"served_{number}" for number, name in enumerate(adapters) if adapters[name] is not None}
        self._peft: Any = None
        for name, inner in self._places.items():
            if self._peft is None:
                from peft import PeftModel

                self._peft = PeftModel.from_pretrained(network, str(adapters[name]), adapter_name=inner)
            else:
                self._peft.load_adapter(str(adapters[name]), adapter_name=inner)
        self._network = (self._peft.get_base_model() if self._peft is not None else network).eval()
        self._active: str | None = None
        self.names = tuple(adapters)
        self.context: int | None = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        self.ends = end_tokens(network, self.tokenizer)

    @property
    def device(self) -> Any:
        """Where the base lies."""
        return self._network.device

    def network(self, name: str) -> Any:
        """The network, answering as the model of this name."""
        if self._peft is not None and name != self._active:
            inner = self._places.get(name)
            if inner is None:
                self._peft.base_model.disable_adapter_layers()
            else:
                self._peft.base_model.enable_adapter_layers()
                self._peft.set_adapter(inner)
            self._active = name
        return self._network
