"""What reads a ledger or plans a sweep must start at once: no room of tracking loads a heavy library when imported."""

import subprocess
import sys
from pathlib import Path

MODULES = (
    "tracking.ledger",
    "tracking.mlflow_view",
    "tracking.mlflow_client",
    "tracking.mlflow_runs",
    "tracking.meters.cost",
    "tracking.meters.judge",
    "tracking.meters.latency.aiperf",
    "tracking.meters.latency.stages",
    "tracking.meters.metrics",
    "tracking.meters.quality",
    "tracking.meters.shopping",
)
HEAVY = {"torch", "transformers", "ray", "mlflow", "sqlalchemy", "jsonschema", "numpy", "pandas"}


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, {', '.join(MODULES)}; print(' '.join(sorted({HEAVY!r} & set(sys.modules))))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
