"""A recipe, typed: every key that a sweep may set or vary, with its type, its limits and its meaning.

Hydra composes a recipe from ``recipes/configs/``; :func:`recipes.compose.compose` turns the result into a
:class:`Recipe`, and past that point no code sees a raw dictionary.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveShare = Annotated[float, Field(gt=0.0, le=1.0)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Base(_Block):
    """The frozen model that all trials adapt."""

    path: str  # a local folder, or an id on the Hugging Face hub
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    quantize: Literal["nf4"] | None = None  # QLoRA: the base in 4 bits
    num_parameters: PositiveInt | None = None  # needed for a plan where the base is not local


class Data(_Block):
    """The rows, and how they are split."""

    builtin: Literal["commerce", "commerce_pairs"] | None = None  # the demo's generators, instead of a path
    path: str | None = None  # JSONL, local or s3://
    rows: PositiveInt | None = None  # rows to generate, or to read at most
    seed: int = 0  # of the generator and of the split
    group: str | None = None  # the field whose equal values stay on one side of the split; none: what is asked
    train: PositiveShare = 0.7
    validation: PositiveShare = 0.1
    dev: Share = 0.1
    challenge: Share = 0.1
    max_tokens: PositiveInt = 2048  # a longer row is an error

    @model_validator(mode="after")
    def _one_source_and_whole_splits(self) -> "Data":
        if (self.builtin is None) == (self.path is None):
            raise ValueError(f"exactly one of builtin and path is needed, got builtin={self.builtin}, path={self.path}")
        total = self.train + self.validation + self.dev + self.challenge
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + dev + challenge must be 1, got {total:g}")
        return self


class Lora(_Block):
    """The low-rank adapter (Hu et al. 2021): ``W + alpha/rank * B A``."""

    rank: PositiveInt = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[list[str], Field(min_length=1)] = ["*_proj"]  # patterns over module names


class Start(_Block):
    """Where a trial's adapter begins, and what a preference loss compares with: an adapter, or the base alone.

    ``continue`` trains the adapter on, with its own rank, alpha and layers. ``stack`` freezes it and adds a new one of
    ``lora``'s; the two leave as one adapter of the summed rank.
    """

    adapter: str | None = None  # a folder in PEFT's format, a bundle, or the s3:// URL of either
    mode: Literal["continue", "stack"] = "continue"


class Preference(_Block):
    """Direct preference optimization (Rafailov et al. 2023): of two answers the preferred one is made the likelier.

    ``sigmoid`` is its own loss, with smoothed labels the conservative one of Mitchell (2023); ``ipo`` is that of Azar
    et al. (2023), per token. ``sft_weight`` times the cross-entropy of the chosen answers is added (Pang et al. 2024).
    """

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    beta: Annotated[float, Field(gt=0)] = 0.1  # how far from the start's own likelihoods it may go: less, the larger
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # the share of pairs that are taken to be turned round
    sft_weight: Annotated[float, Field(ge=0)] = 0.0


class Optimizer(_Block):
    """Adam (L2 added to the gradient) or AdamW (decoupled weight decay)."""

    name: Literal["adam", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class Schedule(_Block):
    """The learning rate over the steps: a linear warm-up, then cosine, linear or constant, down to a floor."""

    name: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    min_lr_ratio: Share = 0.0  # the floor, as a share of the peak


class Train(_Block):
    """The training loop."""

    max_steps: PositiveInt
    batch_size: PositiveInt = 8  # rows an optimizer step, over all GPUs
    micro_batch_size: PositiveInt = 8  # rows a forward pass
    clip: Annotated[float, Field(gt=0)] = 1.0  # of the gradient's norm
    validate_every: PositiveInt = 20  # steps between two reports
    validation_rows: PositiveInt | None = None  # none: the whole validation split
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> "Train":
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size must be a multiple of micro_batch_size, got {self.batch_size} and {self.micro_batch_size}"
            )
        return self


class Parallel(_Block):
    """How a trial is spread over GPUs."""

    gpus: PositiveInt = 1
    strategy: Literal["ddp", "fsdp2"] = "ddp"
    tp: PositiveInt = 1  # tensor parallel
    cp: PositiveInt = 1  # context parallel
    sequence_parallel: bool = False
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _fits(self) -> "Parallel":
        if self.gpus % (self.tp * self.cp):
            raise ValueError(f"gpus must be a multiple of tp * cp, got gpus={self.gpus}, tp={self.tp}, cp={self.cp}")
        if self.strategy == "ddp" and self.tp * self.cp > 1:
            raise ValueError(f"tp and cp need strategy fsdp2, got ddp with tp={self.tp}, cp={self.cp}")
        return self


class Generate(_Block):
    """How answers are sampled for evaluation: greedily, in batches."""

    max_new_tokens: PositiveInt = 512
    batch_size: PositiveInt = 16


class Packed(_Block):
    """How the ``packed`` engine groups and lays out rows."""

    trees: bool = True  # compute the prefixes that rows share once; false: every row by itself, with the same result
    regroup: bool = False  # rows that begin alike in one batch: more is shared, and a trial learns something else


class Recipe(_Block):
    """Everything that one trial needs to know."""

    name: str
    engine: Literal["nemo", "packed"] = "nemo"
    method: Literal["sft", "dpo"] = "sft"
    base: Base
    data: Data
    start: Start = Start()
    lora: Lora = Lora()
    preference: Preference = Preference()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train
    parallel: Parallel = Parallel()
    generate: Generate = Generate()
    packed: Packed = Packed()

    @model_validator(mode="after")
    def _engine_fits(self) -> "Recipe":
        if self.engine == "packed" and self.parallel.gpus > 1:
            raise ValueError(
                f"a pack trains on one GPU, but got parallel.gpus={self.parallel.gpus}; set engine: nemo for more"
            )
        if self.engine == "nemo" and self.packed.regroup:
            raise ValueError(
                "packed.regroup must be false with engine nemo, which takes rows in the order of its own data loader, "
                "but got true; set engine: packed to regroup them"
            )
        if self.engine == "nemo" and (self.method == "dpo" or self.start.adapter is not None):
            got = "method: dpo" if self.method == "dpo" else f"start.adapter: {self.start.adapter}"
            raise ValueError(f"engine nemo trains fresh adapters by method sft, but got {got}; set engine: packed")
        return self

    @model_validator(mode="after")
    def _start_fits(self) -> "Recipe":
        if self.start.adapter is not None and self.start.mode == "stack" and self.lora.dropout > 0:
            raise ValueError(
                "lora.dropout must be 0 with start.mode: stack, where it would fall on the frozen adapter too, "
                f"but got {self.lora.dropout:g}"
            )
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> "Recipe":
        if self.schedule.warmup_steps >= self.train.max_steps:
            raise ValueError(
                "schedule.warmup_steps must be below train.max_steps, "
                f"got {self.schedule.warmup_steps} and {self.train.max_steps}"
            )
        return self


TRAINING_GROUPS = ("lora", "optimizer", "schedule", "train")
"""The blocks that change what a trial learns, besides base and data, which are known by the hashes of their
contents. The others (parallel, generate, packed) say where and how it runs."""

TRAINING_KEYS = ("base.quantize", "packed.regroup")
"""Keys of other blocks that change what a trial learns where they are set."""
