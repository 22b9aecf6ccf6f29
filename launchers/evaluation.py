"""Evaluations as Ray tasks of their own, outside any Tune trial, from a saved adapter.

Each has an id made of what it measures (see ``launchers.arms``), so that one can be repeated, cached and resumed
without training.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from recipes import guiding
from recipes.schema import Base
from sweeps.latency import Latency
from tracking.meters.energy import EnergyMeter
from tracking.state import BASE, DEFECTS, INCUMBENT

Answer = Callable[[Sequence[Any]], list[str]]
"""Conversations to answers."""

SAMPLES, NUM_SAMPLES = "samples.jsonl", 10
ITEMS = "evaluations"  # folder of the run: one JSONL of answers for each evaluation


@dataclass(frozen=True)
class EvaluationJob:
    """One arm on one split. Plain values only: it travels to a worker.

    Attributes:
        id: Twelve hex digits over the contents of everything that decides the result.
        arm: A trial's id, "base", "incumbent", or "defects" for the readings of what scores; with "+schema" or "+free"
            after it an arm that is answered in another way than it is measured in.
        base: The base's folder or hub id; ``base_settings`` the recipe's ``base`` block.
        adapter: The PEFT folder; None for the base itself.
        schema: A JSON schema to force answers into; None leaves them free.
        split: "dev" or "challenge"; ``rows`` its JSONL, of which the first ``limit`` are used.
        metrics: Names of built-ins or ``file.py:function``, taken from ``base_dir``.
        judge: The judge's settings, or None; ``judge_cache`` where its verdicts are kept.
        out: Where the answers and their scores are written, one JSON object a line.
        endpoint: Where the arm is served, for ``tracking.meters.endpoint``; None for one that is loaded here.
        system: Takes the place of the rows' system prompt when the arm is asked; empty leaves it out.
        gates: Names of built-ins or ``file.py:function``; ``forbidden`` the patterns of ``safety``.
        max_missing: The share of one metric's values that may be missing.
        defects: What is planted for the readings: ``evaluate.defects`` as plain values.
        pipeline: ``settings`` of ``evaluate.pipeline``, the SHA-256 of its tables as ``files``, ``cache`` of its index.
    """

    id: str
    arm: str
    base: str
    base_settings: dict[str, Any]
    adapter: str | None
    schema: dict[str, Any] | None
    split: str
    rows: str
    limit: int | None
    metrics: tuple[str, ...]
    metric_schema: dict[str, Any] | None
    base_dir: str
    judge: dict[str, Any] | None
    max_new_tokens: int
    batch_size: int
    device: str
    threads: int
    out: str
    endpoint: dict[str, Any] | None = None
    system: str | None = None
    gates: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    max_missing: float = 0.0
    judge_cache: str | None = None
    defects: dict[str, Any] | None = None
    pipeline: dict[str, Any] | None = None

    @property
    def of_trial(self) -> bool:
        """Whether the arm is one of the sweep's trials."""
        return "+" not in self.arm and self.arm not in (BASE, INCUMBENT, DEFECTS)

    @property
    def needs_machine(self) -> bool:
        """Whether a model of ours answers: the arm is not served elsewhere, and its answers are not planted."""
        return self.endpoint is None and self.arm != DEFECTS

    def question(self, item: Any) -> list[dict[str, str]]:
        """What the arm is asked: the item's conversation, with the arm's own system prompt where it has one."""
        if self.system is None:
            return list(item.messages)
        own = [{"role": "system", "content": self.system}] if self.system else []
        return [*own, *(message for message in item.messages if message["role"] != "system")]


def evaluate(job: EvaluationJob) -> dict[str, Any]:
    """Answer the split's items and score them. Runs in a Ray worker; returns the fields of a ledger ``evaluation``."""
    began, meter = time.time(), EnergyMeter(job.device)
    limit_threads(job.device, job.threads)
    from recipes import generation

    items = items_of(job)
    model = generation.load(
        job.base,
        Base.model_validate(job.base_settings),
        Path(job.adapter) if job.adapter else None,
        max_new_tokens=job.max_new_tokens,
        batch_size=job.batch_size,
        device=job.device,
    )
    answers = model.answer([job.question(item) for item in items], job.schema)
    result = scored(job, items, answers, time.time() - began)
    result["detail"]["energy_j"] = meter.lap()
    return result


