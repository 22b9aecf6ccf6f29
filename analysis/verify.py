"""Whether a bundle is what it claims: its files, its base, its adapter in plain PEFT, and its score."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import manifest
from analysis.decision.bootstrap import estimate
from analysis.export import ADAPTER, CERTIFICATE, ITEMS, MERGED
from recipes.files import sha256_of
from sweeps.errors import InvalidInput, PodiumError, Problem, VerificationFailed

TOLERANCE = 0.02  # of the mean score: two machines may round a few tokens of a greedy answer differently
CHANGED = 0.05  # the share of greedy answers that two machines may round into other words, in float32
_LEVEL = 0.95  # of the interval within which a score that is measured again must lie
_CLOSE = 0.01  # relative difference of merged and adapted logits; bfloat16 rounds to 0.004
_NO_ITEMS = "the bundle holds no items: this champion was chosen without evaluated answers"


@dataclass(frozen=True)
class Rescore:
    """How stored items are answered and scored again, handed in by the caller.

    Attributes:
        answer: Takes a model folder (the bundle with the adapter, or its ``merged/``) and the items (``id``,
            ``messages``, ``reference``, ``row``, …); returns one greedy answer an item, in order.
        score: Takes the items and the answers; returns mean metrics by name.
        tolerance: So far beyond the interval of the stored scores a mean may lie.
        changed: The largest share of the answers that may be other than those stored.
    """

    answer: Callable[[Path, list[dict[str, Any]]], list[str]]
    score: Callable[[list[dict[str, Any]], list[str]], dict[str, float]]
    tolerance: float = TOLERANCE
    changed: float = CHANGED


@dataclass(frozen=True)
class Check:
    """One thing that was checked. ``ok`` is None where it could not be; ``detail`` says what would be needed."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Report:
    """All checks of a bundle, in the order in which they were made."""

    bundle: Path
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed; what was not checked does not fail."""
        return all(check.ok is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in self.checks]
        return {"bundle": str(self.bundle), "ok": self.ok, "checks": checks}


def verify(
    bundle: Path,
    base: str | Path | None = None,
    rescore: Rescore | None = None,
    name: str | None = None,
    elsewhere: Mapping[str, Rescore] | None = None,
) -> Report:
    """Check a bundle and refuse it when anything is wrong. See :func:`inspect` for the checks.

    Args:
        bundle: The bundle's folder.
        base: As :func:`inspect` takes it; ``rescore`` likewise.
        rescore: How to answer and score.
        name: What the message calls the bundle; its folder unless told.
        elsewhere: As :func:`inspect` takes it.

    Raises:
        VerificationFailed: Names every failed check.
        InvalidInput: There is no such folder.
    """
    report = inspect(bundle, base, rescore, elsewhere)
    if not report.ok:
        failed = [f"{check.name}: {check.detail}" for check in report.checks if check.ok is False]
        raise VerificationFailed(f"{name or bundle} is not what it claims to be.\n" + "\n".join(failed))
    return report


def inspect(
    bundle: Path,
    base: str | Path | None = None,
    rescore: Rescore | None = None,
    elsewhere: Mapping[str, Rescore] | None = None,
) -> Report:
    """Make every check of a bundle and report them all.

    ``files`` (against the manifest) comes first; nothing else is opened when it fails. Then, of a sweep in stages,
    ``lineage`` (every stage is told, and the last made this adapter), ``base`` (the same
    content as certified), ``adapter`` (loads in plain PEFT, every tensor finite and in place), ``merged`` (the
    same logits as the adapter, where there are merged weights) and ``score``: the stored items are answered and scored
    again; the score must lie within the interval of the stored scores, and the answers must be those stored but for a
    few that another machine rounds otherwise.

    Args:
        bundle: The bundle's folder.
        base: The base model's local folder; without it the last four are not made.
        rescore: How to answer and score; without it ``score`` is not made.
        elsewhere: By the check's name, how servers answer that are to give the same scores.

    Raises:
        InvalidInput: There is no such folder.
    """
    if not bundle.is_dir():
        raise InvalidInput(Problem(str(bundle), "no such folder", "give the folder of an exported champion"))
    report = Report(bundle)
    report.checks.extend(_checks(bundle, None if base is None else Path(base), rescore, elsewhere or {}))
    return report


def _checks(
    bundle: Path, base: Path | None, rescore: Rescore | None, elsewhere: Mapping[str, Rescore]
) -> Iterator[Check]:
    problems = manifest.problems(bundle)
    required = [name for name in (*ADAPTER, CERTIFICATE) if not (bundle / name).is_file()]
    problems += [f"{name} is missing" for name in required if f"{name} is missing" not in problems]
    if problems:
        yield Check("files", False, "; ".join(problems))
        return
    yield Check(
        "files", True, f"{len(json.loads((bundle / manifest.FILE_NAME).read_bytes())['files'])} files as written"
    )
    proof = json.loads((bundle / CERTIFICATE).read_bytes())
    if proof.get("lineage"):
        yield check_lineage(bundle, proof)
    if base is None or not base.is_dir():
        why = "no base model was given" if base is None else f"{base} is no folder"
        needed = f"{why}; give the local folder of {proof['base']['name']}"
        yield from (Check(name, None if base is None else False, needed) for name in ("base", "adapter", "score"))
        yield from (_check_elsewhere(bundle, proof, elsewhere) if base is None else ())
        return
    same_base = check_base(base, proof)
    yield same_base
    if same_base.ok is False:
        return
    yield from _check_model(bundle, base, proof)
    yield from _check_score(bundle, proof, rescore)
    yield from _check_elsewhere(bundle, proof, elsewhere)


LINEAGE = (
    *("stage", "recipe", "method", "trial", "values", "adapter_sha256"),
    *("data", "data_identity", "dev", "cost", "code_commit"),
)
"""What a certificate says of every stage that had a part in its adapter."""


def check_lineage(bundle: Path, proof: dict[str, Any]) -> Check:
    """Whether the stages of a certificate are whole, and the last of them made this adapter and no other."""
    lineage = proof["lineage"]
    if not isinstance(lineage, list) or not all(isinstance(entry, dict) for entry in lineage):
        return Check("lineage", False, "it is no list of stages")
    lacking = [f"{entry.get('stage', '?')} lacks {key}" for entry in lineage for key in LINEAGE if key not in entry]
    if lacking:
        return Check("lineage", False, "; ".join(lacking))
    last = lineage[-1]
    if last["trial"] != proof["trial"]["id"]:
        return Check("lineage", False, f"it ends with trial {last['trial']}, not with {proof['trial']['id']}")
    found = sha256_of(bundle / ADAPTER[0])
    if last["adapter_sha256"] != found:
        told = str(last["adapter_sha256"])
        return Check("lineage", False, f"it ends with the adapter {told[:12]}…, but the bundle holds {found[:12]}…")
    steps = " → ".join(f"{entry['stage']} ({entry['method']}, trial {entry['trial']})" for entry in lineage)
    return Check("lineage", True, f"{steps}: the last adapter is the bundle's")


def check_base(base: Path, proof: dict[str, Any]) -> Check:
    """Whether a folder holds the base that a certificate names, by its contents."""
    from recipes.bases import identity
    from recipes.schema import Base

    certified = proof["base"]["identity"]
    if not certified or certified.startswith("hub:"):
        return Check("base", None, f"the certificate names no contents to compare with, but {certified or 'nothing'}")
    try:
        found = identity(Base(path=str(base.resolve())), Path())
    except PodiumError as error:
        return Check("base", False, str(error))
    if found != certified:
        return Check("base", False, f"{base} is not the base of this champion: {found[:12]}… is not {certified[:12]}…")
    return Check("base", True, f"{proof['base']['name']}, {found[:12]}…")


def _check_model(bundle: Path, base: Path, proof: dict[str, Any]) -> Iterator[Check]:
    """Load base and adapter once; compare merged weights with them where there are any."""
    from recipes.generation import quiet

    quiet()
    import torch
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    dtype = ((proof["trial"].get("settings") or {}).get("base") or {}).get("dtype", "auto")
    stored = load_file(bundle / ADAPTER[0])
    broken = sorted(name for name, tensor in stored.items() if not bool(torch.isfinite(tensor).all()))
    try:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype), str(bundle))
        # Told, because PEFT would otherwise ask the hub for the base by its name.
        with_embeddings = any(name.endswith(("embed_tokens.weight", "lm_head.weight")) for name in stored)
        loaded = get_peft_model_state_dict(model, save_embedding_layers=with_embeddings)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        yield Check("adapter", False, f"does not load in plain PEFT: {type(error).__name__}: {error}")
        return
    misplaced = sorted(set(stored) ^ set(loaded)) + sorted(
        name for name in set(stored) & set(loaded) if not torch.equal(stored[name].to(loaded[name]), loaded[name])
    )
    if broken or misplaced:
        words = [f"{name} has values that are not finite" for name in broken]
        words += [f"{name} is not in the loaded model as in the file" for name in misplaced]
        yield Check("adapter", False, "; ".join(words[:5]))
        return
    yield Check("adapter", True, f"{len(stored)} tensors load in plain PEFT")
    if (bundle / MERGED).is_dir():
        yield _check_merged(model, AutoModelForCausalLM.from_pretrained(str(bundle / MERGED), dtype=dtype))


def _check_merged(adapted: Any, merged: Any) -> Check:
    import torch

    tokens = torch.arange(64).unsqueeze(0) % adapted.config.vocab_size  # (1, 64): any tokens do
    with torch.no_grad():
        ours, theirs = (model.eval()(input_ids=tokens).logits.float() for model in (adapted, merged))
    difference = float((ours - theirs).norm() / ours.norm())
    ok = difference <= _CLOSE  # false for NaN too
    return Check(
        "merged", ok, f"logits differ from the adapter's by {difference:.2g} (relative norm, at most {_CLOSE})"
    )


def _check_score(bundle: Path, proof: dict[str, Any], rescore: Rescore | None) -> Iterator[Check]:
    if not (bundle / ITEMS).is_file():
        yield Check("score", None, _NO_ITEMS)
        return
    items = _items(bundle)
    if rescore is None or not items:
        yield Check("score", None, "no way to answer the stored items was given" if items else "no items are stored")
        return
    for name, folder in (("score", bundle), ("score of merged", bundle / MERGED)):
        if folder.is_dir():
            yield _rescore(name, folder, items, proof, rescore)


def _check_elsewhere(bundle: Path, proof: dict[str, Any], elsewhere: Mapping[str, Rescore]) -> Iterator[Check]:
    """Whoever else answers is held to the same."""
    items = _items(bundle) if (bundle / ITEMS).is_file() else []
    for name, rescore in elsewhere.items():
        yield _rescore(name, bundle, items, proof, rescore) if items else Check(name, False, _NO_ITEMS)


def _items(bundle: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (bundle / ITEMS).read_text(encoding="utf-8").splitlines() if line.strip()]


def _rescore(name: str, folder: Path, items: list[dict[str, Any]], proof: dict[str, Any], rescore: Rescore) -> Check:
    answers = rescore.answer(folder, items)
    if len(answers) != len(items):
        return Check(name, False, f"{len(items)} items, but {len(answers)} answers")
    again = rescore.score(items, answers)
    before = _means(items)
    shared = sorted(set(before) & set(again))
    objective = proof["rule"]["metric"]
    compared = [objective] if objective in shared else shared
    if not compared:
        return Check(name, False, f"nothing to compare: stored {sorted(before)}, scored again {sorted(again)}")
    bounds = {metric: _interval(items, metric, before[metric], rescore.tolerance) for metric in compared}
    same = sum(answer == item["answer"] for answer, item in zip(answers, items, strict=True))
    least = math.ceil((1 - rescore.changed) * len(items) - 1e-9)
    ok = same >= least and all(bounds[metric][0] <= again[metric] <= bounds[metric][1] for metric in compared)
    words = ", ".join(
        f"{metric} {again[metric]:.4g} (was {before[metric]:.4g}, allowed {low:.4g} to {high:.4g})"
        for metric, (low, high) in bounds.items()
    )
    return Check(name, ok, f"{words}, n={len(items)}; {same} answers to the letter, at least {least} must be")


def _interval(items: list[dict[str, Any]], metric: str, mean: float, tolerance: float) -> tuple[float, float]:
    """Within which a mean of the same items may lie: that of the stored scores, and the tolerance around it."""
    stored = [item["metrics"].get(metric) for item in items]
    low, high = estimate([value for value in stored if value is not None]).interval(_LEVEL) or (mean, mean)
    if not (math.isfinite(low) and math.isfinite(high)):  # too few of them differ to say
        low = high = mean
    return low - tolerance, high + tolerance


def _means(items: list[dict[str, Any]]) -> dict[str, float]:
    """The mean of every metric over the items that have it."""
    values: dict[str, list[float]] = {}
    for item in items:
        for name, value in item["metrics"].items():
            if value is not None:
                values.setdefault(name, []).append(float(value))
    return {name: math.fsum(numbers) / len(numbers) for name, numbers in values.items()}
