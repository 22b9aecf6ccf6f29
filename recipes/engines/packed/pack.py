"""A pack: trials of one base in one process. They join, advance from report to report, are saved, and leave.

Each keeps its own step, rows, learning rate and optimizer; which of them share a forward pass changes from round to
round and changes no result.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recipes.engines.packed import state as states
from recipes.engines.packed.chunk import Chunk, Member
from recipes.engines.packed.network import Batch, Network
from recipes.engines.packed.optimizer import lr_at
from recipes.engines.packed.planner import Planner
from recipes.engines.packed.rows import Order, Row, Rows
from recipes.engines.protocol import Diverged, Job, Report
from recipes.schema import Recipe

VALIDATION_TOKENS = 2048  # of one forward pass without gradients


@dataclass
class Trial:
    """A trial in a pack.

    Attributes:
        target: The step of the report that was asked for; None while nobody waits for it.
        outcome: What there is to tell of it: a report, or why it cannot go on.
        tokens: Computed for it so far, validation included.
        busy_s: Its share of the seconds that the pack has worked, by tokens.
        seconds, plain_tokens: Of training since the last report.
    """

    job: Job
    member: Member
    rows: Rows
    order: Order
    validation: tuple[Batch, ...]
    shares_prefixes: bool
    target: int | None = None
    outcome: Report | Diverged | None = None
    loss: float = math.nan
    tokens: int = 0
    busy_s: float = 0.0
    seconds: float = 0.0
    plain_tokens: int = 0

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
    """

    def __init__(self, network: Network, planner: Planner | None = None) -> None:
        self.network = network
        self.planner = planner or Planner(network.device.type)
        self._trials: dict[int, Trial] = {}
        self._next = 0
        self._chunks: dict[tuple[int, ...], Chunk] = {}
        self._rows = cache(lambda path: Rows(Path(path), network.tokenizer))
        self._validation = cache(self._validation_batches)
        self.beats = 0  # forward passes so far: who waits can see that the pack is alive

    @property
    def trials(self) -> dict[int, Trial]:
        """Those that have joined and not left, by the number that ``admit`` gave them."""
        return self._trials

    def admit(self, job: Job, checkpoint: Path | None) -> int:
        """Take a trial in, at its first step or where a checkpoint left it; returns its number.

        Raises:
            InvalidInput: The trial cannot be trained as asked.
            TrainingFailed: The checkpoint is none of this trial's.
        """
        recipe = Recipe.model_validate(job.settings)
        sites = self.network.sites(recipe)
        rows = self._rows(str(job.train))
        if checkpoint is None:
            state = states.fresh(recipe, sites, self.network.device)
        else:
            state = states.load(checkpoint, recipe, sites, self.network.device)
        trial = Trial(
            job=job,
            member=Member(recipe.lora.rank, recipe.lora.alpha, sites, state, recipe),
            rows=rows,
            order=Order(len(rows), recipe.train.batch_size, recipe.train.seed),
            validation=self._validation(str(job.validation)),
            shares_prefixes=recipe.lora.dropout == 0 and recipe.packed.trees,
        )
        number, self._next = self._next, self._next + 1
        self._trials[number] = trial
        return number

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
        for group in self._groups(waiting, batches):
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
        states.save(member.state, member.recipe, member.sites, self.network.linear_names, trial.job.base, folder)

    def retire(self, number: int) -> None:
        """Let a trial leave. The others go on as they were."""
        if number in self._trials:
            self._settle(number)
            del self._trials[number]

    def _batches(self, trial: Trial) -> list[Batch]:
        places = trial.order.rows_of(trial.step)
        size = trial.recipe.train.micro_batch_size
        rows = [trial.rows[place] for place in places]
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [self.network.batch(part, trees=trial.shares_prefixes) for part in parts]

    def _groups(self, waiting: Sequence[int], batches: dict[int, list[Batch]]) -> list[tuple[int, ...]]:
        """Who shares a forward pass: trials of like size and rank, as many as the planner says."""
        groups: list[tuple[int, ...]] = []
        kinds: dict[tuple[Any, ...], list[int]] = {}
        for number in waiting:
            trial = self._trials[number]
            alone = number if trial.recipe.lora.dropout > 0 else -1
            in_rows = batches[number][0].rows is not None
            kinds.setdefault((in_rows, trial.recipe.train.micro_batch_size, alone), []).append(number)
        for numbers in kinds.values():
            numbers.sort(key=lambda number: (self._trials[number].recipe.lora.rank, number))
            tokens = max(max(part.tokens for part in batches[number]) for number in numbers)
            size = self.planner.size(tokens, len(numbers))
            num_groups = -(-len(numbers) // size)
            for place in range(num_groups):  # of nearly equal size
                start, end = (len(numbers) * one // num_groups for one in (place, place + 1))
                groups.append(tuple(numbers[start:end]))
        return groups

    def _train(self, group: tuple[int, ...], batches: list[list[Batch]]) -> None:
        chunk = self._chunk(group)
        begun = time.perf_counter()
        losses = chunk.train_step(batches)
        self.beats += 1
        took = time.perf_counter() - begun
        self.planner.record(max(part.tokens for parts in batches for part in parts), len(group), took)
        computed = [sum(part.tokens for part in parts) for parts in batches]
        for number, loss, parts, tokens in zip(group, losses, batches, computed, strict=True):
            trial = self._trials[number]
            trial.loss = loss
            trial.tokens += tokens
            trial.seconds += took * tokens / sum(computed)
            trial.plain_tokens += sum(part.layout.num_plain for part in parts)
            if not math.isfinite(loss):
                self._diverged(trial, "training", loss, trial.step + 1)

    def _report(self, numbers: Sequence[int]) -> None:
        """Validate those that have come to a boundary, and have their reports ready."""
        kinds: dict[int, list[int]] = {}
        for number in numbers:
            self._settle(number)
            kinds.setdefault(id(self._trials[number].validation), []).append(number)
        for same in kinds.values():
            batches = self._trials[same[0]].validation
            size = max(1, VALIDATION_TOKENS // max(batch.tokens for batch in batches))
            for start in range(0, len(same), size):
                group = same[start : start + size]
                chunk = Chunk(self.network, [self._trials[number].member for number in group], training=False)
                for number, loss in zip(group, chunk.losses(batches), strict=True):
                    self._finish_report(self._trials[number], loss)

    def _finish_report(self, trial: Trial, validation_loss: float) -> None:
        self.beats += 1
        trial.tokens += sum(batch.tokens for batch in trial.validation)
        if not math.isfinite(validation_loss):
            self._diverged(trial, "validation", validation_loss, trial.step)
            return
        metrics = {
            "train/loss": trial.loss,
            "val/loss": validation_loss,
            "train/lr": lr_at(trial.recipe, trial.step),
            "train/tokens_per_s": trial.plain_tokens / max(1e-9, trial.seconds),
        }
        trial.seconds, trial.plain_tokens = 0.0, 0
        trial.target, trial.outcome = None, Report(trial.step, metrics, trial.step >= trial.recipe.train.max_steps)

    def _diverged(self, trial: Trial, split: str, loss: float, step: int) -> None:
        trial.target, trial.outcome = None, Diverged(f"the {split} loss is {loss} at step {step}")

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

    def _validation_batches(self, path: str) -> tuple[Batch, ...]:
        """The validation rows in an order of our own, in which most is shared: nothing is learned from it."""
        rows = sorted(self._rows(path), key=lambda row: row.ids)
        batches: list[Batch] = []
        part: list[Row] = []
        for row in rows:
            grown = self.network.batch([*part, row])
            if part and grown.tokens > VALIDATION_TOKENS:
                batches.append(self.network.batch(part))
                part = []
            part.append(row)
        return (*batches, *([self.network.batch(part)] if part else []))
