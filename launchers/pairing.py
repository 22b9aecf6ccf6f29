"""Preference pairs from a model's own answers: several to a prompt, each graded, the best against the worst.

What was drawn is on the disk before it is graded, and verdicts are kept by the judge: who is interrupted starts the
same command again, and nothing is drawn or paid for twice.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launchers import home
from launchers.answerers import Answerer
from launchers.evaluation import item_of
from recipes import adapters, bases
from recipes.data.pair_audit import Audit, Measured
from recipes.data.preferences import comparable, prompt_key, to_pair
from recipes.data.rows import MAX_PROBLEMS, canonical, to_chat, unwritable
from recipes.data.stream import read_rows
from recipes.facts import count_tokens
from recipes.sampling import Sampling
from sweeps.errors import InvalidInput, Problem, nearest
from tracking.meters.judge import identity, judge_of
from tracking.meters.reply_cache import ReplyCache

SCORE = "quality/score"
HELD_OUT = ("dev", "challenge")
CHUNK = 16  # prompts between two looks at the progress
MARGINS = {SCORE: 1.0}
MARGIN = 0.2  # of a metric that goes from 0 to 1
# Of a row whose prompt is asked: its own answers, which another pair takes the place of.
ANSWERS = ("messages", "prompt", "completion", "response", "responses", "rank", "chosen", "rejected", "drawn")

Row = dict[str, Any]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How pairs are made.

    Attributes:
        samples: Answers to each prompt.
        metric: What they are graded by.
        margin: The least that the best must be above the worst.
    """

    samples: int
    sampling: Sampling
    metric: str
    margin: float


@dataclass
class Made:
    """What became of the prompts: ``pairs`` of ``prompts`` gave one; ``without`` says of the others why not."""

    prompts: int = 0
    pairs: int = 0
    drawn: int = 0  # answers; ``kept`` ones were there from before
    kept: int = 0
    ungraded: int = 0  # answers that got no grade
    without: Counter[str] = field(default_factory=Counter)
    grades: Counter[float] = field(default_factory=Counter)
    measured: tuple[Measured, ...] = ()


def metric_of(answerer: Answerer, asked: str | None) -> str:
    """The metric that grades: the one that is asked for, else the sweep's objective, else its score.

    Raises:
        InvalidInput: The sweep's metrics do not give it to a single answer.
    """
    names = _metrics_of(answerer)
    if asked is not None:
        if names is not None and asked not in names:
            raise InvalidInput(
                Problem("--metric", f"{asked} is not what {answerer.name} is scored by", nearest(asked, names))
            )
        return asked
    if answerer.objective.startswith("quality/"):
        return answerer.objective
    return SCORE if names is None or SCORE in names else names[0]


def _metrics_of(answerer: Answerer) -> list[str] | None:
    """The names that the sweep's built-in metrics give; None where somebody's own function gives others."""
    known = {"exact_match": "quality/exact_match", "json_schema": "quality/json_valid", "field_f1": "quality/field_f1"}
    names = [] if answerer.grading["judge"] is None else [SCORE]
    for metric in answerer.grading["metrics"] or ():
        if ":" in metric:
            return None
        names.append(known.get(metric, SCORE))
    return names


def prompts_of(answerer: Answerer, rows: str | None) -> tuple[list[Row], int]:
    """The rows whose prompts are asked, each prompt once, and how many training rows have one that is held out.

    Args:
        rows: A file of rows, with or without answers; None takes the sweep's training rows.

    Raises:
        InvalidInput: A row of the file breaks a rule, or has the prompt of a dev or challenge row.
    """
    held_out = {name: {prompt_key(row["messages"]) for row in answerer.rows.rows[name]} for name in HELD_OUT}
    if rows is None:
        train = answerer.rows.rows["train"]
        free = [row for row in train if not any(prompt_key(row["messages"]) in keys for keys in held_out.values())]
        return _once(free), len(train) - len(free)
    found: list[Row] = []
    problems: list[Problem] = []
    for number, row in read_rows(rows, Path(), home.cache_folder(), "--rows"):
        try:
            if isinstance(row, Problem):
                problems.append(row)
                continue
            chat = to_chat(_with_answer(row))
            for name, keys in held_out.items():
                if prompt_key(chat["messages"]) in keys:
                    raise ValueError(
                        f"its prompt is also in the {name} set of {answerer.name}, which must not be learned"
                    )
            found.append(chat)
        except ValueError as error:
            problems.append(Problem(rows, str(error), line=number))
        if len(problems) == MAX_PROBLEMS:
            break
    if problems:
        raise InvalidInput(problems, rows)
    if not found:
        raise InvalidInput(Problem("--rows", f"{rows} holds no rows", "one JSON object a line is needed"))
    return _once(found), 0


