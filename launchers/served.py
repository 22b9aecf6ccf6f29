"""Evaluating and timing an arm that is served elsewhere, as Ray tasks; ``launchers.evaluation`` does it for others."""

import time
from pathlib import Path
from typing import Any

from launchers.evaluation import EvaluationJob, asked, items_of, measure, scored, timed
from sweeps.latency import Latency
from tracking.meters.endpoint import ServedModel
from tracking.meters.latency.aiperf import INSTALL, Load, find_aiperf, measure_endpoint

ANSWERS = "answers.jsonl"  # beside the items: what was answered, as it came
OVER = "wall time of a request as a client on this machine sees it: connecting, waiting and repetitions included"
LOADED = "from a request's scheduled arrival to its whole answer, as a client on this machine sees it; never repeated"


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


def measure_served(jobs: list[EvaluationJob], latency: Latency) -> list[dict[str, Any]]:
    """Latency over the endpoint: under open load where a rate is given and AIPerf is here, else one by one.

    The detail's ``load`` says which. See ``launchers.evaluation.measure``.

    Raises:
        InvalidInput: ``$PODIUM_AIPERF`` names no program.
        ServiceUnreachable: It does not answer at all.
    """
    program = find_aiperf() if latency.rate is not None else None
    if program is not None:
        return [_under_load(program, job, latency) for job in jobs]
    results = measure(jobs, latency, lambda job: ServedModel.of(job.endpoint or {}, job.max_new_tokens).answer)
    for job, result in zip(jobs, results, strict=True):
        result["detail"] |= {"over": OVER, "endpoint": _shown(job)}
        if latency.rate is not None:
            result["detail"]["load"] += f", since AIPerf is not here ({INSTALL})"
    return results


def _under_load(program: Path, job: EvaluationJob, latency: Latency) -> dict[str, Any]:
    began, endpoint = time.time(), job.endpoint or {}
    model = ServedModel.of(endpoint, job.max_new_tokens)
    items = asked(job, latency.requests)
    model.answer([items[0].messages])  # whether it answers, and by which name it knows the limit of an answer
    load = Load(
        endpoint=endpoint["endpoint"],
        model=endpoint["model"],
        rate=latency.rate or 0.0,
        requests=latency.requests,
        warmup=latency.warmup,
        timeout_s=endpoint["timeout"],
        api_key_env=endpoint.get("api_key_env"),
    )
    folder = Path(job.out).with_name(f"{job.arm}-latency")
    measured = measure_endpoint(program, load, [model.body(item.messages) for item in items], folder, latency.slo)
    result = timed(job, measured, time.time() - began)
    result["detail"] |= {"over": LOADED, "endpoint": _shown(job)}
    return result


def _shown(job: EvaluationJob) -> dict[str, Any]:
    settings = job.endpoint or {}
    return {key: settings.get(key) for key in ("endpoint", "model", "revision", "served")}
