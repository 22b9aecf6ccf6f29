"""The part of export and verification that loads torch: ``python -m launchers.bundle_worker export|verify …``."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.champion import Choice
from analysis.verify import CHANGED, Check, Rescore
from launchers import home
from launchers.schemas import schema_of
from recipes import bases
from recipes.schema import Recipe
from sweeps.errors import InvalidInput, PodiumError, Problem, VerificationFailed
from sweeps.metrics import BY_PIPELINE
from tracking.ledger import SweepState

CHANGED_BF16 = 0.3  # as ``analysis.verify.CHANGED``
VERDICT = {True: "ok", False: "FAILED", None: "not checked"}


@dataclass(frozen=True)
class Served:
    """A model at an OpenAI-compatible endpoint."""

    endpoint: str
    model: str


def export_bundle(folder: Path, to: Path, trial: str, merge: bool, numbered: bool) -> Path:
    """Write a trial's bundle from its run folder, and return where it lies."""
    from analysis.champion import choose
    from analysis.export import export
    from tracking.ledger import read

    state = read(folder)
    choice = choose(state)
    by_rule = choice.champion == trial
    if not by_rule:
        choice = replace(choice, champion=trial, why=(_not_champion(choice, trial), *choice.why))
    recipe = recipe_of(state, trial)
    base = bases.locate(recipe.base, Path(state.facts["base_dir"]))
    bundle = export(
        state,
        choice,
        to,
        base_path=base or recipe.base.path,
        base_name=recipe.base.path,
        tokenizer_from=base or recipe.base.path,
        base_identity=bases.identity(recipe.base, Path(state.facts["base_dir"])),
        merge=merge,
        numbered=numbered,
        commit=state.facts.get("code_commit"),
        extra={
            "machine": state.facts.get("machine"),
            "base_dir": state.facts["base_dir"],
            "answers": answers_of(state, recipe),
        },
    )
    if by_rule:
        (folder / "champion.json").write_bytes((bundle / "champion.json").read_bytes())
    return bundle


def answers_of(state: SweepState, recipe: Recipe) -> dict[str, Any]:
    """How the champion answered when it was measured, and so should when it is served."""
    base_dir, spec = Path(state.facts["base_dir"]), state.spec
    builtin = state.facts["judged"]["builtin"] if "judged" in state.facts else recipe.data.builtin
    schema = schema_of((spec.get("evaluate") or {}).get("schema"), builtin, base_dir)
    guided = bool((spec.get("serving") or {}).get("guided"))
    return {"guided": guided, "schema": schema, "max_new_tokens": recipe.generate.max_new_tokens}


def _not_champion(choice: Choice, trial: str) -> str:
    ranking = choice.ranking
    place = f"ranks {ranking.index(trial) + 1} of {len(ranking)}" if trial in ranking else "does not qualify"
    return f"Trial {trial} is not the champion: by the rule it {place}."


def recipe_of(state: SweepState, trial: str) -> Recipe:
    """The resolved recipe of a trial, from its run folder."""
    from analysis.certificate import settings

    found = settings(state.folder, state.every_trial[trial])
    if found is None:
        rule = "the trial's settings are gone from the run folder"
        raise InvalidInput(Problem(str(state.folder / "trials" / trial / "trial.yaml"), rule))
    return Recipe.model_validate(found)


def verify_bundle(
    bundle: Path, base: str | None = None, name: str | None = None, served: Served | None = None
) -> list[Check]:
    """Check a bundle against its base; the base is found by the certificate's name unless it is given.

    Args:
        bundle: A local folder.
        base: The base model's folder or name, where it is elsewhere.
        name: What messages call the bundle, where that is not its folder.
        served: A server that is to answer as the bundle does.

    Raises:
        VerificationFailed: Naming every check that failed.
        ServiceUnreachable: The server does not answer, or does not keep to the schema of a guided champion.
    """
    from analysis import manifest
    from analysis.verify import verify

    name = name or str(bundle)
    # Nothing of a bundle is believed, and no metric that it names is loaded, before its hashes are right.
    if not bundle.is_dir() or manifest.problems(bundle) or not (bundle / "champion.json").is_file():
        return verify(bundle, name=name).checks
    proof, recipe = read_certificate(bundle, name)
    found = recipe.base.model_copy(update={"path": base}) if base else recipe.base
    folder = bases.locate(found, Path(proof.get("base_dir", ".")))
    scoring = rescore_with(str(folder or found.path), recipe, proof)
    elsewhere = {}
    if served is not None and scoring is not None:
        answer = answered_by(served, recipe.generate.max_new_tokens, _guide(proof))
        elsewhere = {f"score at {served.endpoint}": replace(scoring, answer=answer)}
    return verify(bundle, folder, scoring, name, elsewhere).checks


