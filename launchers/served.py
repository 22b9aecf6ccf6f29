"""Evaluating and timing an arm that is served elsewhere, as Ray tasks; ``launchers.evaluation`` does it for others."""

import time
from pathlib import Path
from typing import Any

from launchers.evaluation import EvaluationJob, items_of, measure, scored
from tracking.meters.endpoint import ServedModel

ANSWERS = "answers.jsonl"  # beside the items: what was answered, as it came
OVER = "wall time of a request as a client on this machine sees it: connecting, waiting and repetitions included"


def evaluate_served(job: EvaluationJob) -> dict[str, Any]:
    """Ask for the answers to the split's items and score them; see ``launchers.evaluation.evaluate``.

    Items without an answer are left out: ``n`` counts the others, and the detail's ``missing`` says why, by id.

    Raises:
        ServiceUnreachable: More are missing than may be. The answers that came are kept for the next time.
    """
    assert job.endpoint is not None
    began = time.time()
    items = items_of(job)
    cache = Path(job.out).with_name(f"{job.arm}-{ANSWERS}")
    model = ServedModel.of(job.endpoint, job.max_new_tokens, cache)
    answers = model.answer_all([job.question(item) for item in items], job.max_missing)
    there = [(item, text) for item, text in zip(items, answers.texts, strict=True) if text is not None]
    result = scored(job, [item for item, _ in there], [text for _, text in there], time.time() - began)
    used = {"asked": answers.asked, "tokens_in": answers.tokens_in, "tokens_out": answers.tokens_out}
    result["detail"] |= {
        "endpoint": {**_shown(job), **used, "answered_by": list(answers.served)},
        "missing": {items[place].id: why for place, why in answers.missing.items()},
    }
    return result


def measure_served(jobs: list[EvaluationJob], requests: int) -> list[dict[str, Any]]:
    """Latency over the endpoint, one request at a time; see ``launchers.evaluation.measure``.

    Raises:
        ServiceUnreachable: A request has no answer.
    """
    results = measure(jobs, requests, lambda job: ServedModel.of(job.endpoint or {}, job.max_new_tokens).answer)
    for job, result in zip(jobs, results, strict=True):
        result["detail"] |= {"over": OVER, "endpoint": _shown(job)}
    return results


def _shown(job: EvaluationJob) -> dict[str, Any]:
    settings = job.endpoint or {}
    return {key: settings.get(key) for key in ("endpoint", "model", "revision", "served")}
