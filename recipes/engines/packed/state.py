"""What belongs to one trial: its adapter, the optimizer's moments, and its step. Saved in PEFT's format and JSON.

Everything else that a trial's future depends on follows from its recipe and its step: the rows (see ``rows.Order``),
the learning rate, and the draws of dropout. So a checkpoint holds no random state, and its cursor is the step.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recipes.adapters import CONFIG, PREFIX, WEIGHTS, by_last_name
from recipes.engines.packed.network import Site
from recipes.engines.protocol import TrainingFailed
from recipes.engines.start import start_a
from recipes.schema import Recipe

MOMENTS, CURSOR = "optimizer.safetensors", "cursor.json"


@dataclass
class State:
    """A trial's own tensors, all float32 and one-dimensional, of ``num_parameters(sites, rank)`` numbers.

    For each site in order: A, (rank, in), then B, (out, rank).
    """

    weights: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    step: int = 0


@dataclass(frozen=True)
class Form:
    """What an adapter is made of.

    Attributes:
        frozen: Of its ranks so many, the first ones, are another adapter's and never change.
    """

    rank: int
    alpha: float
    sites: tuple[Site, ...]
    frozen: int = 0

    @property
    def num_parameters(self) -> int:
        return num_parameters(self.sites, self.rank)


def num_parameters(sites: Sequence[Site], rank: int) -> int:
    """Numbers of an adapter."""
    return sum(rank * (site.in_features + site.out_features) for site in sites)


def views(flat: torch.Tensor, sites: Sequence[Site], rank: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """A (…, rank, in) and B (…, out, rank) of each site, as views of a tensor (…, parameters)."""
    start, lead = 0, flat.shape[:-1]
    for site in sites:
        middle = start + rank * site.in_features
        end = middle + rank * site.out_features
        yield (
            flat[..., start:middle].view(*lead, rank, site.in_features),
            flat[..., middle:end].view(*lead, site.out_features, rank),
        )
        start = end


def fresh(recipe: Recipe, sites: Sequence[Site], device: torch.device) -> State:
    """A trial before its first step."""
    rank, size = recipe.lora.rank, num_parameters(sites, recipe.lora.rank)
    weights = torch.zeros(size)
    for site, (a, _) in zip(sites, views(weights, sites, rank), strict=True):
        a.copy_(start_a(site.name, rank, site.in_features, recipe.train.seed))
    return State(weights.to(device), torch.zeros(size, device=device), torch.zeros(size, device=device))


def empty(size: int, device: torch.device) -> State:
    """A state of zeros."""
    return State(*(torch.zeros(size, device=device) for _ in range(3)))


def save(state: State, form: Form, recipe: Recipe, linear_names: Sequence[str], base: str, folder: Path) -> None:
    """Write ``folder/adapter``, which plain PEFT loads, and ``folder/state``, all that going on needs."""
    from safetensors.torch import save_file

    adapter, rest = folder / "adapter", folder / "state"
    adapter.mkdir(parents=True)
    rest.mkdir()
    save_file(_named(state.weights, form.sites, form.rank), adapter / WEIGHTS, metadata={"format": "pt"})
    (adapter / CONFIG).write_text(
        json.dumps(peft_config(form, recipe.lora.dropout, linear_names, base), indent=2) + "\n"
    )
    moments = {
        f"{moment}.{name}": tensor
        for moment, flat in (("first", state.first), ("second", state.second))
        for name, tensor in _named(flat, form.sites, form.rank).items()
    }
    save_file(moments, rest / MOMENTS)
    (rest / CURSOR).write_text(json.dumps({"step": state.step, "seed": recipe.train.seed}) + "\n")


def load(folder: Path, form: Form, device: torch.device) -> State:
    """What ``save`` wrote.

    Raises:
        TrainingFailed: The folder is no checkpoint of this trial.
    """
    from safetensors.torch import load_file

    try:
        state = empty(form.num_parameters, torch.device("cpu"))
        load_adapter(folder / "adapter", state.weights, form.sites, form.rank)
        moments = load_file(folder / "state" / MOMENTS)
        for moment, flat in (("first", state.first), ("second", state.second)):
            _fill(
                flat,
                {
                    name.removeprefix(f"{moment}."): tensor
                    for name, tensor in moments.items()
                    if name.startswith(moment)
                },
                form.sites,
                form.rank,
            )
        state.step = int(json.loads((folder / "state" / CURSOR).read_text())["step"])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise TrainingFailed(f"{folder} is no checkpoint of this trial: {error}") from None
    return State(state.weights.to(device), state.first.to(device), state.second.to(device), state.step)


def load_adapter(folder: Path, flat: torch.Tensor, sites: Sequence[Site], rank: int) -> None:
    """Fill ``flat`` from an adapter in PEFT's format, whoever wrote it."""
    from safetensors.torch import load_file

    _fill(flat, load_file(folder / WEIGHTS), sites, rank)


def peft_config(form: Form, dropout: float, linear_names: Sequence[str], base: str) -> dict[str, Any]:
    """PEFT's description of an adapter. Layers go by their last name where all that bear it are adapted."""
    names = {site.name for site in form.sites}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": form.rank,
        "lora_alpha": form.alpha,
        "lora_dropout": dropout,
        "target_modules": sorted(by_last_name(names, linear_names) or names),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_rslora": False,
    }


def _named(flat: torch.Tensor, sites: Sequence[Site], rank: int) -> dict[str, torch.Tensor]:
    named = {}
    for site, (a, b) in zip(sites, views(flat.cpu(), sites, rank), strict=True):
        named[f"{PREFIX}{site.name}.lora_A.weight"] = a.contiguous()
        named[f"{PREFIX}{site.name}.lora_B.weight"] = b.contiguous()
    return named


def _fill(flat: torch.Tensor, named: dict[str, torch.Tensor], sites: Sequence[Site], rank: int) -> None:
    for site, (a, b) in zip(sites, views(flat, sites, rank), strict=True):
        a.copy_(named[f"{PREFIX}{site.name}.lora_A.weight"])
        b.copy_(named[f"{PREFIX}{site.name}.lora_B.weight"])
