"""What a pack takes of its device's memory, by arithmetic: how many trials beside the base, how large a pass may be.

The tensors of a pass are counted as transformers' Llama and this engine make them; the tests hold the estimate against
what a pass really had alive at its peak. Nothing here loads torch before memory is measured.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from recipes.engines.protocol import TrainingFailed
from sweeps.errors import InvalidInput, Problem

GIB = 2**30
USABLE = 0.9  # of what is free: the rest goes to the allocator's gaps and the libraries' workspaces
NF4_BYTES = 0.516  # a weight: 4 bits, 8 for the scale of 64, 32 for that of 256 scales (Dettmers et al. 2023)
STATE_BYTES = 12  # an adapter's number in float32: its weight and Adam's two moments
# Numbers of a slice of logits, in float32 64 and 512 MiB: to read the projection once for each takes a GPU longer.
MAX_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 27}
CHUNK_BYTES = 16  # the same beside its neighbours', and its gradient
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h
WAY_OUT = (
    "set a smaller train.micro_batch_size or lora.rank, or base.quantize: nf4, or engine: nemo with parallel.gpus of 2 "
    "or more"
)


class NoRoom(TrainingFailed):
    """A trial that fits on the device does not fit beside those that train there now."""


@dataclass(frozen=True)
class Shape:
    """A base, as the memory of a pass depends on it.

    Attributes:
        hidden, intermediate: Width of the residual stream, and of the feed-forward layers.
        queries, keys: Width of all heads' queries, and of all keys (values are as wide).
        repeats_keys: Attention copies keys and values for each head of a group.
        norms_queries: Queries and keys are normalised before attention (Qwen 3).
        dense_mask: Attention is handed a mask of tokens × tokens.
        number_bytes: Of a number of the type that it computes in.
        unpacked: Numbers of the largest weight that is unpacked from 4 bits for each use; 0 where none is.
        recomputes: Its layers can be computed again in backward.
        logits: Numbers of the largest slice of logits; see ``packed.loss``.
        fused: Norms and gates are those of ``packed.kernels``, which keep less.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    queries: int
    keys: int
    vocabulary: int
    number_bytes: int
    repeats_keys: bool = True
    norms_queries: bool = False
    dense_mask: bool = False
    unpacked: int = 0
    recomputes: bool = True
    logits: int = MAX_LOGITS["cpu"]
    fused: bool = False


def shape_of(config: Any, number_bytes: int, **more: Any) -> Shape:
    """The shape that a configuration of transformers describes; ``more`` are further fields."""
    config = config.get_text_config()
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        hidden=config.hidden_size,
        intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        queries=heads * width,
        keys=key_heads * width,
        vocabulary=config.vocab_size,
        number_bytes=number_bytes,
        **more,
    )


@dataclass(frozen=True)
class Size:
    """A pass.

    Attributes:
        trials: That share it.
        tokens: Of each, padding included.
        targets: Of each, that the loss looks at.
        read: Of each, that the last layer's feed-forward block computes (see ``sparing``).
    """

    trials: int
    tokens: int
    targets: int
    read: int


def base_bytes(num_parameters: int, number_bytes: int, num_quantized: int = 0) -> int:
    """Of a base in memory.

    Args:
        num_quantized: How many of its parameters are kept in NF4: those of linear layers but the output projection.
    """
    return int((num_parameters - num_quantized) * number_bytes + num_quantized * NF4_BYTES)


def slot_bytes(num_parameters: int, number_bytes: int) -> int:
    """Of a trial that trains beside others: its state, its place in a chunk, and the copy that a pass computes with."""
    return num_parameters * (STATE_BYTES + CHUNK_BYTES + _copy(number_bytes))


def padding_bytes(num_parameters: int, num_padded: int, number_bytes: int) -> int:
    """What padding a trial's adapter to ``num_padded`` parameters adds to its slot."""
    return (num_padded - num_parameters) * (CHUNK_BYTES + _copy(number_bytes))


