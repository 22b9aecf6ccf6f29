"""What serving would cost, recorded for every arm whose goodput or latency was measured."""

import hashlib
import json
from collections.abc import Callable

from launchers.build import Built
from tracking.ledger import Ledger
from tracking.meters.serving_cost import SPLIT, serving_cost
from tracking.state import BASE, INCUMBENT


def record_serving_costs(built: Built, ledger: Ledger, say: Callable[[str], None]) -> None:
    """Record them as evaluations of the split "serving", unless the ledger has them; nothing without ``traffic``."""
    traffic, pool = built.sweep.spec.traffic, built.serving
    if traffic is None or pool is None:
        return
    state = ledger.read()
    measured = {trial.id: trial.evaluations for trial in state.trials.values()}
    measured |= {arm: state.arms.get(arm, []) for arm in (BASE, INCUMBENT)}
    for arm, evaluations in measured.items():
        if not any(one.split == "latency" for one in evaluations):
            continue
        incumbent = built.sweep.spec.evaluate.incumbent
        price = incumbent.price if incumbent and arm == INCUMBENT else None
        found = serving_cost(traffic, pool, evaluations, price)
        detail = {
            "traffic": traffic.model_dump(mode="json"),
            "pool": pool.name,
            "price": (price or pool.price).model_dump(mode="json"),
            **found.to_dict(),
        }
        digest = hashlib.sha256(json.dumps([arm, detail], sort_keys=True).encode()).hexdigest()[:12]
        if any(one.id == f"{SPLIT}-{digest}" for one in evaluations):
            continue
        fields = {"id": f"{SPLIT}-{digest}", "arm": arm, "split": SPLIT, "n": found.n, "metrics": found.metrics}
        ledger.append("evaluation", **fields, detail=detail)
        if found.why:
            say(f"what serving {arm} costs is not known: {found.why}")
