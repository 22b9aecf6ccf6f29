"""How much a random split flatters: one LoRA on two splits of the same rows, and on rows that neither has seen.

Most conversations of the demo come several times, with a word more and the same answer (near-duplicates); others are
written into one of ten letters, with another name, number and wish (templates). A split by rows puts what belongs
together on both sides; ``podium data split`` must not.
"""

import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.bases import BUILTIN
from recipes.commerce import task
from recipes.data.rows import to_chat
from recipes.data.splits import SPLITS
from recipes.data.splitting import THRESHOLD, Settings, Split, decide
from recipes.data.stream import Source
from recipes.data.words import own_shingles, similarity
from tests.benchmarks.report import report
from tests.recipes.tiny import WORDS, one_thread, tiny_settings

NUM_CONVERSATIONS = 240
COPIES = 3  # nearly the same, of a conversation
LETTER_EVERY = 4  # so many conversations, one is a letter from a template
NUM_FRESH = 160
STEPS = 240
SEEDS = (0, 1, 2)
SHARES = (0.7, 0.3, 0.0, 0.0)
_WORDS = ("Please,", "Hello,", "Well,", "Now,", "So,")
_NAMES = ("Ada", "Bert", "Cora", "Dirk", "Elsa", "Fritz", "Gerda", "Hugo", "Ines", "Jan")
_OPENINGS = (
    "this is {name} writing to you again with the customer number {number} that your shop once gave to me.",
    "you may remember {name} from last winter, who holds your customer card with the number {number} since then.",
    "my old friend {name} told me to write to you and to mention the order number {number} in the first line.",
    "I write on behalf of {name}, whose account with your shop has the number {number} and is still in good order.",
    "with the voucher number {number} that was meant for {name} we would like to buy something nice from your shop.",
)
_REQUESTS = (
    'What we wish for this time is "{wish}" and we look forward to hearing from you before the week is over.',
    'Could somebody in your team look at "{wish}" for us and tell us what you would choose in our place?',
)

Row = dict[str, Any]


def planted(num: int, seed: int) -> tuple[list[Row], list[str]]:
    """Rows, and what each must stay together with: the conversation that it is a copy of, or the letter's template."""
    rng = random.Random(f"leak-{seed}")
    rows, origins = [], []
    for number, row in enumerate(task.rows(num, seed)):
        one = to_chat(row)
        head, _, latest = one["messages"][1]["content"].rpartition("User: ")
        wish, _, rest = latest.partition("\n")
        if number % LETTER_EVERY:
            remark = " ".join(rng.choices(WORDS, k=20))
            said = [f"{wish} {remark}", *(f"{word} {wish} {remark}" for word in rng.sample(_WORDS, COPIES))]
            origin = f"conversation {number}"
        else:
            letter = rng.randrange(len(_OPENINGS) * len(_REQUESTS))
            text = f"{_OPENINGS[letter // 2]} {_REQUESTS[letter % 2]}"
            said = [text.format(name=rng.choice(_NAMES), number=rng.randrange(10**5, 10**6), wish=wish)]
            origin, head = f"letter {letter}", "### Conversation\n"
        for text in said:
            user = {"role": "user", "content": f"{head}User: {text}\n{rest}"}
            rows.append({"messages": [one["messages"][0], user, one["messages"][2]]})
            origins.append(origin)
    order = rng.sample(range(len(rows)), len(rows))
    return [rows[place] for place in order], [origins[place] for place in order]


def by_rows(rows: Sequence[Row], seed: int) -> list[int]:
    """A random split, as it is usually made: the side of each row."""
    order = random.Random(f"naive-{seed}").sample(range(len(rows)), len(rows))
    sides = [1] * len(rows)
    for place in order[: round(SHARES[0] * len(rows))]:
        sides[place] = 0
    return sides


def leaking(rows: Sequence[Row], sides: Sequence[int], split: Split) -> float:
    """The share of validation rows that have a near-duplicate, compared word for word, among the training rows."""
    own = [own_shingles(row["messages"][:-1], split.common) for row in rows]
    train = [one for one, side in zip(own, sides, strict=True) if side == 0]
    held = [one for one, side in zip(own, sides, strict=True) if side == 1]
    return statistics.fmean(any(similarity(one, other) >= THRESHOLD for other in train) for one in held)


