"""Preference trials of the packed engine against trl's DPOTrainer: the same losses, and what sharing prefixes brings.

``results/dpo`` holds the losses and margins of both over thirty steps. ``results/dpo_speed`` holds the seconds of a
step: pairs as trees of three levels (system prompt, prompt, two answers) against the same rows one by one, beside the
ratio that counted tokens predict; several trials in a pass; and trl.
"""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipes.bases import BUILTIN
from recipes.engines.packed.rows import Row
from recipes.engines.packed.tree import lay_out
from recipes.engines.protocol import Job, Report
from recipes.schema import Recipe
from tests import trl_peer
from tests.benchmarks import shapes
from tests.benchmarks.report import alternate, ratios, report
from tests.recipes.tiny import one_thread, tiny_settings

STEPS, EVERY = 30, 5
DEMO = BUILTIN["builtin:tiny_commerce"]
KINDS: dict[str, dict[str, Any]] = {
    "sigmoid": {},
    "sigmoid, labels smoothed by 0.1": {"label_smoothing": 0.1},
    "ipo": {"loss": "ipo"},
    "sigmoid with 0.5 × SFT": {"sft_weight": 0.5},
}
SHAPES: dict[str, tuple[int, int, int]] = {  # tokens of the system prompt, of the rest of the prompt, of an answer
    "short prompt, long answers": (64, 64, 256),
    "the paper's row": (630, 304, 256),
    "long prompt, short answers": (320, 128, 64),
}
COMMON = {"threads": 1, "dtype": "float32", "seconds": "CPU"}


def run_agreement(repeats: int) -> None:
    """Train by both and write the report; a second turn would say the same."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        agreement(Path(folder))


def run_speed(repeats: int) -> None:
    """Time both and write the report."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        speed(Path(folder), repeats)


def demo_pairs(number: int, start: int = 0) -> list[dict[str, Any]]:
    """The demo's rows; the rejected answer has a product and the second category of another shopper's."""
    from recipes.commerce import task

    rows, draw = list(task.rows(start + number + 1)), random.Random(0)
    pairs = []
    for place in range(start, start + number):
        messages = [dict(message) for message in rows[place]["messages"]]
        answer, other = messages[-1]["content"], rows[draw.randrange(len(rows))]["messages"][-1]["content"]
        worse = json.loads(json.dumps(answer))
        worse["proposal"][0]["products"][0] = other["proposal"][1]["products"][0]
        worse["proposal"][1]["category"] = other["proposal"][0]["category"]
        messages[-1]["content"] = json.dumps(answer, separators=(",", ":"))
        pairs.append({"messages": messages, "rejected": json.dumps(worse, separators=(",", ":"))})
    return pairs


def _job(folder: Path, preference: dict[str, Any], **overrides: Any) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    train, validation = folder.parent / "train.jsonl", folder.parent / "validation.jsonl"
    for path, pairs in ((train, demo_pairs(160)), (validation, demo_pairs(16, start=160))):
        if not path.exists():
            path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    settings = tiny_settings(
        DEMO,
        lora__dropout=0.0,
        lora__rank=8,
        lora__alpha=16,
        optimizer__lr=1e-3,
        train__max_steps=STEPS,
        train__validate_every=EVERY,
        train__batch_size=4,
        train__micro_batch_size=4,
    )
    for key, value in overrides.items():
        group, name = key.split("__")
        settings[group][name] = value
    settings |= {"engine": "packed", "method": "dpo", "preference": preference}
    return Job(settings, str(DEMO), train, validation, folder, "cpu", 1)


