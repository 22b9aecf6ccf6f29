"""Greedy answers of many adapters to the same prompts, in one batch, with one key-value cache for what prompts share.

Evaluation asks every adapter the same questions, and all of them begin with the same instructions. So the prompts of an
adapter go through the base as a prefix tree, the keys and values of their common beginning are kept once, and every new
token attends to that part and to its own row. Rows that have ended are taken out of the batch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from recipes import adapters, generation
from recipes.engines.packed import memory
from recipes.engines.packed import state as states
from recipes.engines.packed.chunk import Adapter, Chunk
from recipes.engines.packed.network import Network
from recipes.engines.packed.rows import Row
from recipes.engines.packed.tree import MIN_SHARED, Layout, lay_out
from recipes.generation import Messages
from recipes.guiding import Guide, guides

MAX_ROWS = {"cpu": 256, "cuda": 1024}  # adapters times prompts of one batch
SPARSE = 0.6  # a batch of which less is alive is packed together

Pick = Callable[[torch.Tensor, list[tuple[int, int]]], torch.Tensor]
"""Chooses tokens: logits (rows, vocabulary) and each row's numbers of adapter and prompt, to token ids (rows,)."""


class Recorder:
    """Keeps each layer's keys and values while prompts go through the base: (adapters, heads, tokens, width)."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def record(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        self.layers[layer] = (key, value)


class Cache:
    """Keys and values of a batch while it is being continued, for (adapters, prompts) rows.

    Attributes:
        shared: Of each layer, keys and values of the common beginning, (adapters, heads, shared tokens, width).
        own: Of each layer, of each row's own tokens, (adapters, prompts, heads, room, width).
        lengths: How many of these a row has, (adapters, prompts).
    """

    def __init__(self, recorder: Recorder, layout: Layout, shared: int, room: int) -> None:
        places = [row[shared:] for row in layout.places]
        most = max(len(row) for row in places)
        gather = torch.tensor([[*row, *[0] * (most - len(row))] for row in places])
        adapters = next(iter(recorder.layers.values()))[0].shape[0]
        self.shared: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.own: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for layer, (key, value) in recorder.layers.items():
            index = gather.to(key.device)
            self.shared[layer] = (key[:, :, :shared].contiguous(), value[:, :, :shared].contiguous())
            self.own[layer] = (_room(key, index, most + room), _room(value, index, most + room))
        lengths = torch.tensor([len(row) for row in places], device=key.device)
        self.lengths = lengths.expand(adapters, -1).contiguous()
        self._mask = self._seen()

    def keep(self, adapters: torch.Tensor, rows: torch.Tensor) -> None:
        """Go on with some rows alone.

        Args:
            adapters: Places of those that stay, (fewer adapters,).
            rows: Of each, the places of the rows that stay, (fewer adapters, fewer prompts).
        """
        for layer, pair in self.own.items():
            key, value = (_take(part, adapters, rows, self._used) for part in pair)
            self.own[layer] = (key, value)
        if len(adapters) < self.lengths.shape[0]:
            for layer, (key, value) in self.shared.items():
                self.shared[layer] = (key[adapters], value[adapters])
        self.lengths = self.lengths[adapters[:, None], rows]

    def advance(self) -> None:
        """Make room in each row for the token that comes next; called before its forward pass."""
        self.lengths = self.lengths + 1
        self._mask = self._seen()

    def _seen(self) -> torch.Tensor:
        """Which of its own tokens a row sees: (adapters, prompts, 1, 1, used), 0 or minus infinity."""
        self._used = int(self.lengths.max())
        unseen = torch.arange(self._used, device=self.lengths.device) >= self.lengths[..., None]
        return torch.zeros_like(unseen, dtype=torch.float32).masked_fill_(unseen, float("-inf"))[:, :, None, None]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """One new token of every row.

        Args:
            query: (adapters * prompts, heads, 1, width); key and value with their own number of heads.

        Returns:
            (adapters * prompts, 1, heads, width).
        """
        adapters, prompts = self.lengths.shape
        num, width = key.shape[1], key.shape[3]
        groups = query.shape[1] // num
        own_key, own_value = self.own[layer]
        place = (self.lengths - 1)[:, :, None, None, None].expand(-1, -1, num, 1, width)
        own_key.scatter_(3, place, key.view(adapters, prompts, num, 1, width))
        own_value.scatter_(3, place, value.view(adapters, prompts, num, 1, width))
        own_key, own_value = own_key[:, :, :, : self._used], own_value[:, :, :, : self._used]
        shared_key, shared_value = self.shared[layer]
        q = query.view(adapters, prompts, num, groups, width).mul(scaling)
        # (adapters, heads, prompts * groups, width): all that see one shared beginning, in one product
        by_head = q.transpose(1, 2).reshape(adapters, num, prompts * groups, width)
        shared = shared_key.shape[2]
        to_shared = torch.matmul(by_head, shared_key.mT).view(adapters, num, prompts, groups, shared).transpose(1, 2)
        to_own = torch.matmul(q, own_key.mT) + self._mask.to(q.dtype)
        weights = functional.softmax(torch.cat([to_shared, to_own], -1).float(), -1).to(q.dtype)
        on_shared, on_own = weights.split([shared, self._used], -1)
        on_shared = on_shared.transpose(1, 2).reshape(adapters, num, prompts * groups, shared)
        out = torch.matmul(on_shared, shared_value).view(adapters, num, prompts, groups, width).transpose(1, 2)
        out = out + torch.matmul(on_own, own_value)
        return out.reshape(adapters * prompts, 1, num * groups, width)


def load_adapter(network: Network, folder: Path | None) -> Adapter:
    """An adapter in PEFT's format, ready to answer; without a folder the base itself, as one that changes nothing."""
    if folder is None:
        sites = network.sites_of(list(network.layers)[:1])
        size = states.num_parameters(sites, 1)
        return Adapter(1, 1.0, sites, states.empty(size, network.device))
    rank, alpha, names = adapters.shape(folder)
    sites = network.sites_of(names)
    state = states.empty(states.num_parameters(sites, rank), torch.device("cpu"))
    states.load_adapter(folder, state.weights, sites, rank)
    state.weights = state.weights.to(network.device)
    return Adapter(rank, alpha, sites, state)


