"""What forcing answers into a JSON schema costs: tokens per CPU second, free and guided, in process and on the server.

The demo's untouched base answers rows of the demo's dev split; a schema decides what it says, not how well.
"""

import json
import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launchers.build import build
from recipes import bases, generation, guiding
from recipes.commerce.task import PROPOSAL_SCHEMA
from recipes.schema import Base, Recipe
from tests.benchmarks.report import ROOT, alternate, report
from tests.recipes.tiny import one_thread

SWEEP = ROOT / "sweeps" / "quickstart.yaml"
ROWS = 32
REPEATS = 5


def run(repeats: int = REPEATS, num_rows: int = ROWS) -> None:
    """Measure, and write the report."""
    guiding.leave_uncompiled()  # as a server does; see ``launchers.serving.local``
    generation.quiet()
    built = build(SWEEP)
    recipe = Recipe.model_validate(built.sweep.settings)
    prompts = [row["messages"][:-1] for row in built.rows.rows["dev"][:num_rows]]
    base = bases.locate(recipe.base, built.base_dir)
    assert base is not None
    with one_thread():
        rows = [
            _row("in process, 16 at a time", _in_process(base, recipe, prompts), repeats),
            *(_row(f"server, {size} at a time", _on_server(base, recipe, prompts, size), repeats) for size in (1, 16)),
        ]
    conditions = {
        "model": "the demo's base, without an adapter",
        "schema": "the demo's proposal",
        "rows": num_rows,
        "tokens": f"at most {recipe.generate.max_new_tokens} of an answer",
        "seconds": "CPU, one thread; prompts included",
        "valid": "share of guided answers that are whole and satisfy the schema",
    }
    report("guided", rows, conditions)


Answer = Callable[[dict[str, Any] | None], tuple[int, list[str]]]
"""A schema or none to the number of tokens, and the answers."""


def _row(where: str, answer: Answer, repeats: int) -> dict[str, Any]:
    told: dict[bool, tuple[int, list[str]]] = {}

    def measured(guided: bool) -> Callable[[], object]:
        def once() -> None:
            told[guided] = answer(PROPOSAL_SCHEMA if guided else None)

        return once

    measured(True)()  # the grammar is compiled once
    seconds = alternate(measured(False), measured(True), repeats=repeats)
    rates = [[told[guided][0] / one for one in seconds[guided]] for guided in (False, True)]
    row = {
        "where": where,
        "free tokens/s": rates[0],
        "guided tokens/s": rates[1],
        "guided ÷ free": [guided / free for free, guided in zip(*rates, strict=True)],
        "valid": _valid(told[True][1]),
    }
    print(row, flush=True)
    return row


def _valid(answers: list[str]) -> float:
    import jsonschema

    found = 0
    for text in answers:
        try:
            jsonschema.validate(json.loads(text), PROPOSAL_SCHEMA)
            found += 1
        except (ValueError, jsonschema.ValidationError):
            pass
    return found / len(answers)


def _in_process(base: Path, recipe: Recipe, prompts: list[Any]) -> Answer:
    model = generation.load(str(base), recipe.base, None, max_new_tokens=recipe.generate.max_new_tokens, batch_size=16)

    def answer(schema: dict[str, Any] | None) -> tuple[int, list[str]]:
        texts = model.answer(prompts, schema)
        return sum(len(model.tokenizer.encode(text, add_special_tokens=False)) for text in texts), texts

    return answer


def _on_server(base: Path, recipe: Recipe, prompts: list[Any], at_a_time: int) -> Answer:
    from recipes.serving.asking import End, Event, Question, Sampling
    from recipes.serving.models import Models
    from recipes.serving.scheduler import Scheduler

    models = Models(str(base), Base(path=str(base), dtype=recipe.base.dtype), {"base": None}, "cpu")
    ids = [
        tuple(models.tokenizer.apply_chat_template(p, add_generation_prompt=True, tokenize=True, return_dict=False))
        for p in prompts
    ]

    def answer(schema: dict[str, Any] | None) -> tuple[int, list[str]]:
        scheduler = Scheduler(models, max_rows=at_a_time, max_waiting=len(ids))
        events: list[queue.Queue[Event]] = [queue.Queue() for _ in ids]
        sampling = Sampling(recipe.generate.max_new_tokens, schema=schema)
        asked = [Question("base", one, sampling, events[place].put) for place, one in enumerate(ids)]
        for question in asked:
            scheduler.submit(question)
        scheduler.start()
        texts = []
        for told in events:
            text, event = "", None
            while not isinstance(event, End):
                event = told.get(timeout=300)
                text += getattr(event, "text", "")
            texts.append(text)
        scheduler.close()
        return sum(question.num_tokens for question in asked), texts

    return answer
