"""A sweep's run folder before its first trial: the folder itself, the rows, and the ledger's first event."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from launchers import home
from launchers.build import Built
from recipes.data import splits
from sweeps.errors import InvalidInput, Problem
from tracking.ledger import FORMAT, Ledger


def open_folder(name: str) -> Path:
    """The run folder of a new sweep.

    Raises:
        InvalidInput: A sweep of this name is there, or the folder cannot be written.
    """
    folder = home.run_folder(name)
    if (folder / "ledger.jsonl").exists():
        hint = f"choose another name (`name=…` on the command line), or remove {folder}"
        raise InvalidInput(Problem("name", f"a sweep {name!r} is there", hint))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "inbox").mkdir(exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        rule = f"the run folder cannot be written: {error.strerror}"
        raise InvalidInput(Problem(str(folder), rule, "set PODIUM_HOME to a folder that can")) from None
    return folder


def prepare(built: Built, folder: Path, ledger: Ledger) -> dict[str, Path]:
    """Write the run folder's first files and the ledger's ``sweep`` event; return the files of the four splits."""
    sweep = built.sweep
    paths = splits.write(built.rows, home.cache_folder())
    (folder / "spec.yaml").write_text(built.text, encoding="utf-8")
    facts = {
        "base_identity": sweep.facts.base_identity,
        "start_identity": sweep.facts.start_identity,
        "data_identity": sweep.facts.data_identity,
        "data": {
            split: {"rows": len(built.rows.rows[split]), "sha256": built.rows.sha256[split], "path": str(paths[split])}
            for split in splits.SPLITS
        },
        "pools": {pool.name: pool.model_dump(mode="json") for pool in built.pools},
        "base_dir": str(built.base_dir),
        "overrides": list(built.overrides),
        "code_commit": commit(),
        "versions": {
            name: version(name) for name in ("torch", "transformers", "peft", "nemo-automodel", "ray", "mlflow")
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    ledger.append(
        "sweep",
        name=sweep.spec.name,
        format=FORMAT,
        spec=sweep.spec.model_dump(mode="json", by_alias=True),
        recipe=sweep.settings,
        facts=facts,
    )
    return paths


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


def validation_file(paths: dict[str, Path], rows: int | None) -> Path:
    """The validation split, or its first ``rows`` rows, which give the loss that trials report."""
    if rows is None:
        return paths["validation"]
    cut = paths["validation"].with_name(f"validation-{rows}.jsonl")
    if not cut.exists():
        with paths["validation"].open(encoding="utf-8") as file:
            lines = [line for line, _ in zip(file, range(rows), strict=False)]
        part = cut.with_suffix(f".{os.getpid()}.part")
        part.write_text("".join(lines), encoding="utf-8")
        part.replace(cut)
    return cut
