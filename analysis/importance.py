"""Which swept keys mattered: Optuna's importance evaluators on a study rebuilt from the sweep's table."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.frame import frame, swept_keys
from analysis.rule import Rule
from analysis.scales import is_log, label, scale_of
from tracking.ledger import SweepState

MIN_TRIALS = 4


@dataclass(frozen=True)
class Importance:
    """Shares that sum to 1, largest first, over ``n`` trials, by the evaluator named."""

    shares: dict[str, float]
    n: int
    evaluator: str


def importance(state: SweepState, rule: Rule) -> Importance | str:
    """How much of the objective's variation each swept key explains, or a sentence why that cannot be said.

    fANOVA needs every key in every trial; where a key is missing in some (it hung on a condition), PED-ANOVA is used.
    """
    table = frame(state).loc[list(state.drawn)]  # what a stage starts from has values of another space
    measured = table[table[rule.metric].notna()] if rule.metric in table else table.iloc[:0]
    if len(measured) < MIN_TRIALS:
        return f"Too few trials to tell: {len(measured)} have {rule.metric}, {MIN_TRIALS} are needed."
    if measured[rule.metric].nunique() < 2:
        return f"All trials have the same {rule.metric}, so no key explains a difference."
    keys = [key for key in swept_keys(state) if measured[key].map(label).nunique() > 1]
    if not keys:
        return "No swept key varies among the trials that were measured."
    return _evaluate(state, measured, keys, rule)


def _evaluate(state: SweepState, table: pd.DataFrame, keys: list[str], rule: Rule) -> Importance:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    distributions = {key: _distribution(state, key, list(table[key])) for key in keys}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize" if rule.mode == "max" else "minimize")
        for _, row in table.iterrows():
            params = {key: _value(distributions[key], row[key]) for key in keys if not _missing(row[key])}
            used = {key: distributions[key] for key in params}
            value = float(row[rule.metric])
            study.add_trial(optuna.trial.create_trial(params=params, distributions=used, value=value))
        complete = not any(_missing(value) for key in keys for value in table[key])
        evaluator = FanovaImportanceEvaluator(seed=0) if complete else PedAnovaImportanceEvaluator()
        shares = get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    ordered = dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
    return Importance(ordered, len(table), "fANOVA" if complete else "PED-ANOVA")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _distribution(state: SweepState, key: str, values: list[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    scale = scale_of(state, key, values)
    if not scale.numeric:
        return CategoricalDistribution(scale.categories)
    return FloatDistribution(scale.low, scale.high, log=is_log(state, key, scale.low, scale.high))


def _value(distribution: Any, value: Any) -> Any:
    from optuna.distributions import CategoricalDistribution

    return label(value) if isinstance(distribution, CategoricalDistribution) else float(value)