def answered_by(
    served: Served, max_new_tokens: int, schema: dict[str, Any] | None
) -> Callable[[Path, list[dict[str, Any]]], list[str]]:
    """Answers of a server to the items of a bundle.

    Raises:
        ServiceUnreachable: It does not answer, or does not keep to the schema.
    """
    from tracking.meters.endpoint import ServedModel

    model = ServedModel(served.model, served.endpoint, max_new_tokens, schema=schema, who="the server")
    model.probe()

    def answer(folder: Path, items: list[dict[str, Any]]) -> list[str]:
        found = model.answer_all([item["messages"] for item in items], max_missing=0.0)
        return [str(text) for text in found.texts]

    return answer


def _guide(proof: dict[str, Any]) -> dict[str, Any] | None:
    """The schema that a champion's answers were forced into; None where they were free."""
    told = proof.get("answers") or {}
    return told.get("schema") if told.get("guided") else None


def read_certificate(bundle: Path, name: str) -> tuple[dict[str, Any], Recipe]:
    """A bundle's certificate, and the recipe of its trial.

    Raises:
        VerificationFailed: It is none that this version reads.
    """
    try:
        proof = json.loads((bundle / "champion.json").read_text(encoding="utf-8"))
        recipe = Recipe.model_validate(proof["trial"]["settings"])
    except (ValueError, TypeError, KeyError) as error:
        what = f"champion.json: no certificate that this version reads: {' '.join(str(error).split())[:300]}"
        raise VerificationFailed(f"{name} is not what it claims to be.\n{what}") from None
    return proof, recipe


def rescore_with(base: str, recipe: Recipe, proof: dict[str, Any]) -> Rescore | None:
    """Answer with this base as the evaluation did, and score with the same metrics; None where none scored.

    A judge is not asked again: what it scored is compared by the metrics that code gave beside it.
    """
    from recipes import generation
    from tracking.meters.gates import load_gate
    from tracking.meters.metrics import Item, load_metric
    from tracking.meters.quality import RUBRIC_SCORE, SCORE, score_answers

    details: list[dict[str, Any]] = [entry["detail"] for entry in proof["metrics"].values() if entry.get("detail")]
    detail = next((one for one in details if one.get("metrics") or one.get("pipeline")), {})
    if not detail:
        return None
    base_dir = Path(proof.get("base_dir", "."))
    schema = detail.get("schema")
    guide = _guide(proof)
    metrics = [load_metric(name, base_dir, schema) for name in detail["metrics"]]
    pipeline = _pipeline(detail.get("pipeline"), base_dir)
    if detail.get("pipeline") and not pipeline and (not metrics or proof["rule"]["metric"].startswith(BY_PIPELINE)):
        return None  # what decided cannot be measured here
    metrics += pipeline
    # What code scored beside a judge stands there without the gates: they decide what the judge sees.
    names = [] if detail.get("judge") else detail.get("gates", [])
    gates = [load_gate(name, base_dir, schema, detail.get("forbidden", [])) for name in names]

    def answer(folder: Path, items: list[dict[str, Any]]) -> list[str]:
        merged = (folder / "config.json").is_file()
        model = generation.load(
            str(folder) if merged else base,
            recipe.base,
            None if merged else folder,
            max_new_tokens=recipe.generate.max_new_tokens,
            batch_size=recipe.generate.batch_size,
            device=generation.best_device(),
        )
        return model.answer([item["messages"] for item in items], guide)

    def score(stored: list[dict[str, Any]], answers: list[str]) -> dict[str, float]:
        items = [Item(item["id"], item["messages"], item["reference"], item["row"]) for item in stored]
        means = score_answers(items, answers, metrics, gates=gates, max_missing=1.0).metrics
        scored = {name: value for name, value in means.items() if value is not None}
        if detail.get("judge") and SCORE in scored:
            scored[RUBRIC_SCORE] = scored.pop(SCORE)
        return scored

    # In bfloat16 neighbours of one batch round each other's sums, and a long answer has many near ties.
    return Rescore(answer, score, changed=CHANGED if recipe.base.dtype == "float32" else CHANGED_BF16)


def _pipeline(told: dict[str, Any] | None, base_dir: Path) -> list[Any]:
    """The pipeline that scored too, where its tables are still what they were: they do not travel with a bundle."""
    if told is None:
        return []
    from launchers.evaluation import open_told

    try:
        return [open_told({**told, "cache": str(home.cache_folder())}, base_dir)]
    except PodiumError:
        return []


def main() -> None:
    """Print one line a check, or the bundle's folder; exit with the error's code."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser("export")
    exporting.add_argument("folder", type=Path, help="the run folder")
    exporting.add_argument("to", type=Path)
    exporting.add_argument("trial")
    exporting.add_argument("--merge", action="store_true")
    exporting.add_argument("--numbered", action="store_true")
    verifying = commands.add_parser("verify")
    verifying.add_argument("bundle", type=Path)
    verifying.add_argument("--base")
    arguments = parser.parse_args()
    try:
        if arguments.command == "export":
            print(export_bundle(arguments.folder, arguments.to, arguments.trial, arguments.merge, arguments.numbered))
        else:
            for check in verify_bundle(arguments.bundle, arguments.base):
                print(f"{check.name}: {VERDICT[check.ok]} – {check.detail}")
    except PodiumError as error:
        print(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
