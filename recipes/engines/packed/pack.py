"""A pack: trials of one base in one process. They join, advance from report to report, are saved, and leave.

Each keeps its own step, rows, learning rate and optimizer; which of them share a forward pass changes from round to
round and changes no result.
"""

import heapq
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from recipes.engines.packed import state as states
from recipes.engines.packed.beginning import first_state, form_of
from recipes.engines.packed.chunk import Chunk, Member
from recipes.engines.packed.memory import Need, Room, Size, free_bytes, padding_bytes
from recipes.engines.packed.network import Batch, Network
from recipes.engines.packed.optimizer import lr_at
from recipes.engines.packed.planner import Planner
from recipes.engines.packed.reference import Reference
from recipes.engines.packed.rows import Order, Rows, order_of, rows_of
from recipes.engines.packed.state import Form
from recipes.engines.protocol import LOG_NAME, Diverged, Job, Report
from recipes.schema import Recipe
from sweeps.metrics import warning

VALIDATION_TOKENS = 2048  # of one forward pass without gradients


@dataclass
class Trial:
    """A trial in a pack.

    Attributes:
        target: The step of the report that was asked for; None while nobody waits for it.
        outcome: What there is to tell of it: a report, or why it cannot go on.
        reference: Of each of its rows, how likely its start finds the answer; empty where its objective does not ask.
        tokens: Computed for it so far, validation included.
        busy_s: Its share of the seconds that the pack has worked, by tokens.
        seconds, plain_tokens: Of training since the last report.
    """

    job: Job
    member: Member
    rows: Rows
    order: Order
    reference: tuple[float, ...]
    validation: tuple[Batch, ...]
    shares_prefixes: bool
    target: int | None = None
    outcome: Report | Diverged | None = None
    loss: float = math.nan
    tokens: int = 0
    busy_s: float = 0.0
    seconds: float = 0.0
    plain_tokens: int = 0

    def say(self, words: str) -> None:
        """Add a line to the trial's log."""
        _say(self.job, words)

    @property
    def step(self) -> int:
        return self.member.state.step

    @property
    def recipe(self) -> Recipe:
        return self.member.recipe


