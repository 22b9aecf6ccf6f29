"""champion.json: why a champion won, each number with its n and where it comes from."""

import math
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.champion import Choice, agreement
from analysis.comparison import comparison
from analysis.frame import frame, trial_metrics
from analysis.instrument import readings
from analysis.pairwise import read_pairwise
from analysis.plain import plain, records
from analysis.rule import tie_break
from analysis.stages import lineage, steps
from analysis.ways import other_ways
from tracking.ledger import Evaluation, SweepState, TrialState

FORMAT = 1
RUNNERS_UP = 3
_PACKAGES = ("torch", "transformers", "peft", "nemo-automodel", "ray", "optuna", "mlflow", "podium")


def certificate(
    state: SweepState, choice: Choice, base: dict[str, Any], commit: str | None, extra: dict[str, Any]
) -> dict[str, Any]:
    """The contents of champion.json for the champion of ``choice``.

    Args:
        state: The sweep.
        choice: Has a champion.
        base: ``name`` and ``identity`` of the base model.
        commit: Of the code that made the champion; by default what the sweep recorded when it started.
        extra: Further entries, under their own keys; they may not replace those written here.
    """
    assert choice.champion is not None, "only a champion is certified"
    trial = state.trials[choice.champion]
    own = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sweep": state.name,
        "trial": {
            "id": trial.id,
            "number": trial.own_number,
            "stage": trial.stage or (state.facts.get("stage") or {}).get("name"),
            "state": str(trial.state),
            "pool": trial.pool,
            "step": trial.step,
            "max_steps": trial.max_steps,
            "values": trial.values,
            "settings": settings(state.folder, trial),
        },
        "rule": {**choice.rule.to_dict(), "tie_break": _tie_breaks(state)},
        "why": list(choice.why),
        "ties": list(choice.ties),
        "metrics": _metrics(state, trial),
        "outcome": choice.outcome,
        "dev_score": (state.champion or {}).get("dev_score"),
        "challenge_reads": [{key: read[key] for key in ("t", "read", "arms", "n")} for read in state.challenge_reads],
        "instrument": {"judge": (state.spec.get("evaluate") or {}).get("judge"), "readings": records(readings(state))},
        "runners_up": _runners_up(state, choice),
        "pairwise": read_pairwise(state),
        "comparison": {split: records(comparison(state, choice, split)) for split in ("challenge", "dev")},
        "cross_check": state.cross_checks.get(trial.id),
        "other_ways": [way.to_dict() for way in other_ways(state) if way.trial == trial.id],
        "lineage": lineage(state, trial),
        "steps": [step.to_dict() for step in steps(state)],
        "agreement": {"between": ["val/loss", "quality/score"], **agreement(state)},
        "base": base,
        "data": {key: _without_paths(value) for key, value in state.facts.items() if "data" in key},
        "prices": {key: value for key, value in state.facts.items() if "price" in key or key in ("pools", "serving")},
        "code": {"commit": commit or state.facts.get("code_commit")},
        "versions": state.facts.get("versions") or {name: found for name in _PACKAGES if (found := _version(name))},
        "machine": state.facts.get("machine"),
    }
    return plain({**extra, **own})  # type: ignore[no-any-return]


def _tie_breaks(state: SweepState) -> list[str]:
    metric, side, _ = tie_break(state)
    return [f"{'lower' if side == 'min' else 'higher'} {metric}", "lower cost/usd", "lower number"]


def settings(run_folder: Path, trial: TrialState) -> dict[str, Any] | None:
    """The resolved settings that a trial ran with, from its ``trial.yaml``; None where it has none."""
    from omegaconf import OmegaConf  # not plain YAML: to it 1e-5 is a string

    path = run_folder / "trials" / trial.id / "trial.yaml"
    if not path.is_file():
        return None
    loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    return loaded if isinstance(loaded, dict) else {"settings": loaded}  # type: ignore[return-value]


def _without_paths(value: Any) -> Any:
    """Hashes and counts of the data, without where they lay on the machine that trained."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items() if key != "path"}
    return value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _metrics(state: SweepState, trial: TrialState) -> dict[str, dict[str, Any]]:
    """Every metric of the champion by split: value, n, and the source of the number."""
    found: dict[str, dict[str, Any]] = {}
    for report in trial.reports:
        found |= {
            name: {"value": value, "source": f"the trial's report at step {report['step']}"}
            for name, value in report.items()
            if "/" in name
        }
    for evaluation in trial.evaluations:
        prefix = "challenge:" if evaluation.split == "challenge" else ""
        found |= {f"{prefix}{name}": _evaluated(evaluation, name, value) for name, value in evaluation.metrics.items()}
    costs = {name: value for name, value in trial_metrics(state, trial).items() if name in ("cost/usd", "cost/gpu_s")}
    if any(cost.trial == trial.id for cost in state.costs):
        found |= {
            name: {"value": value, "source": "the ledger's cost entries of this trial"} for name, value in costs.items()
        }
    return found


def _evaluated(evaluation: Evaluation, name: str, value: float | None) -> dict[str, Any]:
    source = f"evaluation {evaluation.id} on {evaluation.split}"
    n = evaluation.detail.get("counts", {}).get(name, evaluation.n)  # fewer where only some items have the metric
    return {"value": value, "n": n, "source": source, "detail": evaluation.detail}


def _runners_up(state: SweepState, choice: Choice) -> list[dict[str, Any]]:
    table = frame(state)
    return [
        {
            "id": trial,
            "number": state.trials[trial].own_number,
            "stage": state.trials[trial].stage,
            "objective": choice.verdicts[trial].objective,
            "val/loss": table.loc[trial].get("val/loss", math.nan),
            "values": state.trials[trial].values,
        }
        for trial in [other for other in choice.ranking if other != choice.champion][:RUNNERS_UP]
    ]