def pass_bytes(shape: Shape, size: Size, adapted: int, *, recompute: bool) -> int:
    """Of a forward and backward pass, at its peak, beside the base and the slots.

    Args:
        adapted: Rank times the number of adapted layers of the whole base.
        recompute: Activation checkpointing: each layer keeps its input alone, and computes the rest again in backward.
    """
    number, layers = shape.number_bytes, shape.layers
    keys = shape.queries if shape.repeats_keys else shape.keys
    # Kept until backward: the inputs of both norms, in float32 by transformers; what the projections take in (three of
    # them share one tensor, and two); queries, keys, values, attention's output, twice, and its logsumexp; four of the
    # feed-forward, or three.
    layer = 2 * (number if shape.fused else 4) * shape.hidden + 4 * shape.heads + 8
    layer += number * (2 * shape.hidden + 3 * shape.queries + 2 * keys + adapted // layers)
    if shape.norms_queries:
        layer += 4 * (shape.queries + shape.keys)
    feed = number * (3 if shape.fused else 4) * shape.intermediate
    # In passing: gradients within the layer that backward is at.
    passing, feeding = number * (2 * shape.hidden + 2 * shape.queries), number * 3 * shape.intermediate
    # Around the layers: embeddings, last norm, outputs and their gradient, positions and rotations.
    around = (4 + 5 * number) * shape.hidden + 4 * number * shape.queries // shape.heads + 64
    tokens = size.trials * size.tokens
    last = size.trials * size.read
    fed = tokens if layers > 1 else last  # in the largest layer
    if recompute:
        kept = tokens * (around + layers * number * shape.hidden)
    else:
        kept = tokens * (around + layers * layer) + feed * (tokens * (layers - 1) + last)
    # Each layer keeps the dense mask as numbers to add.
    pairs = size.trials * size.tokens**2 if shape.dense_mask else 0
    mask = pairs * (1 + number * (1 if recompute else layers))
    backward = tokens * passing + fed * feeding + (tokens * layer + fed * feed if recompute else 0)
    backward += shape.unpacked * number
    return kept + mask + max(backward, loss_bytes(shape, size.trials * size.targets))


def loss_bytes(shape: Shape, targets: int) -> int:
    """Of the largest slice of logits, with what is computed from it; see ``packed.loss``."""
    return 8 * min(max(shape.logits, shape.vocabulary), targets * shape.vocabulary)


@dataclass(frozen=True)
class Questions:
    """What is asked of each adapter.

    Attributes:
        prompts: How many.
        shared: Tokens that all begin with.
        own: Further tokens of the longest.
        new: Tokens of an answer, at most.
    """

    prompts: int
    shared: int
    own: int
    new: int


def answer_bytes(shape: Shape, asked: Questions, adapters: int, num_parameters: int) -> int:
    """Of answering together, at the peak: adapters, keys and values, and the pass that reads or that writes.

    Args:
        num_parameters: Of an adapter.
    """
    number, rows = shape.number_bytes, adapters * asked.prompts
    both = 2 * shape.layers * shape.keys * number  # keys and values of a token
    read = adapters * asked.shared + rows * asked.own
    kept = both * (adapters * asked.shared + rows * (asked.own + asked.new))
    token = number * (4 * shape.intermediate + 5 * shape.hidden + 4 * shape.queries) + 8 * shape.hidden
    seen = asked.shared + asked.own + asked.new
    moved = kept // shape.layers  # a layer's at a time: into the cache, and together when rows have ended
    writing = moved + rows * (token + shape.heads * seen * (8 + 3 * number) + 8 * shape.vocabulary)
    copies = adapters * num_parameters * (4 + _copy(number_bytes=number))
    return copies + max(both * read + max(token * read, kept + moved), kept + writing)


def rows_at_once(shape: Shape, asked: Questions, num_parameters: int, free: int) -> int:
    """How many rows can be answered together, of whole adapters or else of one; at least one.

    Args:
        num_parameters: Of an adapter, the largest.
        free: See ``free_bytes``.
    """
    usable = int(free * USABLE)
    adapters = usable // answer_bytes(shape, asked, 1, num_parameters)
    if adapters:
        return adapters * asked.prompts
    few = range(asked.prompts, 0, -1)
    fits = (one for one in few if answer_bytes(shape, replace(asked, prompts=one), 1, num_parameters) <= usable)
    return next(fits, 1)


@dataclass(frozen=True)
class Need:
    """Bytes that one trial needs: always, and for its largest pass, alone; and whether that pass must be recomputed."""

    slot: int
    largest_pass: int
    recompute: bool


class Room:
    """The memory that a pack's trials share.

    Args:
        free: Bytes beside the base, with no trial in the pack; see ``free_bytes``.
    """

    def __init__(self, shape: Shape, free: int) -> None:
        self.shape, self.free = shape, free
        self.usable = int(free * USABLE)
        self._needs: dict[int, Need] = {}

    def need(self, rows: int, size: Size, num_parameters: int, adapted: int) -> Need:
        """What a trial needs of a pack that it has to itself.

        Args:
            rows: Of its largest pass, for the message.
            size: Of that pass.
            adapted: See ``pass_bytes``.

        Raises:
            InvalidInput: More than there is.
        """
        slot = slot_bytes(num_parameters, self.shape.number_bytes)
        ways = (False, True) if self.shape.recomputes else (False,)
        passes = [pass_bytes(self.shape, size, adapted, recompute=recompute) for recompute in ways]
        for recompute, largest in zip(ways, passes, strict=True):
            if slot + largest <= self.usable:
                return Need(slot, largest, recompute)
        least = passes[-1]
        again = " with activations computed again" if self.shape.recomputes else ""
        rule = (
            f"the trial needs {gib(slot + least)}: {gib(slot)} for its adapter and optimizer, {gib(least)} for a pass "
            f"of {rows} {'row' if rows == 1 else 'rows'} ({size.tokens:,} tokens){again}; beside the base "
            f"{gib(self.usable)} of {gib(self.free)} can be used"
        )
        raise InvalidInput(Problem("train.micro_batch_size" if least > slot else "lora.rank", rule, WAY_OUT))

    def check(self, need: Need) -> None:
        """Whether a trial fits beside those that are in.

        Raises:
            NoRoom: It does not.
        """
        slots, largest = self._taken([*self._needs.values(), need])
        if slots + largest > self.usable:
            left = max(0, self.usable - sum(self._taken(self._needs.values())))
            trials = "1 trial" if len(self._needs) == 1 else f"{len(self._needs)} trials"
            raise NoRoom(f"a trial that needs {gib(need.slot)} finds {gib(left)} beside {trials}")

    def take(self, number: int, need: Need) -> None:
        """Keep a trial's slot for it."""
        self._needs[number] = need

    def leave(self, number: int) -> None:
        """Give a trial's slot back."""
        self._needs.pop(number, None)

    def most_slots(self, need: Need) -> int:
        """How many trials that need as much fit into an empty pack."""
        return (self.usable - need.largest_pass) // max(1, need.slot)

    def allows(self, size: Size, adapted: int, padding: int, *, recompute: bool) -> bool:
        """Whether a pass fits beside all slots.

        Args:
            adapted: See ``pass_bytes``.
            padding: See ``padding_bytes``, of all its trials.
        """
        slots, _ = self._taken(self._needs.values())
        return slots + padding + pass_bytes(self.shape, size, adapted, recompute=recompute) <= self.usable

    @staticmethod
    def _taken(needs: Collection[Need]) -> tuple[int, int]:
        return sum(need.slot for need in needs), max((need.largest_pass for need in needs), default=0)


def keep_what_is_freed() -> None:
    """Have this process keep the memory that it frees, for what it takes next.

    A pass takes and frees tensors of a few MiB by the hundred. By itself glibc gives each back to the system, which
    then hands out zeroed pages anew: a quarter of a validation's time. Without glibc nothing happens.
    """
    import ctypes

    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that glibc takes
        mallopt(_M_TRIM_THRESHOLD, 256 * 2**20)
        mallopt(_M_TOP_PAD, 64 * 2**20)


def free_bytes(device: str, packs: int = 1) -> int:
    """Memory that one pack may fill.

    Args:
        device: "cpu" or "cuda".
        packs: How many share a CPU's memory; a GPU has one.
    """
    if device == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())  # what torch keeps for itself
    import psutil

    return int(psutil.virtual_memory().available // packs)


def refuse_base(num_parameters: int, number_bytes: int, *, quantized: bool, free: int) -> None:
    """Refuse a base that cannot be loaded, before it is.

    Raises:
        InvalidInput: Even counted low, it is larger than what is free.
    """
    least = base_bytes(num_parameters, number_bytes, num_parameters if quantized else 0)
    if least > free:
        rule = f"the base takes {gib(least)} ({num_parameters:,} parameters), and {gib(free)} of memory are free"
        nf4 = "" if quantized else "base.quantize: nf4, "
        raise InvalidInput(Problem("base.path", rule, f"set {nf4}a smaller base, or engine: nemo with parallel.gpus"))


def gib(num_bytes: int) -> str:
    """In words."""
    return f"{num_bytes / GIB:.1f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / 2**20:,.1f} MiB"


def _copy(number_bytes: int) -> int:
    return number_bytes if number_bytes != 4 else 0  # in float32 a pass computes with the weights themselves