class Pack:
    """Trains trials of one base. Used by one thread.

    Args:
        network: The base; trials of another one cannot join.
        planner: Says how many trials share a forward pass.
        room: The memory beside the base; all that is free, if nothing else is said.
    """

    def __init__(self, network: Network, planner: Planner | None = None, room: Room | None = None) -> None:
        self.network = network
        self.planner = planner or Planner(network.device.type)
        self.room = room or Room(network.shape, free_bytes(network.device.type))
        self._trials: dict[int, Trial] = {}
        self._next = 0
        self._chunks: dict[tuple[int, ...], Chunk] = {}
        self._rows = cache(lambda path, method: rows_of(path, network.tokenizer, method))
        self._reference = Reference(network, self._beat)
        self._validation = cache(self._validation_batches)
        self.beats = 0  # forward passes so far: who waits can see that the pack is alive

    @property
    def trials(self) -> dict[int, Trial]:
        """Those that have joined and not left, by the number that ``admit`` gave them."""
        return self._trials

    def admit(self, job: Job, checkpoint: Path | None) -> int:
        """Take a trial in, at its first step or where a checkpoint left it; returns its number.

        Raises:
            InvalidInput: The trial cannot be trained as asked, or needs more memory than there is.
            NoRoom: It can, but not beside those that are in.
            TrainingFailed: The checkpoint is none of this trial's.
        """
        recipe = Recipe.model_validate(job.settings)
        form = form_of(self.network, recipe, job.start)
        rows = self._rows(job.train, recipe.method)
        need = self.need(job)
        self.room.check(need)
        if checkpoint is None:
            state = first_state(self.network, recipe, job.start, form)
        else:
            state = states.load(checkpoint, form, self.network.device)
        reference, beside = self._references(job, recipe)
        trial = Trial(
            job=job,
            member=Member(form.rank, form.alpha, form.sites, state, recipe, form.frozen),
            rows=rows,
            order=order_of(recipe, rows),
            reference=reference,
            validation=self._validation(job.validation, recipe.method, beside),
            shares_prefixes=_shares_prefixes(recipe),
        )
        number, self._next = self._next, self._next + 1
        self._trials[number] = trial
        self.room.take(number, need)
        company = f"{len(self._trials)} {'trial' if len(self._trials) == 1 else 'trials'} in the pack"
        trees = "prefixes shared" if trial.validation[0].rows is None and trial.shares_prefixes else "rows one by one"
        layers = len(form.sites)
        trial.say(f"joins at step {trial.step} of {recipe.train.max_steps} | {company} | {layers} layers | {trees}")
        return number

    def need(self, job: Job) -> Need:
        """The memory that a trial needs, going by its longest rows.

        Raises:
            InvalidInput: The trial cannot be trained as asked, or needs more memory than there is.
        """
        recipe = Recipe.model_validate(job.settings)
        form = form_of(self.network, recipe, job.start)
        rows = self._rows(job.train, recipe.method)
        longest = [rows[place] for place in rows.places(_longest(job.train, recipe.train.micro_batch_size))]
        batch = self.network.batch(longest, trees=_shares_prefixes(recipe))
        size = Size(1, batch.tokens, len(batch.layout.targets), batch.read)
        return self.room.need(len(longest), size, form.num_parameters, form.rank * len(form.sites))

    def ask(self, number: int) -> None:
        """Have a trial advance to its next report boundary, in the rounds to come."""
        trial = self._trials[number]
        train = trial.recipe.train
        assert trial.step < train.max_steps, "the trial has done its last step"
        trial.outcome = None
        trial.target = min(train.max_steps, (trial.step // train.validate_every + 1) * train.validate_every)

    def round(self) -> bool:
        """One optimizer step of every trial that was asked to advance; false where none was."""
        waiting = [number for number, trial in self._trials.items() if trial.target is not None]
        if not waiting:
            return False
        begun, before = time.perf_counter(), {number: self._trials[number].tokens for number in waiting}
        batches = {number: self._batches(self._trials[number]) for number in waiting}
        for group, recompute in self._groups(waiting, batches):
            with self.network.recomputing(recompute):
                self._train(group, [batches[number] for number in group])
        self._report([number for number in waiting if self._trials[number].target == self._trials[number].step])
        took = time.perf_counter() - begun
        total = sum(self._trials[number].tokens - before[number] for number in waiting)
        for number in waiting:
            self._trials[number].busy_s += took * (self._trials[number].tokens - before[number]) / max(1, total)
        return True

    def save(self, number: int, folder: Path) -> None:
        """Write a trial's adapter and all that going on needs; see ``packed.state``."""
        import shutil

        trial = self._trials[number]
        self._settle(number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        member = trial.member
        form = Form(member.rank, member.alpha, member.sites, member.frozen)
        states.save(member.state, form, member.recipe, self.network.linear_names, trial.job.base, folder)

    def retire(self, number: int) -> None:
        """Let a trial leave. The others go on as they were."""
        if number in self._trials:
            self._settle(number)
            del self._trials[number]
            self.room.leave(number)

    def _batches(self, trial: Trial) -> list[Batch]:
        examples, size = trial.order.rows_of(trial.step), trial.recipe.train.micro_batch_size
        parts = [trial.rows.places(examples[start : start + size]) for start in range(0, len(examples), size)]
        return [self._batch(trial.rows, places, trial.reference, trees=trial.shares_prefixes) for places in parts]

    def _batch(self, rows: Rows, places: Sequence[int], reference: Sequence[float], *, trees: bool = True) -> Batch:
        batch = self.network.batch([rows[place] for place in places], trees=trees)
        return replace(batch, reference=tuple(reference[place] for place in places)) if reference else batch

    def _groups(
        self, waiting: Sequence[int], batches: dict[int, list[Batch]]
    ) -> Iterator[tuple[tuple[int, ...], bool]]:
        """Who shares a forward pass: trials of like size and rank, as many as the planner says and memory allows.

        With each group: whether memory asks for its activations to be computed again in backward.
        """
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for number in waiting:
            trial = self._trials[number]
            alone = number if trial.recipe.lora.dropout > 0 else -1
            in_rows = batches[number][0].rows is not None
            kind = (in_rows, trial.recipe.method, trial.recipe.train.micro_batch_size, alone)
            kinds.setdefault(kind, []).append(number)
        for numbers in kinds.values():
            numbers.sort(key=lambda number: (self._trials[number].member.rank, number))
            tokens = max(max(part.tokens for part in batches[number]) for number in numbers)
            most, recompute = self._most(numbers, batches)
            for group in _cut(numbers, self.planner.size(tokens, most)):
                yield group, recompute

    def _most(self, numbers: Sequence[int], batches: dict[int, list[Batch]]) -> tuple[int, bool]:
        """How many of these trials memory lets share a pass; fewer come before computing activations again."""
        ways = (False, True) if self.network.shape.recomputes else (False,)
        for recompute in ways:
            for most in range(len(numbers), 0, -1):
                if self._allows(_cut(numbers, most), batches, recompute):
                    return most, recompute
        return 1, ways[-1]  # more than was estimated when the trial came: tried all the same

    def _allows(self, groups: Sequence[tuple[int, ...]], batches: dict[int, list[Batch]], recompute: bool) -> bool:
        passes, padding = [], 0
        for group in groups:
            members = [self._trials[number].member for number in group]
            rank = max(member.rank for member in members)
            layers = {site.name for member in members for site in member.sites}
            padded = states.num_parameters(self.network.sites_of(tuple(layers)), rank)
            own = (member.state.weights.numel() for member in members)
            padding += sum(padding_bytes(one, padded, self.network.shape.number_bytes) for one in own)
            parts = [part for number in group for part in batches[number]]
            tokens, read = max(part.tokens for part in parts), max(part.read for part in parts)
            size = Size(len(group), tokens, max(len(part.layout.targets) for part in parts), read)
            passes.append((size, rank * len(layers)))
        return all(self.room.allows(size, adapted, padding, recompute=recompute) for size, adapted in passes)

    def _train(self, group: tuple[int, ...], batches: list[list[Batch]]) -> None:
        chunk = self._chunk(group)
        begun = time.perf_counter()
        losses = chunk.train_step(batches)
        self._beat()
        took = time.perf_counter() - begun
        self.planner.record(max(part.tokens for parts in batches for part in parts), len(group), took)
        computed = [sum(part.tokens for part in parts) for parts in batches]
        for number, loss, parts, tokens in zip(group, losses, batches, computed, strict=True):
            trial = self._trials[number]
            trial.loss = loss
            trial.tokens += tokens
            trial.seconds += took * tokens / sum(computed)
            plain = sum(part.layout.num_plain for part in parts)
            trial.plain_tokens += plain
            at = f"step {trial.step} | loss {loss:.4f} | {tokens} tokens computed for {plain}"
            trial.say(f"{at} | {len(group)} in the pass, {took:.3f} s")
            if not math.isfinite(loss):
                self._diverged(trial, "training", loss, trial.step + 1)

    def _report(self, numbers: Sequence[int]) -> None:
        """Validate those that have come to a boundary, and have their reports ready."""
        kinds: dict[int, list[int]] = {}
        for number in numbers:
            self._settle(number)
            kinds.setdefault(id(self._trials[number].validation), []).append(number)
        for same in kinds.values():
            batches, objective = self._trials[same[0]].validation, self._trials[same[0]].member.objective
            runs = [objective.runs(batch) for batch in batches]
            size = max(1, VALIDATION_TOKENS // max(batch.tokens for batch in batches))
            for start in range(0, len(same), size):
                group = same[start : start + size]
                chunk = Chunk(self.network, [self._trials[number].member for number in group], training=False)
                for number, nats in zip(group, chunk.nats(batches, runs).cpu(), strict=True):
                    self._finish_report(self._trials[number], nats)

    def _finish_report(self, trial: Trial, nats: torch.Tensor) -> None:
        self._beat()
        trial.tokens += sum(batch.tokens for batch in trial.validation)
        figures = trial.member.objective.figures(nats, trial.validation)
        if not math.isfinite(figures["val/loss"]):
            self._diverged(trial, "validation", figures["val/loss"], trial.step)
            return
        metrics = {
            "train/loss": trial.loss,
            **figures,
            "train/lr": lr_at(trial.recipe, trial.step),
            "train/tokens_per_s": trial.plain_tokens / max(1e-9, trial.seconds),
        }
        trial.say(f"at step {trial.step}: " + ", ".join(f"{name} {value:.5g}" for name, value in metrics.items()))
        if warned := warning(metrics):
            trial.say(warned)
        trial.seconds, trial.plain_tokens = 0.0, 0
        trial.target, trial.outcome = None, Report(trial.step, metrics, trial.step >= trial.recipe.train.max_steps)

    def _diverged(self, trial: Trial, split: str, loss: float, step: int) -> None:
        trial.target, trial.outcome = None, Diverged(f"the {split} loss is {loss} at step {step}")
        trial.say(str(trial.outcome))

    def _chunk(self, group: tuple[int, ...]) -> Chunk:
        """The chunk of these trials; those that hold one of them are dissolved first."""
        if group not in self._chunks:
            for number in group:
                self._settle(number)
            self._chunks[group] = Chunk(self.network, [self._trials[number].member for number in group])
        return self._chunks[group]

    def _settle(self, number: int) -> None:
        """Bring a trial's state up to date, and dissolve the chunk that it is in."""
        for group in [group for group in self._chunks if number in group]:
            self._chunks.pop(group).store()

    def _references(self, job: Job, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """How likely the trial's start finds its training rows, and its validation rows, where its loss asks that."""
        if recipe.method != "dpo":
            return (), ()
        train, validation = (
            self._reference.of(path, self._rows(path, recipe.method), job.start, lambda words: _say(job, words))
            for path in (job.train, job.validation)
        )
        return train, validation

    def _validation_batches(self, path: Path, method: str, reference: tuple[float, ...]) -> tuple[Batch, ...]:
        """The validation rows in an order of our own, in which most is shared: nothing is learned from it."""
        rows = self._rows(path, method)
        groups = sorted(map(rows.places, ([one] for one in range(rows.num_examples))), key=lambda own: rows[own[0]].ids)
        passes = self.network.passes(rows, groups, VALIDATION_TOKENS)
        return tuple(
            replace(batch, reference=tuple(reference[place] for place in places)) if reference else batch
            for places, batch in passes
        )

    def _beat(self) -> None:
        self.beats += 1


def _say(job: Job, words: str) -> None:
    with (job.folder / LOG_NAME).open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {words}\n")


def _shares_prefixes(recipe: Recipe) -> bool:
    return recipe.lora.dropout == 0 and recipe.packed.trees


def _cut(numbers: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Groups of at most so many, of nearly equal size."""
    count = -(-len(numbers) // size)
    ends = [len(numbers) * place // count for place in range(count + 1)]
    return [tuple(numbers[start:end]) for start, end in pairwise(ends)]


def _longest(path: Path, number: int) -> list[int]:
    """The rows with the longest texts: none is tokenised to find them."""
    with path.open("rb") as file:
        lengths = [len(line) for line in file]
    return heapq.nlargest(number, range(len(lengths)), key=lengths.__getitem__)
