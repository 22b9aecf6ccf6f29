"""The packed engine against plain PEFT, step by step: packing, prefix trees, both, decoding. CPU seconds, one thread.

Trees are held against the ratio that counted tokens predict: tokens of the rows one by one over tokens of their trees.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recipes.engines.packed.rows import Row
from recipes.engines.packed.tree import lay_out
from tests.benchmarks import shapes, stepping
from tests.benchmarks.report import alternate, ratios, report
from tests.recipes.tiny import one_thread

NUM_TRIALS = 20
FEW_TRIALS = 2  # where a step is so large that the planner takes one trial at a time: the ratio is the same
LARGE_TOKENS = 1024  # of a trial's step
COMMON = {"threads": 1, "dtype": "float32", "ranks": shapes.RANKS, "targets": "*_proj", "seconds": "CPU, of all trials"}


def num_trials(tokens: int) -> int:
    """How many trials take part."""
    return NUM_TRIALS if tokens < LARGE_TOKENS else FEW_TRIALS


def packing(folder: Path, repeats: int, sizes: Sequence[str] = tuple(shapes.SIZES)) -> None:
    """Rows that share nothing, and a loss at every token: what remains is packing alone."""
    cells = [(batch, length) for batch in (1, 4, 16) for length in (32, 128, 512)]
    rows = []
    for size in sizes:
        base = _base(folder, size)
        for batch, length in cells:
            trials = num_trials(batch * length)
            data = [shapes.random_rows(batch, 0, length, length, seed) for seed in range(trials)]
            seconds = alternate(stepping.packed(base, data, trees=False), stepping.peft(base, data), repeats=repeats)
            rows.append(
                {
                    "base": size,
                    "rows × tokens": f"{batch} × {length}",
                    "trials": trials,
                    "PEFT ÷ packed": ratios(seconds[1], seconds[0]),
                    "packed s": seconds[0],
                    "PEFT s": seconds[1],
                }
            )
            _say(rows[-1])
    report("packing", rows, {**COMMON, "peer": "plain PEFT, one trial after the other, in this process"})


SHAPES: dict[str, tuple[int, int, int, int]] = {  # shared, of pairs, own, completion tokens
    "synthetic 5 : 1": (320, 0, 64, 64),
    "the paper's row": (630, 0, 560, 256),
    "three levels": (320, 128, 64, 64),
}


def trees(folder: Path, repeats: int, sizes: Sequence[str] = tuple(shapes.SIZES)) -> None:
    """The same engine with and without trees, and plain PEFT beside it."""
    cells = [("synthetic 5 : 1", batch) for batch in (2, 4, 8, 16)]
    cells += [("the paper's row", 8), ("three levels", 8), ("the demo's rows", 8)]
    rows = []
    for size in sizes:
        base = _base(folder, size)
        for name, batch in cells:
            data = _demo_rows(batch) if name == "the demo's rows" else _synthetic(name, batch)
            seconds = alternate(
                stepping.packed(base, data, planned=False),
                stepping.packed(base, data, planned=False, trees=False),
                stepping.peft(base, data),
                stepping.peft(base, data, completion_logits=True),
                repeats=repeats,
            )
            counted = statistics.mean(lay_out(part).saving for part in data)
            without = ratios(seconds[1], seconds[0])
            rows.append(
                {
                    "base": size,
                    "rows": name,
                    "batch": batch,
                    "tokens predict": round(counted, 2),
                    "rows one by one ÷ trees": without,
                    "share of the prediction": [ratio / counted for ratio in without],
                    "PEFT ÷ trees": ratios(seconds[2], seconds[0]),
                    "PEFT with completion logits ÷ trees": ratios(seconds[3], seconds[0]),
                }
            )
            _say(rows[-1])
    report(
        "trees", rows, {**COMMON, "trials": FEW_TRIALS, "shapes": {key: list(shape) for key, shape in SHAPES.items()}}
    )


def both(folder: Path, repeats: int, sizes: Sequence[str] = tuple(shapes.SIZES)) -> None:
    """Twenty trials at batch 8, everything on, against plain PEFT."""
    rows = []
    for size in sizes:
        base = _base(folder, size)
        for name in ("synthetic 5 : 1", "the paper's row"):
            data = _synthetic(name, 8, NUM_TRIALS if size == "128 × 4" else FEW_TRIALS)
            seconds = alternate(
                stepping.packed(base, data),
                stepping.peft(base, data),
                stepping.peft(base, data, completion_logits=True),
                repeats=repeats,
            )
            rows.append(
                {
                    "base": size,
                    "rows": name,
                    "trials": len(data),
                    "PEFT ÷ packed": ratios(seconds[1], seconds[0]),
                    "PEFT with completion logits ÷ packed": ratios(seconds[2], seconds[0]),
                    "packed s": seconds[0],
                }
            )
            _say(rows[-1])
    report("both", rows, {**COMMON, "batch": 8})


def factors(folder: Path, repeats: int) -> None:
    """Twenty trials at the demo's batch size over its rows: what each part brings, one added to the others."""
    rows = []
    for size in shapes.SIZES:
        base = _base(folder, size)
        data = _demo_rows(4, NUM_TRIALS if size == "128 × 4" else FEW_TRIALS)
        steps = {
            "plain PEFT": stepping.peft(base, data),
            "loss at completions alone": stepping.peft(base, data, completion_logits=True),
            "the packed engine, one trial at a time, rows one by one": stepping.packed(
                base, data, planned=False, trees=False
            ),
            "and trees": stepping.packed(base, data, planned=False),
            "and several trials in a pass, where that pays": stepping.packed(base, data),
        }
        seconds = alternate(*steps.values(), repeats=repeats)
        for name, own, before in zip(steps, seconds, [seconds[0], *seconds], strict=False):
            row = {"base": size, "trials": len(data), "with": name, "s": own}
            rows.append({**row, "× the row above": ratios(before, own), "× plain PEFT": ratios(seconds[0], own)})
            _say(rows[-1])
    report("factors", rows, {**COMMON, "batch": 4, "rows": "the demo's"})