def agreement(folder: Path) -> None:
    """Thirty steps of each kind by both, over the same pairs from the same adapter."""
    network = shapes.network(DEMO)
    rows = []
    for kind, preference in KINDS.items():
        job = _job(folder / kind, preference)
        ours = _ours(network, job)
        recipe = Recipe.model_validate(job.settings)
        told = trl_peer.train(DEMO, recipe, job.train, job.validation, folder / "trl")
        margins = [one[trl_peer.MARGINS] for one in told.validation]
        close = max(abs(one - other) / abs(other) for one, other in zip(ours.losses, told.losses, strict=True))
        apart = max(abs(one - other) for one, other in zip(ours.margins, margins, strict=True)) / max(map(abs, margins))
        for step in (1, *range(EVERY, STEPS + 1, EVERY)):
            at = step // EVERY - 1 if step % EVERY == 0 else None
            row = {"loss": kind, "step": step, "ours": f"{ours.losses[step - 1]:.7f}"}
            row |= {"trl": f"{told.losses[step - 1]:.7f}"}
            row |= {"margin, ours": "–" if at is None else f"{ours.margins[at]:.6f}"}
            row |= {"margin, trl": "–" if at is None else f"{margins[at]:.6f}"}
            last = step == STEPS
            row |= {"losses apart at most": f"{close:.1e}" if last else "", "margins": f"{apart:.1e}" if last else ""}
            rows.append(row)
        print(f"{kind}: losses {close:.1e} apart at most, margins {apart:.1e} of the largest", flush=True)
    conditions = {
        "base": "the demo's",
        "pairs": "the demo's, 160 to train and 16 to validate; the rejected answer is the right one, corrupted",
        "apart": "largest relative difference over all 30 steps; of margins relative to the largest margin",
        "batch": "4 pairs",
        "trl": _trl(),
    }
    report("dpo", rows, {**COMMON, **conditions})


@dataclass
class Ours:
    """A trial's losses at each step, and its margins at each report."""

    losses: list[float]
    margins: list[float]


def _ours(network: Any, job: Job) -> Ours:
    from recipes.engines.packed.pack import Pack

    pack, told = Pack(network), Ours([], [])
    number = pack.admit(job, None)
    for step in range(STEPS):
        if step % EVERY == 0:
            pack.ask(number)
        pack.round()
        told.losses.append(pack.trials[number].loss)
        outcome = pack.trials[number].outcome
        if isinstance(outcome, Report):
            told.margins.append(outcome.metrics["dpo/reward_margin"])
    return told


def speed(folder: Path, repeats: int) -> None:
    """Seconds of a step: trees against rows one by one; several trials in a pass; trl."""
    rows: list[dict[str, Any]] = []
    for size in shapes.SIZES:
        base = shapes.random_base(folder / size.replace(" ", ""), size)
        for name in SHAPES:
            for batch in (4, 8) if size == "128 × 4" else (4,):
                pairs = _random_pairs(name, batch)
                seconds = alternate(_step(base, pairs), _step(base, pairs, trees=False), repeats=repeats)
                rows.append(_trees_row(size, name, batch, pairs, seconds))
    pairs = _demo_rows(8)
    seconds = alternate(_step(DEMO, pairs), _step(DEMO, pairs, trees=False), repeats=repeats)
    rows.append(_trees_row("the demo's", "the demo's pairs", 8, pairs, seconds))
    rows += _against_trl(folder, repeats)
    conditions = {
        "shapes": {name: list(shape) for name, shape in SHAPES.items()},
        "tokens predict": "tokens of the rows one by one over tokens of their trees",
        "trl": f"{_trl()}, reference precomputed; of its steps forward, backward and optimizer are counted",
        "packed": "of a round of the pack everything is counted, making the trees too",
    }
    report("dpo_speed", rows, {**COMMON, **conditions})


def _trees_row(base: str, name: str, batch: int, pairs: list[Row], seconds: list[list[float]]) -> dict[str, Any]:
    counted, measured = lay_out(pairs).saving, ratios(seconds[1], seconds[0])
    row = {
        "base": base,
        "pairs": name,
        "batch": batch,
        "trials": 1,
        "compared": "rows one by one ÷ trees",
        "tokens predict": round(counted, 2),
        "ratio": measured,
        "share of the prediction": [one / counted for one in measured],
        "s": seconds[0],
    }
    _say(row)
    return row


def _random_pairs(name: str, batch: int) -> list[Row]:
    """The rows of ``batch`` pairs: chosen, rejected, chosen, …"""
    system, own, answer = SHAPES[name]
    return shapes.random_rows(2 * batch, system, answer, answer, 0, middle=own)


