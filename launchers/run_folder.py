"""A sweep's run folder before a session's first trial: the folder itself, the rows, and what the ledger is told."""

import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launchers import home
from launchers.arms import evaluation_files
from launchers.build import Built
from launchers.place import Place
from launchers.starts import enter
from launchers.versions import changes, kept
from recipes import adapters
from recipes.bases import locate
from recipes.data import splits
from recipes.files import write_whole
from recipes.schema import Recipe
from sweeps.constraints import spared
from sweeps.errors import InvalidInput, Problem
from sweeps.plan import plan
from tracking.ledger import FILE_NAME, FORMAT, Ledger

NEEDED_BYTES = 200 * 2**20  # below this a sweep does not start: adapters, checkpoints and logs must go somewhere


def writable_folder(name: str) -> Path:
    """The run folder of a sweep, made where it is missing.

    Raises:
        InvalidInput: It cannot be written, or its disk is as good as full.
    """
    folder = home.run_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.write_text("can this be written?")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        rule = f"the run folder cannot be written: {error.strerror}"
        raise InvalidInput(Problem(str(folder), rule, "set PODIUM_HOME to a folder that can")) from None
    if free < NEEDED_BYTES:
        rule = f"{free / 2**20:.0f} MiB are free on its disk, a sweep needs at least {NEEDED_BYTES / 2**20:.0f}"
        raise InvalidInput(Problem(str(folder), rule, "free some (`podium gc`), or set PODIUM_HOME to another disk"))
    return folder


def prepare(built: Built, ledger: Ledger) -> dict[str, Path]:
    """Write what the run folder lacks of this sweep; return the files of the four splits.

    The ledger gets a ``sweep`` event where there is none yet, or where the YAML has changed: then it says what, and
    which trials stay.
    """
    paths = splits.write(built.rows, home.cache_folder())
    content = sweep_event(built, paths)
    if not (ledger.path.exists() and ledger.path.stat().st_size):
        _keep_yaml(built, ledger.folder, 1)
        ledger.append("sweep", **content)
    elif changed := changes(state := ledger.read(), content):
        _keep_yaml(built, ledger.folder, state.version + 1)
        ledger.append("sweep", **content, changes=changed, kept=kept(state, built.sweep))
    if built.place is not None:
        enter(ledger, built.place)
    return paths


def what_changed(built: Built, folder: Path) -> list[str]:
    """What this YAML changes against the version that the run folder ends with. Writes nothing there."""
    from tracking.ledger import read

    return changes(read(folder), sweep_event(built, splits.paths(built.rows, home.cache_folder())))


def exists(folder: Path) -> bool:
    """Whether a sweep has begun in this run folder."""
    path = folder / FILE_NAME
    return path.exists() and path.stat().st_size > 0


def _keep_yaml(built: Built, folder: Path, number: int) -> None:
    """``spec.yaml`` is the present version as it was written; those before keep their numbers."""
    path, before = folder / "spec.yaml", folder / f"spec-{number - 1}.yaml"
    if number > 1 and path.exists() and not before.exists():
        shutil.copyfile(path, before)
    write_whole(path, [built.text])


def sweep_event(built: Built, paths: dict[str, Path]) -> dict[str, Any]:
    """The fields of the ledger's ``sweep`` event."""
    sweep = built.sweep
    facts = {
        "base_identity": sweep.facts.base_identity,
        "starts": {name: asdict(start) for name, start in sweep.facts.starts.items()},
        "data_identity": sweep.facts.data_identity,
        "evaluation_files": evaluation_files(built),
        "incumbent": built.incumbent.digest if built.incumbent else None,
        "data": {
            split: {"rows": len(built.rows.rows[split]), "sha256": built.rows.sha256[split], "path": str(paths[split])}
            for split in splits.SPLITS
        },
        "pools": {pool.name: pool.model_dump(mode="json") for pool in built.pools},
        "plan": plan(sweep).foretold(),
        "default_trial": spared(sweep),
        "serving": built.serving.model_dump(mode="json") if built.serving else None,
        "base_dir": str(built.base_dir),
        "overrides": list(built.overrides),
        "code_commit": commit(),
        "versions": {
            name: version(name) for name in ("torch", "transformers", "peft", "nemo-automodel", "ray", "mlflow")
        },
        **(_stage(built.place, built.judged) if built.place else {}),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    return {
        "name": sweep.spec.name,
        "format": FORMAT,
        "spec": sweep.spec.model_dump(mode="json", by_alias=True),
        "recipe": sweep.settings,
        "facts": facts,
    }


def _stage(place: Place, judged: dict[str, Any]) -> dict[str, Any]:
    """What the ledger is told of a stage's place: whose rows it is judged on, and where it starts."""
    told = {"sweep": place.sweep, "name": place.name, "names": list(place.names), "source": place.source}
    budget = place.budget.model_dump(mode="json")
    return {"stage": {**told, "budget": budget}, "judged": {key: judged[key] for key in ("builtin", "group")}}


def commit() -> str | None:
    """The commit of Podium's own code with ``+dirty`` where it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10
        )
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=root, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("+dirty" if status.stdout.strip() else "") if head.returncode == 0 else None


def job_fields(
    built: Built, paths: dict[str, Path], folder: Path, settings: dict[str, Any], threads: int = 1
) -> dict[str, Any]:
    """The fields of a trial's ``recipes.engines.protocol.Job``, as texts and plain values: they travel to workers.

    Args:
        paths: Of the prepared splits.
        folder: The trial's.
    """
    recipe = Recipe.model_validate(settings)
    start = recipe.start.adapter
    return {
        "settings": settings,
        "base": str(locate(recipe.base, built.base_dir) or recipe.base.path),
        "train": str(paths["train"]),
        "validation": str(validation_file(paths, recipe.train.validation_rows)),
        "folder": str(folder),
        "device": built.pools[0].device,
        "threads": threads,
        "start": None if start is None else str(adapters.locate(start, built.base_dir, home.cache_folder())),
    }


def validation_file(paths: dict[str, Path], rows: int | None) -> Path:
    """The validation split, or its first ``rows`` rows, which give the loss that trials report."""
    if rows is None:
        return paths["validation"]
    cut = paths["validation"].with_name(f"validation-{rows}.jsonl")
    if not cut.exists():
        with paths["validation"].open(encoding="utf-8") as file:
            write_whole(cut, (line for line, _ in zip(file, range(rows), strict=False)))
    return cut
