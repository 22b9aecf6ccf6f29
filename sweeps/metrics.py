"""The names under which everything is measured, in the ledger, in MLflow and in a sweep YAML."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    Attributes:
        direction: The better side; None where neither more nor less is better.
        known_before: A trial's settings alone decide it, before it has trained a step.
        only_grows: What a trial has of it never becomes less, so that a bound it has passed is passed for good.
        scaled_by: Keys by which its scale changes in trials of method dpo: it compares none that differ there.
    """

    name: str
    unit: str
    direction: Literal["min", "max"] | None
    meaning: str
    known_before: bool = False
    only_grows: bool = False
    scaled_by: tuple[str, ...] = ()

    @property
    def while_training(self) -> bool:
        """Whether a trial reports it while it trains, so that early stopping can use it."""
        return self.name.startswith(("train/", "val/", BY_PAIRS))

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most that it can be."""
        if self.unit == _NATS:
            return -math.inf, 0.0 if self.name.endswith("_logp") else math.inf
        return 0.0, {"share": 1.0, "0–1": 1.0, "0–5": 5.0}.get(self.unit, math.inf)


PERCENTILES = (50, 95, 99)
_RANKS = {50: "median", 95: "95th percentile", 99: "99th percentile"}
_STAGES = {
    "formulation": "to formulate the search",
    "retrieval": "to retrieve products",
    "ranking": "to rank products",
    "agent": "of a whole request",
    "ttft": "to the first token",
}

BY_PAIRS = "dpo/"  # what trials of method dpo report, and no others
_NATS = "nats"  # of a log-probability, which is never positive, or of a difference of them
_START = ("start.adapter",)  # with which they compare the answers' likelihoods
_LOSS = ("preference.loss", "preference.beta", "preference.label_smoothing", *_START)

METRICS: tuple[Metric, ...] = (
    Metric(
        "train/loss",
        "nats per token",
        "min",
        "the trial's loss on the training batch: mean cross-entropy of the completion tokens, or the preference loss",
        scaled_by=(*_LOSS, "preference.sft_weight"),
    ),
    Metric(
        "val/loss",
        "nats per token",
        "min",
        "the same on the validation split",
        scaled_by=(*_LOSS, "preference.sft_weight"),
    ),
    Metric("dpo/loss", "", "min", "the preference loss on the validation pairs, without the SFT term", scaled_by=_LOSS),
    Metric(
        "dpo/reward_margin",
        _NATS,
        "max",
        "mean over the validation pairs of beta × (chosen − rejected), each its log-probability less the start's",
        scaled_by=("preference.beta", *_START),
    ),
    Metric("dpo/reward_accuracy", "share", "max", "validation pairs whose reward margin is above 0", scaled_by=_START),
    Metric("dpo/chosen_logp", _NATS, "max", "mean log-probability of the chosen answers of the validation pairs"),
    Metric("dpo/rejected_logp", _NATS, None, "mean log-probability of their rejected answers"),
    Metric("dpo/chosen_logp_change", _NATS, "max", "dpo/chosen_logp less what it was at the start", scaled_by=_START),
    Metric("train/lr", "", None, "learning rate of the step"),
    Metric("train/tokens_per_s", "tokens/s", "max", "training tokens per second, start-up not counted"),
    Metric("adapter/parameters", "", "min", "numbers in the adapter: rank × (inputs + outputs)", known_before=True),
    Metric("quality/score", "0–5", "max", "mean score of the answers by the judge or the metrics of the sweep"),
    Metric("quality/json_valid", "share", "max", "answers that are valid JSON, of the schema where one is given"),
    Metric("quality/win_rate", "share", "max", "pairwise verdicts won against the base, a tie counting half"),
    Metric("quality/exact_match", "share", "max", "answers equal to the right one, as canonical JSON where both are"),
    Metric("quality/field_f1", "share", "max", "F1 of the JSON fields and list items of the right answer"),
    Metric("e2e/score", "0–5", "max", "mean score of the whole agent: the mean of its three components"),
    Metric("e2e/hypothetical_product", "0–5", "max", "what the products nearest to the hypothetical ones are worth"),
    Metric("e2e/attribute_extraction", "0–5", "max", "F1 of category and attributes against the right ones, times 5"),
    Metric("e2e/recommendation", "0–5", "max", "nDCG@10 of the products that are recommended, times 5"),
    Metric("retrieval/ndcg_at_10", "0–1", "max", "normalised discounted cumulative gain of the first ten products"),
    Metric("retrieval/recall_at_10", "share", "max", "relevant products among the first ten"),
    Metric("retrieval/mrr", "0–1", "max", "reciprocal of the place of the first relevant product"),
    Metric("retrieval/unjudged_at_10", "share", None, "of the first ten products, those that nobody has judged"),
    Metric("retrieval/formulated", "share", "max", "answers that say what to search for"),
    *(
        Metric(f"latency/{stage}_p{percent}_s", "s", "min", f"{_RANKS[percent]} of the time {of}")
        for stage, of in _STAGES.items()
        for percent in PERCENTILES
    ),
    Metric("latency/goodput_rps", "requests/s", "max", "requests per second that are answered within the limits"),
    Metric("cost/gpu_s", "s", "min", "GPU-seconds of a trial; on a CPU pool, core-seconds", only_grows=True),
    Metric(
        "cost/usd",
        "US$",
        "min",
        "price of a trial: training, lost attempts, evaluation on dev, the judge's tokens for it",
        only_grows=True,
    ),
    Metric("cost/idle_usd", "US$", "min", "price of reserved units that did no work"),
    Metric("cost/judge_usd", "US$", "min", "price of the judge's tokens"),
    Metric("cost/usd_per_1k_requests", "US$", "min", "price of answering a thousand requests"),
    Metric("cost/monthly_usd", "US$/month", "min", "price of serving the expected traffic for a month"),
)

STAGES: tuple[str, ...] = tuple(_STAGES)  # whose latency is measured, each by itself
BY_NAME: dict[str, Metric] = {metric.name: metric for metric in METRICS}
NAMES: tuple[str, ...] = tuple(BY_NAME)
SERVING = ("cost/usd_per_1k_requests", "cost/monthly_usd")  # of a stated traffic


def find_metric(name: str, functions: Sequence[str] = (), gates: Sequence[str] = ()) -> Metric | None:
    """The metric of a name, or None.

    Args:
        name: As written in the sweep.
        functions: The sweep's own ``file.py:function`` metrics. What keys a function returns is known only when it has
            run, so with one of them any ``quality/<key>`` may be named. They are scores: more is better.
        gates: The sweep's gates, each measured as ``gate/<name>``.
    """
    if name in BY_NAME:
        return BY_NAME[name]
    if functions and re.fullmatch(r"quality/[\w./-]+", name):
        return Metric(name, "", "max", f"returned by {' or '.join(functions)}")
    if name in {f"gate/{gate.rpartition(':')[2]}" for gate in gates}:
        return Metric(name, "share", "max", "answers that pass this gate")
    return None


def warning(metrics: Mapping[str, float]) -> str | None:
    """What a trial's figures warn of, in words; None where there is nothing."""
    change = metrics.get("dpo/chosen_logp_change")
    if change is None or change >= 0:
        return None
    return (
        f"the chosen answers are less likely than at the start (dpo/chosen_logp_change {change:.3g} nats): a larger "
        "preference.beta, a smaller optimizer.lr or preference.sft_weight holds them"
    )


