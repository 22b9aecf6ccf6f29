"""What another limit would choose: the sweep's rule with one more constraint, at several bounds."""

from collections.abc import Iterable
from typing import Literal

import pandas as pd

from analysis.champion import choose
from analysis.frame import trial_metrics
from analysis.rule import Rule, effective_rule
from sweeps.metrics import find_metric
from sweeps.spec import Constraint
from tracking.ledger import SweepState


def under_limits(state: SweepState, metric: str, limits: Iterable[float], rule: Rule | None = None) -> pd.DataFrame:
    """The champion for each bound that ``metric`` would have to keep, from what was measured.

    The bound counts on the metric's worse side: at most for seconds and dollars, at least for shares and scores. What
    was not measured of a trial is not kept by it.

    Returns:
        One row a limit, in the given order: ``limit``, ``qualify`` (trials that keep it and all else), ``champion``
        (id, or None), ``number``, ``objective``, and the metric's own value of that champion; NaN without one.
    """
    rule, _ = effective_rule(state, rule)
    known = find_metric(metric)
    op: Literal["<=", ">="] = ">=" if known is not None and known.direction == "max" else "<="
    rows = []
    for limit in limits:
        constraint = Constraint(metric=metric, op=op, bound=float(limit))
        choice = choose(state, Rule(rule.metric, rule.mode, (*rule.constraints, constraint)))
        trial = state.trials[choice.champion] if choice.champion is not None else None
        rows.append(
            {
                "limit": float(limit),
                "qualify": len(choice.ranking),
                "champion": choice.champion,
                "number": trial.number if trial else None,
                "objective": choice.verdicts[trial.id].objective if trial else None,
                metric: trial_metrics(state, trial)[metric] if trial else None,
            }
        )
    table = pd.DataFrame(rows, columns=["limit", "qualify", "champion", "number", "objective", metric], dtype=object)
    return table.astype({"limit": float, "qualify": int, "number": "Int64", "objective": float, metric: float})