def scored(job: EvaluationJob, items: list[Any], answers: list[str], answering_s: float) -> dict[str, Any]:
    """Score the answers to a job's items and write them; returns the fields of a ledger ``evaluation``.

    Args:
        answering_s: What the answers took. A judge's time is its own: it needs no machine of ours.
    """
    from tracking.meters.quality import score_answers

    began = time.time()
    scorers = _scorers(job)
    if job.pipeline is not None:  # of answers alone: planted defects are not looked for by retrieval
        scorers["metrics"] = [*scorers["metrics"], open_told(job.pipeline, Path(job.base_dir))]
    result = score_answers(items, answers, **scorers, max_missing=job.max_missing)
    result.write_items(Path(job.out))
    return {
        "id": job.id,
        "arm": job.arm,
        "split": job.split,
        "n": result.n,
        "metrics": result.metrics,
        "detail": {
            **_how(job),
            "counts": result.counts,
            **({"missing_values": result.missing, "errors": result.errors} if result.errors else {}),
            "seconds": round(answering_s + time.time() - began, 2),
        },
    }


def read_instrument(job: EvaluationJob) -> dict[str, Any]:
    """Plant defects in the split's right answers and score them; returns the fields of a ledger ``evaluation``."""
    from sweeps.evaluating import Defects
    from tracking.meters.defects import load_defect
    from tracking.meters.instrument import take_readings
    from tracking.meters.quality import write_jsonl

    began = time.time()
    settings = Defects.model_validate(job.defects)
    defects = [load_defect(name, Path(job.base_dir)) for name in settings.plant]
    taken = take_readings(items_of(job), defects, settings, **_scorers(job), max_missing=job.max_missing)
    write_jsonl(taken.planted, Path(job.out))
    return {
        "id": job.id,
        "arm": job.arm,
        "split": job.split,
        "n": len(taken.planted),  # as many lines as the file has
        "metrics": taken.metrics,
        "detail": {
            **_how(job),
            "defects": job.defects,
            "readings": taken.to_dicts(),
            **({"errors": taken.errors} if taken.errors else {}),
            "seconds": round(time.time() - began, 2),
        },
    }


def _scorers(job: EvaluationJob) -> dict[str, Any]:
    """What scores the answers, as ``score_answers`` takes it."""
    from tracking.meters.gates import load_gate
    from tracking.meters.judge import judge_of
    from tracking.meters.metrics import load_metric

    base_dir = Path(job.base_dir)
    return {
        "metrics": [load_metric(name, base_dir, job.metric_schema) for name in job.metrics],
        "gates": [load_gate(name, base_dir, job.metric_schema, job.forbidden) for name in job.gates],
        "judge": judge_of(job.judge, Path(job.judge_cache) if job.judge_cache else None) if job.judge else None,
    }


def open_told(told: dict[str, Any], base_dir: Path) -> Any:
    """The pipeline of plain values, as a job has them.

    Raises:
        InvalidInput: A table is not what it was, or cannot be used.
        ServiceUnreachable: Embeddings are from an endpoint, and it does not answer.
    """
    from sweeps.retrieving import Pipeline
    from tracking.meters.retrieval import open_pipeline

    settings = Pipeline.model_validate(told["settings"])
    return open_pipeline(settings, base_dir, Path(told["cache"]), told["files"])


def _how(job: EvaluationJob) -> dict[str, Any]:
    """By what was scored."""
    needs_schema = "json_schema" in (*job.metrics, *job.gates)
    return {
        "metrics": list(job.metrics),
        "gates": list(job.gates),
        "forbidden": list(job.forbidden),
        "schema": job.metric_schema if needs_schema else None,
        "judge": job.judge,
        "pipeline": job.pipeline and {key: job.pipeline[key] for key in ("settings", "files")},
        "guided": job.schema is not None,
    }


