"""The arms of a sweep as evaluation jobs: each trial, the untouched base, and the base forced into the schema."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from analysis.export import WEIGHTS
from analysis.manifest import sha256_of
from launchers.build import Built
from launchers.evaluation import ITEMS, EvaluationJob
from recipes.bases import locate
from recipes.schema import Recipe
from tracking.ledger import Ledger

NOT_JUDGING = ("timeout", "concurrency")  # of a judge's settings: they change no verdict
BASE = "base"
BASE_SCHEMA = "base+schema"


class Arms:
    """Makes the evaluation job of an arm on a split."""

    def __init__(self, built: Built, ledger: Ledger, paths: dict[str, Path]) -> None:
        self._built, self._ledger, self._paths = built, ledger, paths
        self._evaluate = built.sweep.spec.evaluate
        self.schema = answer_schema(built)
        self.pools = built.pools
        self.pool = built.pools[0]  # whose price evaluations have
        self.evaluate_stopped = self._evaluate.stopped
        self.confirm_top = built.sweep.spec.champion.confirm.top

    @property
    def measurable(self) -> bool:
        """Whether the sweep says how answers are scored."""
        return bool(self._evaluate.metrics or self._evaluate.judge)

    def job(self, arm: str, split: str, adapter: Path | None = None) -> EvaluationJob:
        """The job for an arm: a trial's id (with its adapter), ``base`` or ``base+schema``."""
        recipe = self._recipe_of(arm)
        base = locate(recipe.base, self._built.base_dir)
        judge = self._evaluate.judge
        job = EvaluationJob(
            id="",
            arm=arm,
            base=str(base or recipe.base.path),
            base_settings=recipe.base.model_dump(mode="json"),
            adapter=str(adapter) if adapter else None,
            schema=self.schema if arm == BASE_SCHEMA else None,
            split=split,
            rows=str(self._paths[split]),
            limit=self._evaluate.dev if split == "dev" else self._evaluate.challenge,
            metrics=self._evaluate.metrics,
            metric_schema=self.schema,
            base_dir=str(self._built.base_dir),
            judge=judge.model_dump(mode="json") if judge else None,
            max_new_tokens=recipe.generate.max_new_tokens,
            batch_size=recipe.generate.batch_size,
            device=self._built.pools[0].device,
            threads=1,
            out=str(self._ledger.folder / ITEMS / f"{arm}-{split}.jsonl"),
        )
        return replace(job, id=self._identify(job))

    def _identify(self, job: EvaluationJob) -> str:
        """The job's id. Files count by their contents, so that a moved folder or a cleared cache repeats nothing."""
        parts = {
            "adapter": sha256_of(Path(job.adapter) / WEIGHTS) if job.adapter else None,
            "base": self._built.sweep.facts.base_identity if job.arm in (BASE, BASE_SCHEMA) else job.arm,
            "base_settings": job.base_settings,
            "schema": job.schema,
            "split": job.split,
            "rows": self._built.rows.sha256[job.split],
            "limit": job.limit,
            "metrics": job.metrics,
            "files": evaluation_files(self._built),
            "metric_schema": job.metric_schema,
            "judge": {key: value for key, value in (job.judge or {}).items() if key not in NOT_JUDGING},
            "max_new_tokens": job.max_new_tokens,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def _recipe_of(self, arm: str) -> Recipe:
        """A trial's own recipe, since the base itself may be swept; the sweep's for the untouched base."""
        if arm in (BASE, BASE_SCHEMA):
            return Recipe.model_validate(self._built.sweep.settings)
        settings = yaml.safe_load((self._ledger.folder / "trials" / arm / "trial.yaml").read_text(encoding="utf-8"))
        return Recipe.model_validate(settings)


def answer_schema(built: Built) -> dict[str, Any] | None:
    """The JSON schema of answers: the sweep's own, or the demo task's for the demo's data."""
    named = built.sweep.spec.evaluate.json_schema
    if named:
        path = Path(named).expanduser()
        loaded: dict[str, Any] = json.loads((path if path.is_absolute() else built.base_dir / path).read_text("utf-8"))
        return loaded
    if built.sweep.settings["data"]["builtin"] == "commerce":
        from recipes.commerce.task import PROPOSAL_SCHEMA

        return PROPOSAL_SCHEMA
    return None


def evaluation_files(built: Built) -> dict[str, str]:
    """The files that decide how answers are scored, by the names the sweep gives them, with their SHA-256."""
    evaluate = built.sweep.spec.evaluate
    names = {path for path, _, _ in (entry.rpartition(":") for entry in evaluate.functions)}
    names |= {evaluate.json_schema} if evaluate.json_schema else set()
    return {name: sha256_of(built.base_dir / Path(name).expanduser()) for name in sorted(names)}
