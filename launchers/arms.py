"""The arms of a sweep as evaluation jobs: each trial, the incumbent, the base, and the base forced into the schema."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from analysis.decision.halving import Round
from analysis.rounds import rounds_of
from launchers import home
from launchers.build import Built
from launchers.evaluation import ITEMS, EvaluationJob, item_of, read_rows
from launchers.schemas import schema_of
from recipes.adapters import WEIGHTS
from recipes.bases import locate
from recipes.data.rows import canonical
from recipes.files import sha256_of
from recipes.schema import Recipe
from tracking.ledger import Evaluation, Ledger, TrialState
from tracking.meters.judge import identity
from tracking.state import BASE, BASE_SCHEMA, DEFECTS, FREE, GUIDED, INCUMBENT


class Arms:
    """Makes the evaluation job of an arm on a split."""

    def __init__(self, built: Built, ledger: Ledger, paths: dict[str, Path]) -> None:
        self._built, self._ledger, self._paths = built, ledger, paths
        self._evaluate = built.sweep.spec.evaluate
        self.schema = answer_schema(built)
        self.guided = built.sweep.spec.serving.guided
        self.pools = built.pools
        self.pool = built.pools[0]  # whose price evaluations have
        self.evaluate_stopped = self._evaluate.stopped
        self.metric, self.mode = built.sweep.spec.objective
        self.has_incumbent = built.incumbent is not None

    @cached_property
    def _endpoint(self) -> dict[str, Any] | None:
        """Where the incumbent is served, asked once what is served there now; None where it is loaded here."""
        recipe, incumbent = Recipe.model_validate(self._built.sweep.settings), self._built.incumbent
        return incumbent.endpoint(recipe.generate.max_new_tokens, self.schema) if incumbent else None

    @property
    def measurable(self) -> bool:
        """Whether the sweep says how answers are scored."""
        return self._evaluate.scores

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """On how many dev items who is judged; see ``contenders``."""
        spec, place = self._built.sweep.spec, self._built.place
        num_trials = spec.search.num_trials + (len(place.starts) if place else 0)
        return rounds_of(spec.champion, num_trials, self._evaluate.dev)

    def rows(self, split: str) -> Path:
        """The rows of a split."""
        return self._paths[split]

    def groups(self, split: str) -> dict[str, str]:
        """The group of every item of a split; nothing where the data have none."""
        name = self._built.judged["group"]
        if name is None:
            return {}
        return {item_of(row, at).id: canonical(row[name]) for at, row in enumerate(read_rows(self.rows(split), None))}

    def trial_job(self, trial: str, split: str, limit: int | None = None) -> EvaluationJob:
        """The job for a trial that has left an adapter.

        Args:
            limit: Other than the sweep's own number of items.
        """
        state = self._ledger.read()
        adapter = state.trials[trial].adapter
        assert adapter is not None, "only what was trained is evaluated"
        job = self.job(trial, split, state.folder / adapter)
        if limit is None or limit == job.limit:
            return job
        job = replace(job, limit=limit)
        return replace(job, id=self._identify(job))

    def evaluation_of(self, trial: TrialState) -> Evaluation | None:
        """The dev evaluation of a trial, if it was made as the sweep now says, on the items of any round."""
        found = next((one for one in trial.evaluations if one.split == "dev"), None)
        limits = [None, *(one.stop for one in self.rounds[1:])]
        if trial.stage is not None and found is not None:  # that stage may have had rounds of other lengths
            limits.append(found.n)
        ids = (self.trial_job(trial.id, "dev", limit).id for limit in limits)
        return found if found is not None and found.id in ids else None

    def job(self, arm: str, split: str, adapter: Path | None = None) -> EvaluationJob:
        """The job for an arm: a trial's id (with its adapter), ``base``, ``base+schema`` or ``incumbent``.

        A trial answers as ``serving.guided`` says.

        Raises:
            InvalidInput: The environment does not hold the incumbent's key.
            ServiceUnreachable: The incumbent is served elsewhere, and does not answer.
        """
        recipe = self._recipe_of(arm)
        incumbent = self._built.incumbent if arm == INCUMBENT else None
        model, adapter = (incumbent.base, incumbent.adapter) if incumbent else (recipe.base, adapter)
        base = locate(model, self._built.base_dir)
        judge = self._evaluate.judge
        job = EvaluationJob(
            id="",
            arm=arm,
            base=str(base or model.path),
            base_settings=model.model_dump(mode="json"),
            adapter=str(adapter) if adapter else None,
            schema=self.schema if self._is_guided(arm) else None,
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
            endpoint=self._endpoint if incumbent else None,
            system=incumbent.system if incumbent else None,
            gates=self._evaluate.gates,
            forbidden=self._evaluate.forbidden,
            max_missing=self._evaluate.max_missing,
            judge_cache=str(home.cache_folder() / "judge"),
            pipeline=self._pipeline,
        )
        return replace(job, id=self._identify(job))

    @cached_property
    def _pipeline(self) -> dict[str, Any] | None:
        """How products are found by answers, with what its tables are now: they are read once a session."""
        settings = self._evaluate.pipeline
        if settings is None:
            return None
        from tracking.meters.retrieval.index import digests

        files = digests(settings.tables, self._built.base_dir)
        return {"settings": settings.model_dump(mode="json"), "files": files, "cache": str(home.cache_folder())}

    def other_way(self, trial: str) -> EvaluationJob:
        """The job for a trial on the dev items it was measured on, free where it is guided, guided where it is free."""
        measured = next(one for one in self._ledger.read().trials[trial].evaluations if one.split == "dev")
        job = self.trial_job(trial, "dev", measured.n)
        arm = f"{trial}{FREE if job.schema else GUIDED}"
        out = str(Path(job.out).with_name(f"{arm}-dev.jsonl"))
        job = replace(job, arm=arm, out=out, schema=None if job.schema else self.schema)
        return replace(job, id=self._identify(job))

    def _is_guided(self, arm: str) -> bool:
        if arm == INCUMBENT:
            incumbent = self._evaluate.incumbent
            return incumbent is not None and incumbent.guided
        return arm == BASE_SCHEMA or (arm not in (BASE, DEFECTS) and self.guided)

    def readings(self) -> EvaluationJob | None:
        """The job that plants defects to read the instrument, on dev; None where nothing scores or is planted."""
        defects = self._evaluate.defects
        if not (self._evaluate.metrics or self._evaluate.judge) or defects is None:
            return None
        # As many rows as are asked for, however few the arms answer: no model has to.
        job = replace(self.job(DEFECTS, "dev"), defects=defects.model_dump(mode="json"), limit=defects.rows)
        return replace(job, id=self._identify(job))

    def _identify(self, job: EvaluationJob) -> str:
        """The job's id. Files count by their contents, so that a moved folder or a cleared cache repeats nothing."""
        parts: dict[str, Any] = {
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
            "judge": identity(job.judge) if job.judge else {},
            "max_new_tokens": job.max_new_tokens,
        }
        if job.gates:
            parts |= {"gates": job.gates, "forbidden": job.forbidden}
        if job.pipeline is not None and job.arm != DEFECTS:
            parts["pipeline"] = [job.pipeline["settings"], job.pipeline["files"]]
        if job.arm == DEFECTS:  # no model answers
            files = _hashes(self._built, self._evaluate.own_defects)
            parts |= {"base": None, "base_settings": None, "max_new_tokens": None, "defects": [job.defects, files]}
        if job.arm == INCUMBENT and self._built.incumbent is not None:
            served = job.endpoint["served"] if job.endpoint else None
            parts |= {
                "adapter": None,
                "base_settings": None,
                "base": {**self._built.incumbent.identity, "served": served},
            }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    def _recipe_of(self, arm: str) -> Recipe:
        """A trial's own recipe, since the base itself may be swept; the sweep's for the arms that are no trials."""
        if arm in (BASE, BASE_SCHEMA, INCUMBENT, DEFECTS):
            return Recipe.model_validate(self._built.sweep.settings)
        settings = yaml.safe_load((self._ledger.folder / "trials" / arm / "trial.yaml").read_text(encoding="utf-8"))
        return Recipe.model_validate(settings)


def answer_schema(built: Built) -> dict[str, Any] | None:
    """The JSON schema of a sweep's answers; see ``launchers.schemas``."""
    return schema_of(built.sweep.spec.evaluate.json_schema, built.judged["builtin"], built.base_dir)


def evaluation_files(built: Built) -> dict[str, str]:
    """The files that decide how answers are scored, by the names the sweep gives them, with their SHA-256."""
    evaluate = built.sweep.spec.evaluate
    schema = [evaluate.json_schema] if evaluate.json_schema else []
    formulates = evaluate.pipeline.function if evaluate.pipeline else None
    return _hashes(built, [*evaluate.functions, *evaluate.own_gates, *schema, *([formulates] if formulates else [])])


def _hashes(built: Built, entries: Sequence[str]) -> dict[str, str]:
    """The files of ``file.py:function`` entries, or of names alone, with their SHA-256."""
    names = sorted({entry.rpartition(":")[0] if ".py:" in entry else entry for entry in entries})
    return {name: sha256_of(built.base_dir / Path(name).expanduser()) for name in names}