def texts(
    network: Network,
    adapters: Sequence[Adapter],
    prompts: Sequence[Messages],
    max_new_tokens: int,
    schema: dict[str, Any] | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[list[str]]:
    """What each adapter answers to each conversation, as ``generation.Model.answer`` would, greedily.

    Args:
        adapters: See ``load_adapter``.
        prompts: Conversations that end with the user's turn.
        schema: A JSON schema that every answer is forced into.
    """
    if network.why_no_trees is not None:
        return [_generated(network, adapter, prompts, max_new_tokens, schema, progress) for adapter in adapters]
    tokenizer = network.tokenizer
    ids = [
        tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True, tokenize=True, return_dict=False)
        for prompt in prompts
    ]
    pick = schema_pick(tokenizer, schema, max_new_tokens) if schema else None
    found = answer(network, adapters, ids, max_new_tokens, pick, progress)
    return [[text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)] for rows in found]


def schema_pick(tokenizer: Any, schema: dict[str, Any], limit: int) -> Pick:
    """Picks the likeliest token that a JSON schema allows in an answer of at most ``limit`` tokens."""
    found: dict[tuple[int, int], Guide] = {}
    new = guides(tokenizer, schema, limit)

    def pick(logits: torch.Tensor, names: list[tuple[int, int]]) -> torch.Tensor:
        for row, name in enumerate(names):
            if name not in found:
                found[name] = new()
            found[name].mask(logits[row : row + 1])
        chosen = logits.argmax(-1)
        for token, name in zip(chosen.tolist(), names, strict=True):
            found[name].take(token)
        return chosen

    return pick