def losses(
    folder: Path, rows: Sequence[Row], sides: Sequence[int], fresh: Sequence[Row], seed: int
) -> tuple[float, float, float]:
    """Training loss at the end, validation loss, and the loss on rows that have nothing to do with any of these."""
    from recipes import generation
    from recipes.engines.packed.engine import PackedEngine
    from recipes.engines.protocol import Job
    from recipes.schema import Base

    base = BUILTIN["builtin:tiny_commerce"]
    train, validation = (_write(folder / f"{SPLITS[side]}.jsonl", rows, sides, side) for side in (0, 1))
    settings = tiny_settings(
        base,
        lora__rank=16,
        lora__alpha=32,
        lora__dropout=0.0,
        optimizer__lr=4e-3,
        train__batch_size=8,
        train__micro_batch_size=8,
        train__max_steps=STEPS,
        train__validate_every=STEPS,
        train__seed=seed,
    )
    job = Job({**settings, "engine": "packed"}, str(base), train, validation, folder, "cpu", 1)
    session = PackedEngine().open(job, None)
    done = session.advance()
    session.save(folder / "saved")
    session.close()
    typed, adapter = Base(path=str(base), dtype="float32"), folder / "saved" / "adapter"
    model = generation.load(str(base), typed, adapter, max_new_tokens=1, batch_size=1)
    on_fresh = generation.validation_loss(model, [row["messages"] for row in fresh])
    return done.metrics["train/loss"], done.metrics["val/loss"], on_fresh


def _write(path: Path, rows: Sequence[Row], sides: Sequence[int], side: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = [row for row, its in zip(rows, sides, strict=True) if its == side]
    path.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    return path


def measure(folder: Path, seed: int, num: int = NUM_CONVERSATIONS) -> list[Row]:
    """Both splits of one draw, trained on."""
    rows, origins = planted(num, seed)
    split = decide(Source("planted rows", None, tuple(rows)), Settings(shares=SHARES, seed=seed))
    fresh = planted(NUM_FRESH, seed + 1000)[0][:NUM_FRESH]
    table = []
    for name, sides in (("by rows, at random", by_rows(rows, seed)), ("podium data split", split.sides.tolist())):
        on_both = {origin for origin, side in zip(origins, sides, strict=True) if side == 0}
        on_both &= {origin for origin, side in zip(origins, sides, strict=True) if side == 1}
        train, validation, unseen = losses(folder / f"{seed}-{name[:2]}", rows, sides, fresh, seed)
        table.append(
            {
                "split": name,
                "seed": seed,
                "train rows": sides.count(0),
                "validation rows": sides.count(1),
                "planted groups on both sides": len(on_both),
                "validation rows with a near copy in train": leaking(rows, sides, split),
                "training loss": train,
                "validation loss": validation,
                "loss on unseen rows": unseen,
                "flattered by": unseen - validation,
            }
        )
        print(" · ".join(f"{key} {value}" for key, value in table[-1].items()), flush=True)
    return table


def run(seeds: Sequence[int] = SEEDS) -> None:
    """Measure, and write ``results/leak.md``, anew after each seed."""
    table: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, one_thread():
        for seed in seeds:
            table += measure(Path(folder), seed)
            tell(table)


def tell(table: Sequence[Row]) -> None:
    """Write ``results/leak.md`` of what was measured so far."""
    seeds = list(dict.fromkeys(row["seed"] for row in table))
    of = {row["split"]: [one for one in table if one["split"] == row["split"]] for row in table}
    keys = [key for key in table[0] if key not in ("split", "seed")]
    report(
        "leak",
        [{"split": name, **{key: [row[key] for row in of[name]] for key in keys}} for name in of],
        {
            "rows are": f"{NUM_CONVERSATIONS} conversations of the demo: of each {LETTER_EVERY}th a letter from one of "
            f"ten templates, of the others {COPIES} near copies too, with the same answer",
            "trial": f"packed engine, the demo's base, rank 16, {STEPS} steps of 8 rows",
            "unseen rows": f"{NUM_FRESH}, made in the same way of other conversations",
            "flattered by": "loss on unseen rows less validation loss, in nats a token",
            "seeds": f"{', '.join(map(str, seeds))}, of data, split and trial",
            "several figures": "median (lowest–highest) over the seeds",
        },
    )


if __name__ == "__main__":
    run()