def decoding(folder: Path, repeats: int, num_adapters: int = NUM_TRIALS, num_prompts: int = 16) -> None:
    """Adapters of the demo's base answer the demo's prompts, together and one by one."""
    from recipes import generation
    from recipes.bases import BUILTIN
    from recipes.commerce import task
    from recipes.engines.packed import decode
    from recipes.schema import Base
    from tests.recipes.tiny import make_adapter

    base = BUILTIN["builtin:tiny_commerce"]
    typed = Base(path=str(base), dtype="float32")
    prompts = [row["messages"][:-1] for row in task.rows(num_prompts)]
    network = shapes.network(base)
    folders = [make_adapter(base, folder / f"adapter-{seed}", seed, std=0.1) for seed in range(num_adapters)]
    adapters = [decode.load_adapter(network, adapter) for adapter in folders]
    answers: dict[str, list[list[str]]] = {}

    def together() -> None:
        answers["packed"] = decode.texts(network, adapters, prompts, 128)

    def one_by_one() -> None:
        answers["plain"] = [
            generation.load(str(base), typed, adapter, max_new_tokens=128, batch_size=num_prompts).answer(prompts)
            for adapter in folders
        ]

    seconds = alternate(together, one_by_one, repeats=repeats)
    same = sum(
        one == other
        for rows, others in zip(*answers.values(), strict=True)
        for one, other in zip(rows, others, strict=True)
    )
    row = {
        "adapters": num_adapters,
        "prompts": num_prompts,
        "HF generate ÷ packed": ratios(seconds[1], seconds[0]),
        "same answers": f"{same} of {num_adapters * num_prompts}",
        "packed s": seconds[0],
        "HF s": seconds[1],
    }
    _say(row)
    report("decoding", [row], {**COMMON, "base": "the demo's", "max_new_tokens": 128})


PARTS: dict[str, Callable[..., None]] = {
    "packing": packing,
    "trees": trees,
    "both": both,
    "factors": factors,
    "decoding": decoding,
}


def run(name: str, repeats: int) -> None:
    """Measure one part and write its report."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        PARTS[name](Path(folder), repeats)


def _base(folder: Path, size: str) -> Path:
    place = folder / size.replace(" ", "")
    return place if place.exists() else shapes.random_base(place, size)


def _synthetic(name: str, batch: int, trials: int = FEW_TRIALS) -> list[list[Row]]:
    shared, middle, own, completion = SHAPES[name]
    return [shapes.random_rows(batch, shared, own, completion, seed, middle=middle) for seed in range(trials)]


def _demo_rows(batch: int, trials: int = FEW_TRIALS) -> list[list[Row]]:
    """The demo's rows in the order in which its trials see them."""
    import json

    from transformers import AutoTokenizer

    from recipes.bases import BUILTIN
    from recipes.commerce import task
    from recipes.generation import tokens_and_labels

    tokenizer = AutoTokenizer.from_pretrained(BUILTIN["builtin:tiny_commerce"])
    rows = []
    for row in task.rows(batch * trials):
        messages = row["messages"]
        messages[-1]["content"] = json.dumps(messages[-1]["content"], separators=(",", ":"))
        ids, labels = tokens_and_labels(tokenizer, messages)
        rows.append(Row(tuple(ids), tuple(labels)))
    return [rows[start : start + batch] for start in range(0, len(rows), batch)]


def _say(row: dict[str, Any]) -> None:
    """Progress: a row as it is measured, its lists as their medians."""
    told = [
        f"{key} {statistics.median(value):.3g}" if isinstance(value, list) else f"{key} {value}"
        for key, value in row.items()
    ]
    print(" · ".join(told), flush=True)
