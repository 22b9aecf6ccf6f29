"""What a plan must know of recipes and pools. Defined here and filled in by launchers/: sweeps/ imports neither."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sweeps.pricing import Price


class Speed(BaseModel):
    """What one unit achieves on LoRA training, in TFLOP/s at four FLOPs per frozen parameter and token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    achieved_tflops: float = Field(gt=0)
    source: str


class Pool(BaseModel):
    """A kind of machine that trials may run on, as written in ``launchers/pools/<name>.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    device: Literal["cpu", "gpu"]
    accelerator: str | None = None  # the value of Ray's node label ``ray.io/accelerator-type``; None on a CPU pool
    memory_gb: float = Field(gt=0)  # of one unit
    price: Price  # of one unit; in a pool's file also the name of an entry of launchers/prices/
    speed: Speed
    startup_s: float = Field(ge=0)  # from the start of a trial's process to its first step


@dataclass(frozen=True)
class StartFacts:
    """An adapter to start from.

    Attributes:
        identity: SHA-256 of its files.
        lora: Its own ``rank``, ``alpha`` and ``targets``, which a trial takes over that goes on from it.
    """

    identity: str
    lora: dict[str, Any]


@dataclass(frozen=True)
class RecipeFacts:
    """A composed recipe as the sweep sees it.

    Attributes:
        name: The Hydra config that was composed, e.g. ``tiny_commerce_sft``.
        settings: Every key of the recipe with its default value, nested as in the YAML.
        keys: Every dotted path into ``settings`` that a sweep may set or vary, with the type and limits of its value.
        training_groups: The top-level keys that change what a trial learns; only they enter a trial's id.
        training_keys: Keys of other groups that do so too, where they are neither false nor null.
        engine: The engine's name.
        base_identity: SHA-256 of the base model's files, or ``hub:<id>@<revision>`` where they are not local.
        starts: The adapters that trials may start from, by ``start.adapter`` as it is written; none for a fresh one.
        data_identity: SHA-256 over the data's four splits.
        num_parameters: Of the base model.
        train_rows: Rows in the train split.
        tokens_per_row: Mean length of a training row in tokens.
        layers: Outputs and inputs of the base's linear layers by name; None where the base is not local.
        sources: Where ``num_parameters``, ``train_rows`` and ``tokens_per_row`` come from, in words, by those names.
    """

    name: str
    settings: dict[str, Any]
    keys: dict[str, "KeyFacts"]
    training_groups: tuple[str, ...]
    engine: str
    base_identity: str
    data_identity: str
    num_parameters: int
    train_rows: int
    tokens_per_row: float
    sources: dict[str, str] = field(default_factory=dict)
    training_keys: tuple[str, ...] = ()
    layers: dict[str, tuple[int, int]] | None = None
    starts: dict[str, StartFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyFacts:
    """What a recipe allows at one key. ``low`` and ``high`` are inclusive unless ``exclusive_low``."""

    kind: Literal["int", "float", "str", "bool", "list", "any"]
    low: float | None = None
    high: float | None = None
    exclusive_low: bool = False
    choices: tuple[Any, ...] | None = None
    optional: bool = False  # may be null
    high_is: str = ""  # what ``high`` is, in words, where it is not a rule of the key itself