def _plain(job: EvaluationJob) -> Answer:
    limit_threads(job.device, job.threads)
    from recipes import generation

    model = generation.load(
        job.base,
        Base.model_validate(job.base_settings),
        Path(job.adapter) if job.adapter else None,
        max_new_tokens=job.max_new_tokens,
        batch_size=1,
        device=job.device,
    )
    return partial(model.answer, schema=job.schema)


def items_of(job: EvaluationJob) -> list[Any]:
    """The items of a job's split, in order."""
    return [item_of(row, number) for number, row in enumerate(read_rows(Path(job.rows), job.limit))]


def measure(
    jobs: list[EvaluationJob], latency: Latency, answers: Callable[[EvaluationJob], Answer] | None = None
) -> list[dict[str, Any]]:
    """Latency of several arms, one after the other, with the machine to themselves. Runs in a Ray worker.

    Args:
        answers: How an arm answers; with plain PEFT unless it is given.
    """
    from tracking.meters.latency.stages import measure_stages
    from tracking.meters.retrieval import SearchStages

    results = []
    for job in jobs:
        began, meter = time.time(), EnergyMeter(job.device)
        stages, search = stages_of((answers or _plain)(job)), None
        if job.pipeline is not None:
            search = SearchStages(open_told(job.pipeline, Path(job.base_dir)))
            stages |= search.stages
        measured = measure_stages(stages, asked(job, latency.requests), latency.warmup, latency.requests)
        result = timed(job, measured, time.time() - began)
        result["detail"]["energy_j"] = meter.lap()
        if search is not None and search.own_words:
            result["detail"]["searched_own_words"] = len(search.own_words)
        results.append(result)
    return results


def stages_of(answer: Answer) -> dict[str, Callable[[Any, Any], Any]]:
    """What a request to the candidate goes through, in order, each timed by itself."""
    return {"formulation": lambda item, _: answer([item.messages])[0]}


def asked(job: EvaluationJob, requests: int) -> list[Any]:
    """The first items of a job's split, with what the arm is asked as their conversation."""
    items = [item_of(row, number) for number, row in enumerate(read_rows(Path(job.rows), requests))]
    return [replace(item, messages=job.question(item)) for item in items]


def timed(job: EvaluationJob, measured: Any, seconds: float) -> dict[str, Any]:
    """The fields of a ledger ``evaluation`` for a latency."""
    return {
        "arm": job.arm,
        "split": "latency",
        "n": measured.n,
        "metrics": measured.metrics,
        "detail": {**measured.detail, "seconds": round(seconds, 2)},
    }


def keep_samples(items: Path, trial: Path) -> None:
    """Put the first answers of an evaluation into the trial's folder, where a person looks for them."""
    with items.open(encoding="utf-8") as file:
        lines = [line for line, _ in zip(file, range(NUM_SAMPLES), strict=False)]
    (trial / SAMPLES).write_text("".join(lines), encoding="utf-8")


def read_rows(path: Path, limit: int | None) -> list[dict[str, Any]]:
    """The first ``limit`` rows of a prepared split."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(limit or 10**9), strict=False)]


def item_of(row: dict[str, Any], number: int) -> Any:
    """A row as the meters see it: the conversation, and the right answer apart."""
    from tracking.meters.metrics import Item

    rest = {key: value for key, value in row.items() if key != "messages"}
    last = row["messages"][-1]["content"]
    return Item(id=str(row.get("id", number)), messages=row["messages"][:-1], reference=last, row=rest)


def limit_threads(device: str, threads: int) -> None:
    """Have torch, in this process, take no more than a trial's share of the machine."""
    if device == "cpu":
        guiding.leave_uncompiled()
    import torch

    torch.set_num_threads(threads)
