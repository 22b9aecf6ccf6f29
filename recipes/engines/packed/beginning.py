"""Where a trial begins: a fresh adapter, one that is trained on, or a new one beside a frozen one.

Beside a frozen one the two are one adapter of the summed rank, the frozen one's ranks first. With s = alpha / rank of
the new one and s0 that of the frozen one, A = [A0; A1], B = [B0 s0/s, B1] and alpha = s (rank0 + rank1), the adapter
adds s B A = s0 B0 A0 + s B1 A1. A layer that only one of the two adapts has zeros for the other, which stay zeros:
their gradients are products with zeros.
"""

from pathlib import Path

import torch

from recipes import adapters
from recipes.engines.packed import state as states
from recipes.engines.packed.network import Network
from recipes.engines.packed.state import Form, State
from recipes.engines.start import start_a
from recipes.schema import Recipe
from recipes.starts import at_start
from sweeps.errors import InvalidInput, Problem


def form_of(network: Network, recipe: Recipe, start: Path | None) -> Form:
    """What a trial's adapter will be made of.

    Args:
        start: The folder of the adapter that the trial starts from.

    Raises:
        InvalidInput: ``lora.targets`` cannot be adapted, or the start is no plain LoRA adapter of this base.
    """
    lora = recipe.lora
    assert (start is None) == (recipe.start.adapter is None), "whoever makes a job finds the start of it"
    if start is None:
        return Form(lora.rank, lora.alpha, network.sites(recipe))
    rank, alpha, layers = _checked(network, start)
    if recipe.start.mode == "continue":
        return Form(rank, alpha, network.sites_of(layers))
    both = [*layers, *(site.name for site in network.sites(recipe))]
    total = rank + lora.rank
    return Form(total, lora.alpha / lora.rank * total, network.sites_of(both), frozen=rank)


def first_state(network: Network, recipe: Recipe, start: Path | None, form: Form) -> State:
    """A trial before its first step.

    Args:
        form: As ``form_of`` says.
    """
    if start is None:
        return states.fresh(recipe, form.sites, network.device)
    weights = torch.zeros(form.num_parameters)
    if recipe.start.mode == "continue":
        states.load_adapter(start, weights, form.sites, form.rank)
    else:
        _put_beside(network, recipe, start, form, weights)
    size = len(weights)
    return State(
        weights.to(network.device), torch.zeros(size, device=network.device), torch.zeros(size, device=network.device)
    )


def _put_beside(network: Network, recipe: Recipe, start: Path, form: Form, weights: torch.Tensor) -> None:
    rank, alpha, layers = adapters.shape(start)
    theirs = network.sites_of(layers)
    frozen = torch.zeros(states.num_parameters(theirs, rank))
    states.load_adapter(start, frozen, theirs, rank)
    own = {site.name: pair for site, pair in zip(theirs, states.views(frozen, theirs, rank), strict=True)}
    new = {site.name for site in network.sites(recipe)}
    ratio = (alpha / rank) / (form.alpha / form.rank)
    for site, (a, b) in zip(form.sites, states.views(weights, form.sites, form.rank), strict=True):
        if site.name in own:
            a[:rank] = own[site.name][0]
            b[:, :rank] = own[site.name][1] * ratio
        if site.name in new:
            a[rank:] = start_a(site.name, recipe.lora.rank, site.in_features, recipe.train.seed)


def _checked(network: Network, start: Path) -> tuple[int, float, tuple[str, ...]]:
    """Rank, alpha and layers of an adapter that this base can be given."""
    base = Path(network.path)
    try:
        adapters.check(start, base if base.is_dir() else None, plain=True)
    except InvalidInput as error:
        raise InvalidInput([at_start(one) for one in error.problems]) from None
    rank, alpha, layers = adapters.shape(start)
    foreign = [name for name in layers if name not in network.layers]
    if foreign:
        shared = foreign[0] in network.linear_names
        what = "the output projection, and all trials of a pack share it" if shared else "no layer of the base"
        rule = f"{start} adapts {foreign[0]}, which is {what}"
        raise InvalidInput(Problem("start.adapter", rule, "start from an adapter without it"))
    return rank, alpha, layers