def _demo_rows(batch: int) -> list[Row]:
    from recipes.engines.packed.rows import Pairs

    pairs = demo_pairs(batch)
    both = [
        [*pair["messages"][:-1], {"role": "assistant", "content": answer}]
        for pair in pairs
        for answer in (pair["messages"][-1]["content"], pair["rejected"])
    ]
    return list(Pairs(both, shapes.network(DEMO).tokenizer))


def _step(base: Path, rows: list[Row], *, trees: bool = True) -> Callable[[], None]:
    """A step of one preference trial, warmed up."""
    from recipes.engines.packed import state as states
    from recipes.engines.packed.chunk import Chunk, Member

    network = shapes.network(base)
    recipe = shapes.recipe(base, 1, len(rows) // 2).model_copy(update={"method": "dpo"})
    sites = network.sites(recipe)
    state = states.fresh(recipe, sites, network.device)
    chunk = Chunk(network, [Member(recipe.lora.rank, recipe.lora.alpha, sites, state, recipe)])
    batch = replace(network.batch(rows, trees=trees), reference=tuple(-1.0 * row.num_targets for row in rows))

    def step() -> None:
        chunk.train_step([[batch]])

    step()
    return step


def _against_trl(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Trials of the demo's base over its pairs: in a pack one by one, as the planner packs them, and by trl."""
    found = []
    for number, batch in ((8, 1), (8, 4)):
        changes = {"train__batch_size": batch, "train__micro_batch_size": batch}
        jobs = [
            _job(folder / f"{place}", {"beta": 0.05 * (1 + place)}, **changes, train__max_steps=10_000)
            for place in range(number)
        ]
        rounds = [_rounds(jobs, together=False), _rounds(jobs, together=True)]
        trl = _trl_steps(folder, _job(folder / "trl-job", {}, **changes, train__max_steps=4 + 4 * repeats))
        seconds = alternate(*rounds, repeats=4 * repeats)
        same = {"base": "the demo's", "pairs": "the demo's pairs", "batch": batch, "trials": number}
        one = {**same, "compared": "one trial a pass ÷ packed", "ratio": ratios(*seconds), "s": seconds[1]}
        other = {**same, "compared": "trl ÷ packed", "s": seconds[1]}
        other["ratio"] = [number * statistics.median(trl) / taken for taken in seconds[1]]
        for row in (one, other):
            _say(row)
            found.append(row)
    return found


def _rounds(jobs: list[Job], *, together: bool) -> Callable[[], None]:
    """A step of all these trials in a pack, once the planner knows how many go together."""
    from recipes.engines.packed.pack import Pack
    from recipes.engines.packed.planner import Planner

    planner = Planner("cpu", {} if together else {str(1 << power): 1 for power in range(20)})
    pack = Pack(shapes.network(DEMO), planner)
    numbers = [pack.admit(job, None) for job in jobs]

    def step() -> None:
        for number in numbers:  # never a report
            pack.trials[number].target, pack.trials[number].outcome = 1 << 30, None
        pack.round()

    for _ in range(24):
        step()
    return step


def _trl_steps(folder: Path, job: Job) -> list[float]:
    """CPU seconds of trl's steps, the first four left out."""
    from transformers import TrainerCallback

    begun: list[float] = []
    taken: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            begun.append(time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            taken.append(time.process_time() - begun[-1])

    recipe = Recipe.model_validate(job.settings)
    trainer = trl_peer.make_trainer(DEMO, recipe, job.train, None, folder / "trl", trl_peer.Told())
    trainer.add_callback(Clock())
    trainer.train()
    return taken[4:]


def _trl() -> str:
    from importlib.metadata import version

    return version("trl")


def _say(row: dict[str, Any]) -> None:
    told = [
        f"{key} {statistics.median(value):.3g}" if isinstance(value, list) else f"{key} {value}"
        for key, value in row.items()
    ]
    print(" · ".join(told), flush=True)
