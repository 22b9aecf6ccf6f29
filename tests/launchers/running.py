"""Running ``podium`` as a user does: a process of its own, with a home of its own and no cluster or server around."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tracking.ledger import SweepState, read

ROOT = Path(__file__).resolve().parents[2]

SWEEP = """\
name: small
recipe: tiny_commerce_sft
set: {{train.max_steps: 6, train.validate_every: 2, train.validation_rows: 8, generate.max_new_tokens: 16}}
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: loguniform(1e-3, 2e-2)
  lora.rank: choice(4, 8)
search: {{trials: {trials}, seed: 0}}
evaluate: {{metrics: [shopping, field_f1], dev: 8, challenge: 8, latency: {{top: 1, requests: 7}}}}
champion: {{minimize: val/loss}}
"""


def environment(home: Path) -> dict[str, str]:
    """The environment of a user on a fresh machine, with the home of the sweeps in ``home``."""
    foreign = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "PODIUM_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return {**kept, "PODIUM_HOME": str(home), "COLUMNS": "160", "NO_COLOR": "1"}


def command(*arguments: str) -> list[str]:
    """``podium`` as this interpreter's module."""
    return [sys.executable, "-m", "launchers.cli", *arguments]


PROBE = """
import json, sys
from launchers.cli import main
sys.argv = ["podium", *sys.argv[1:]]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
finally:
    heavy = [name for name in ("torch", "transformers", "ray", "mlflow") if name in sys.modules]
    print("LOADED " + json.dumps(heavy), file=sys.stderr)
sys.exit(code)
"""


def loaded(run: subprocess.CompletedProcess[str]) -> list[str]:
    """The heavy libraries that the process of a probed command had loaded when it was done."""
    found: list[str] = json.loads(run.stderr.rsplit("LOADED ", 1)[1])
    return found


def podium(
    home: Path, *arguments: str, timeout_s: float = 240, probe: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with ``probe`` its last line on stderr says what :func:`loaded` reads."""
    return subprocess.run(
        [sys.executable, "-c", PROBE, *arguments] if probe else command(*arguments),
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def write_sweep(folder: Path, trials: int = 3, more: str = "") -> Path:
    """A sweep that takes under a minute."""
    path = folder / "small.yaml"
    path.write_text(SWEEP.format(trials=trials) + more)
    return path


@dataclass(frozen=True)
class Finished:
    """A sweep that ran to its end: Podium's home, and what the command printed."""

    home: Path
    stdout: str
    stderr: str
    code: int
    loaded: tuple[str, ...]  # heavy libraries in the driver's process at its end

    @property
    def state(self) -> SweepState:
        return read(self.home / "runs" / "small")
