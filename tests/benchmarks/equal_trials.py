"""Twenty equal trials for real: one configuration of the demo under twenty seeds, from the sweep to the decision.

Nobody among them is better than another by more than its seed, so a single champion would be luck.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.report import ROOT, report
from tracking.ledger import read

NAME = "equal-trials"
SEEDS = tuple(range(20))
SWEEP = f"""\
name: {NAME}
recipe: tiny_commerce_sft
pools: [cpu]
set: {{optimizer.name: adamw, optimizer.lr: 0.0067, optimizer.weight_decay: 0.01, lora.rank: 32}}
space:
  train.seed: choice({", ".join(map(str, SEEDS))})
search: {{algorithm: grid, start_at: null}}
stop_early: {{algorithm: none}}
evaluate: {{metrics: [shopping], dev: 64, challenge: 96, latency: {{top: 0}}, defects: null}}
champion: {{maximize: quality/score, confirm: {{top: 3}}}}
"""


def run() -> None:
    """Run the sweep and write what was decided."""
    with tempfile.TemporaryDirectory() as folder:
        path, home = Path(folder) / "equal.yaml", Path(folder) / "home"
        path.write_text(SWEEP)
        environment = {**os.environ, "PODIUM_HOME": str(home), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "launchers.cli", "submit", str(path)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 6):
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        state = read(home / "runs" / NAME)
        decided = state.champion or {}
        on_dev = (one for trial in state.trials.values() for one in trial.evaluations if one.split == "dev")
        scores = [score for one in on_dev if (score := one.metrics.get("quality/score")) is not None]
        outcome = decided["outcome"]
        row = {
            "trials": len(state.trials),
            "outcome": decided["kind"],
            "unbeaten contenders": f"{len(outcome['unbeaten'])} of {len(outcome['rule']['contenders'])}",
            "dev score of the best": max(scores),
            "corrected for being the best of twenty": (decided["dev_score"] or {}).get("corrected"),
            "mean dev score of all": sum(scores) / len(scores),
            "the candidate's score on challenge": outcome["means"][0]["mean"],
        }
        print(json.dumps(row, indent=2), flush=True)
        report("equal_trials", [row], {"sweep": SWEEP})