def _once(rows: Sequence[Row]) -> list[Row]:
    """The first row of each prompt: the others would draw the same answers."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(canonical(row["messages"][:-1]), row)
    return list(found.values())


def _with_answer(row: Any) -> Any:
    """A row that is a prompt alone, with an empty object for its answer: the common form has one."""
    if not isinstance(row, dict):
        return row
    if "chosen" in row and not row.keys() & {"messages", "prompt"}:
        return to_pair(row)  # both answers repeat the prompt
    messages = row.get("messages")
    if (
        isinstance(messages, list)
        and messages
        and isinstance(messages[-1], dict)
        and messages[-1].get("role") == "user"
    ):
        return {**row, "messages": [*messages, {"role": "assistant", "content": {}}]}
    if "prompt" in row and not row.keys() & {"messages", "completion", "response"}:
        prompt = row["prompt"]
        return _with_answer({**row, "messages": prompt}) if isinstance(prompt, list) else {**row, "completion": {}}
    return row


class Pairs:
    """Makes pairs of rows' prompts, one after the other.

    Args:
        answerer: Who answers, and by what its answers are graded.
        settings: How.

    Raises:
        InvalidInput: A metric cannot be loaded, or a key of the judge is missing.
        ServiceUnreachable: The judge does not answer.
    """

    def __init__(self, answerer: Answerer, settings: Settings) -> None:
        from tracking.meters.gates import load_gate
        from tracking.meters.metrics import load_metric

        self.made = Made()
        self._answerer, self._settings = answerer, settings
        grading, base_dir = answerer.grading, answerer.base_dir
        self._metrics = [load_metric(name, base_dir, grading["schema"]) for name in grading["metrics"] or ()]
        self._gates = [
            load_gate(name, base_dir, grading["schema"], grading["forbidden"] or ()) for name in grading["gates"] or ()
        ]
        self._judge = None
        if grading["judge"] is not None:
            cache = home.cache_folder() / "judge"
            judge_of(grading["judge"], cache).probe()
            self._judge = judge_of(grading["judge"], cache)  # verdicts are those of what the server now calls its model
        scale = adapters.shape(answerer.adapter)[:2]  # beside the weights: a bundle writes its settings anew
        told = {"base": answerer.base_identity, "adapter": [answerer.digest, *scale], "guide": answerer.guide}
        named = _digest([told, answerer.recipe.base.dtype, answerer.recipe.generate.max_new_tokens])
        self._kept = ReplyCache(home.cache_folder() / "samples" / f"{named[:32]}.jsonl")
        self._model: Any = None
        folder = bases.locate(answerer.recipe.base, base_dir)
        self._audit = Audit((lambda text: count_tokens(folder, [text])) if folder is not None else None)

    def of(self, rows: Sequence[Row], tell: Tell) -> Iterator[Row]:
        """A pair in the common form for each prompt that gives one; ``made`` counts as it goes."""
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            for row, answers, grades in zip(part, *self._graded(part), strict=True):
                self.made.prompts += 1
                pair = self._pair(row, answers, grades)
                if pair is not None:
                    self.made.pairs += 1
                    self._audit.add(pair)
                    yield pair
            tell(f"{self.made.prompts:,} of {len(rows):,} prompts, {self.made.pairs:,} pairs")
        self.made.measured = self._audit.result()

    def _graded(self, rows: Sequence[Row]) -> tuple[list[list[str]], list[list[float | None]]]:
        from tracking.meters.quality import score_answers

        drawn = self._drawn(rows)
        items = [item_of(row, at) for at, row in enumerate(rows) for _ in range(self._settings.samples)]
        answers = [answer for of_row in drawn for answer in of_row]
        result = score_answers(items, answers, self._metrics, self._judge, self._gates, max_missing=1.0)
        metric = self._settings.metric
        if answers and not any(metric in record["metrics"] for record in result.per_item):
            names = sorted({name for record in result.per_item for name in record["metrics"]})
            rule = f"no answer got a {metric}"
            if result.errors:
                rule += f": {result.errors[0]['first']}"
            raise InvalidInput(Problem("--metric", rule, nearest(metric, names) if names else ""))
        grades = [record["metrics"].get(metric) for record in result.per_item]
        self.made.grades.update(grade for grade in grades if grade is not None)
        self.made.ungraded += grades.count(None)
        size = self._settings.samples
        return drawn, [grades[start : start + size] for start in range(0, len(grades), size)]

    def _drawn(self, rows: Sequence[Row]) -> list[list[str]]:
        """Each row's answers, drawn where they were not before."""
        how, num = self._settings.sampling, self._settings.samples
        keys = [
            [_digest([row["messages"][:-1], how.temperature, how.top_p, how.seed, number]) for number in range(num)]
            for row in rows
        ]
        found = {key: kept["text"] for of_row in keys for key in of_row if (kept := self._kept.get(key)) is not None}
        self.made.kept += sum(key in found for of_row in keys for key in of_row)
        todo = [(key, row) for of_row, row in zip(keys, rows, strict=True) for key in of_row if key not in found]
        if todo:
            texts = self._loaded().answer(
                [row["messages"][:-1] for _, row in todo],
                self._answerer.guide,
                sampling=how,
                keys=[key for key, _ in todo],
            )
            for (key, _), text in zip(todo, texts, strict=True):
                found[key] = text
                self._kept.put(key, {"text": text})
            self.made.drawn += len(todo)
        return [[found[key] for key in of_row] for of_row in keys]

    def _loaded(self) -> Any:
        """The model, loaded when something is to be drawn."""
        if self._model is None:
            from recipes import generation

            device, recipe = generation.best_device(), self._answerer.recipe
            # As in an evaluation: what llguidance would compile is never worth it for a few answers.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
            self._model = generation.load(
                self._answerer.base,
                recipe.base,
                self._answerer.adapter,
                max_new_tokens=recipe.generate.max_new_tokens,
                batch_size=recipe.generate.batch_size,
                device=device,
            )
        return self._model

    def _pair(self, row: Row, answers: Sequence[str], grades: Sequence[float | None]) -> Row | None:
        graded = [
            (grade, text)
            for grade, text in zip(grades, answers, strict=True)
            if grade is not None and text and not unwritable(text)
        ]
        if len(graded) < 2:
            self.made.without["fewer than two answers with a grade that a row can hold"] += 1
            return None
        best, worst = max(grade for grade, _ in graded), min(grade for grade, _ in graded)
        if best == worst:
            self.made.without["all answers have the same grade"] += 1
            return None
        if best - worst < self._settings.margin:
            self.made.without[f"best and worst are less than {self._settings.margin:g} apart"] += 1
            return None
        chosen, rejected = _nearest_in_length(
            [text for grade, text in graded if grade == best], [text for grade, text in graded if grade == worst]
        )
        if comparable(chosen) == comparable(rejected):
            self.made.without["best and worst are the same text"] += 1
            return None
        rest = {key: value for key, value in row.items() if key not in ANSWERS}
        prompt = row["messages"][:-1]
        return {
            "messages": [*prompt, {"role": "assistant", "content": chosen}],
            "rejected": rejected,
            **rest,
            "drawn": self._provenance(best, worst, len(graded)),
        }

    def _provenance(self, best: float, worst: float, num_graded: int) -> dict[str, Any]:
        answerer, how = self._answerer, self._settings.sampling
        return {
            "model": answerer.name,
            "base": answerer.recipe.base.path,
            "base_identity": answerer.base_identity,
            "adapter_sha256": answerer.digest,
            "seed": how.seed,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "samples": self._settings.samples,
            "graded": num_graded,
            "metric": self._settings.metric,
            "chosen_grade": best,
            "rejected_grade": worst,
            "metrics": list(answerer.grading["metrics"] or ()),
            "judge": identity(answerer.grading["judge"]),
        }


def _nearest_in_length(best: Sequence[str], worst: Sequence[str]) -> tuple[str, str]:
    """Of answers with the same grade, those two that differ least in length, the earlier where several do."""
    return min(((one, other) for one in best for other in worst), key=lambda pair: abs(len(pair[0]) - len(pair[1])))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