def _generated(
    network: Network,
    adapter: Adapter,
    prompts: Sequence[Messages],
    max_new_tokens: int,
    schema: dict[str, Any] | None,
    progress: Callable[[], None],
) -> list[str]:
    """By transformers' own loop, for a base whose attention is not ours."""
    size = min(MAX_ROWS[network.device.type], len(prompts))
    model = generation.Model(network.model, network.tokenizer, max_new_tokens, size)
    with torch.inference_mode(), Chunk(network, [adapter], training=False).bound():
        return model.answer(prompts, schema, progress=lambda _: progress())


def answer(
    network: Network,
    members: Sequence[Adapter],
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    pick: Pick | None = None,
    progress: Callable[[], None] = lambda: None,
) -> list[list[list[int]]]:
    """The tokens that each adapter answers each prompt with, greedily, without the one that ends the answer.

    Args:
        members: The adapters; see ``load_adapter``.
        prompts: Token ids, the same for all.
        pick: Instead of the likeliest token, e.g. the likeliest that a schema allows.
        progress: Called after each token.

    Returns:
        By adapter, then by prompt.
    """
    answers: list[list[list[int]]] = [[[] for _ in prompts] for _ in members]
    if not members or not prompts:
        return answers
    most = _most_rows(network, members, prompts, max_new_tokens)
    # Prompts of like length stand together, so that little room is wasted.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    some = max(1, min(len(order), most))
    for start in range(0, len(order), some):
        places = order[start : start + some]
        adapters = max(1, most // len(places))
        for first in range(0, len(members), adapters):
            group = members[first : first + adapters]
            batch = _Batch(network, group, [prompts[place] for place in places], max_new_tokens, pick, places, first)
            for adapter, rows in enumerate(batch.run(progress)):
                for place, tokens in zip(places, rows, strict=True):
                    answers[first + adapter][place] = tokens
    return answers


def _most_rows(
    network: Network, members: Sequence[Adapter], prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> int:
    """As many as bring something, and as the memory that is free now has room for."""
    shared = _common(prompts)
    asked = memory.Questions(len(prompts), shared, max(map(len, prompts)) - shared, max_new_tokens)
    largest = max(member.state.weights.numel() for member in members)
    free = memory.free_bytes(network.device.type)
    return min(MAX_ROWS[network.device.type], memory.rows_at_once(network.shape, asked, largest, free))


class _Batch:
    """Some adapters' answers to some prompts."""

    def __init__(
        self,
        network: Network,
        members: Sequence[Adapter],
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        pick: Pick | None,
        prompt_numbers: Sequence[int],
        first_adapter: int,
    ) -> None:
        self._network, self._members, self._max_new = network, list(members), max_new_tokens
        self._prompts, self._pick = prompts, pick
        self._names = [[(first_adapter + a, number) for number in prompt_numbers] for a in range(len(members))]
        self._ends = set(generation.end_tokens(network.model, network.tokenizer))

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def run(self, progress: Callable[[], None]) -> list[list[list[int]]]:
        num_adapters, num_prompts = len(self._members), len(self._prompts)
        answers: list[list[list[int]]] = [[[] for _ in range(num_prompts)] for _ in range(num_adapters)]
        adapters = list(range(num_adapters))  # those that are still in the batch
        columns = [list(range(num_prompts)) for _ in adapters]  # of each, the prompt behind each of its rows
        ended = [[False] * num_prompts for _ in adapters]
        chunk = Chunk(self._network, self._members, training=False)
        cache, hidden = self._read_prompts(chunk)
        positions = torch.tensor([[len(prompt) for prompt in self._prompts]] * num_adapters)
        for count in range(self._max_new):
            tokens = self._choose(hidden, adapters, columns)
            for row, adapter in enumerate(adapters):
                for place, column in enumerate(columns[row]):
                    if ended[adapter][column]:
                        continue
                    token = tokens[row][place]
                    if token in self._ends:
                        ended[adapter][column] = True
                    else:
                        answers[adapter][column].append(token)
            progress()
            alive = [
                [place for place, column in enumerate(columns[row]) if not ended[adapter][column]]
                for row, adapter in enumerate(adapters)
            ]
            if count + 1 == self._max_new or not any(alive):
                break
            new = torch.tensor(tokens)
            if sum(map(len, alive)) < SPARSE * new.numel():
                rows = [row for row, places in enumerate(alive) if places]
                width = max(len(places) for places in alive)
                # Rows that have ended fill up where an adapter has fewer that have not.
                kept = torch.tensor(
                    [
                        (alive[row] + [place for place in range(len(columns[row])) if place not in alive[row]])[:width]
                        for row in rows
                    ]
                )
                cache.keep(torch.tensor(rows, device=hidden.device), kept.to(hidden.device))
                new, positions = new[rows].gather(1, kept), positions[rows].gather(1, kept)
                columns = [
                    [columns[row][place] for place in places] for row, places in zip(rows, kept.tolist(), strict=True)
                ]
                if len(rows) < len(adapters):
                    adapters = [adapters[row] for row in rows]
                    chunk = Chunk(self._network, [self._members[adapter] for adapter in adapters], training=False)
            cache.advance()
            hidden = self._step(chunk, cache, new, positions)
            positions = positions + 1
        return answers

    def _read_prompts(self, chunk: Chunk) -> tuple[Cache, torch.Tensor]:
        """The cache of all prompts, and each row's last output, (adapters * prompts, width)."""
        layout = lay_out([Row(tuple(prompt), ()) for prompt in self._prompts])
        shared = _common(self._prompts)
        recorder = Recorder()
        last = [places[-1] for places in layout.places]
        with chunk.bound():
            hidden = self._network.tree_outputs([layout] * len(self._members), [last] * len(self._members), recorder)
        return Cache(recorder, layout, shared, self._max_new), hidden

    def _step(self, chunk: Chunk, cache: Cache, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        device = self._network.device
        with chunk.bound():
            return self._network.next_outputs(
                tokens.reshape(-1, 1).to(device), positions.reshape(-1, 1).to(device), cache
            )

    def _choose(self, hidden: torch.Tensor, adapters: list[int], columns: list[list[int]]) -> list[list[int]]:
        head: Any = self._network.head.weight
        logits = torch.mm(hidden, head.t())
        if self._pick is None:
            chosen = logits.argmax(-1)
        else:
            names = [
                self._names[adapter][column] for adapter, row in zip(adapters, columns, strict=True) for column in row
            ]
            chosen = self._pick(logits, names)
        told: list[list[int]] = chosen.view(len(adapters), -1).tolist()
        return told


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with; the last token of each stays its own."""
    first, last = min(map(list, prompts)), max(map(list, prompts))
    length = min(len(first), len(last)) - 1
    same = next((place for place in range(length) if first[place] != last[place]), length)
    return same if same >= MIN_SHARED else 0


def _room(part: torch.Tensor, index: torch.Tensor, room: int) -> torch.Tensor:
    """(adapters, heads, tokens, width) gathered to (adapters, prompts, heads, room, width)."""
    adapters, heads, _, width = part.shape
    prompts, own = index.shape
    out = part.new_zeros(adapters, prompts, heads, room, width)
    if own:
        taken = part.index_select(2, index.reshape(-1)).view(adapters, heads, prompts, own, width)
        out[:, :, :, :own] = taken.transpose(1, 2)
    return out


def _take(part: torch.Tensor, adapters: torch.Tensor, rows: torch.Tensor, used: int) -> torch.Tensor:
    """Some rows of (adapters, prompts, heads, room, width), with the same room; what is not used yet is not copied."""
    out = part.new_zeros(*rows.shape, *part.shape[2:])
    out[..., :used, :] = part[..., :used, :][adapters[:, None], rows]
    return out