# What an evaluation measures of a trial before its end is told to the search, and what in the sweep measures it. Any
# function of one's own may give any score.
_MEASURED_BY: dict[str, tuple[str, ...]] = {
    "quality/score": ("shopping", "judge"),
    "quality/json_valid": ("json_schema", "shopping"),
    "quality/exact_match": ("exact_match",),
    "quality/field_f1": ("field_f1",),
}
BY_PIPELINE = ("e2e/", "retrieval/")
_OF_EVERY_TRIAL = ("val/", BY_PAIRS, "train/", "adapter/", "cost/usd", "cost/gpu_s", "gate/")


def unmeasured(name: str, measures: Sequence[str], functions: Sequence[str]) -> tuple[str, str] | None:
    """Why a sweep cannot search by a known metric, and the way out; None where it can.

    Args:
        name: Of the metric.
        measures: The built-in metrics that the sweep evaluates, ``judge`` and ``pipeline`` where it has them.
        functions: Its own ``file.py:function`` metrics.
    """
    if name.startswith(_OF_EVERY_TRIAL):
        return None
    if name.startswith("latency/"):
        rule = "is measured after the last trial, and of the best few alone, so that no search can go by it"
        return rule, "bound it under champion.subject_to; adapter/parameters and cost/usd are known of every trial"
    if name.startswith(BY_PIPELINE):
        return None if "pipeline" in measures else ("is not measured by this sweep", "add a pipeline under evaluate")
    if name.startswith("quality/") and (functions or any(one in measures for one in _MEASURED_BY.get(name, ()))):
        return None
    if name not in _MEASURED_BY:
        return "is not measured of a trial", "docs/metrics.md says what is"
    ways = [f"a {one}" if one == "judge" else f"evaluate.metrics: [{one}]" for one in _MEASURED_BY[name]]
    return "is not measured by this sweep", f"add {', '.join(ways)} or a function of your own"
