"""The demo's twenty trials from nothing to scores: Podium against Ray Tune with a PEFT process for each trial.

Wall seconds on this machine, both with the same points, rows, steps, validation and evaluation: first the full grid,
then with the same early stopping. Podium's seconds count from the command's start to the end of its last trial.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from launchers.cluster import num_cores
from tests.benchmarks.report import ROOT, ratios, report
from tracking.ledger import read

SETTLED_S = 0.5  # within which the last trial's costs are written; the champion's evaluation takes longer
FULL, HALVING = "full grid", "the same ASHA"
STOP_EARLY = {FULL: "null", HALVING: "{algorithm: asha, metric: val/loss, mode: min, grace: 0.25, reduction: 3}"}
SWEEP = """\
name: end-to-end
recipe: tiny_commerce_sft
pools: [cpu]
set: {{packed.trees: {trees}}}
space:
  optimizer.name: choice(adam, adamw)
  optimizer.lr: loguniform(5e-4, 4e-2)
  optimizer.weight_decay: {{when: optimizer.name == adamw, value: choice(0.0, 0.01, 0.1)}}
  schedule.min_lr_ratio: uniform(0.0, 0.3)
  lora.rank: choice(4, 8, 16, 32)
search: {{algorithm: random, trials: 20, seed: 0, start_at: default}}
stop_early: {early}
evaluate: {{metrics: [shopping], dev: 64, challenge: 24, latency: {{top: 0}}, stopped: false}}
"""
CONDITIONS = {"sweep": SWEEP, "seconds": "wall, from nothing to the last trial's score"}


def run(repeats: int) -> None:
    """Measure ``repeats`` turns of each kind and write the report."""
    rows: list[dict[str, Any]] = []
    spent: list[tuple[dict[str, float], dict[str, float]]] = []
    for kind in (FULL, HALVING):
        peer, podium, champions = [], [], []
        for _ in range(repeats):
            theirs, ours = _peer(kind), _podium(kind)
            peer.append(theirs["seconds"])
            podium.append(ours["seconds"])
            champions.append([_best(theirs["trials"]), _best(ours["trials"])])
            print(f"{kind}: Ray Tune + PEFT {peer[-1]:.0f} s, Podium {podium[-1]:.0f} s", flush=True)
            if kind == FULL:
                spent.append((theirs["spent"], ours["spent"]))
        rows.append(
            {
                "sweep": kind,
                "Ray Tune + PEFT ÷ Podium": ratios(peer, podium),
                "Ray Tune + PEFT s": peer,
                "Podium s": podium,
                "lowest val/loss: theirs, ours": "; ".join(f"{one}, {other}" for one, other in champions),
            }
        )
    conditions = {"cores": num_cores(), "training": "with its validations", "the rest": "starting, loading, waiting"}
    report("end_to_end_factors", [_factor(name, spent) for name in spent[0][0]], conditions)
    report("end_to_end", rows, CONDITIONS)


def run_variants(repeats: int) -> None:
    """The full grid on Podium alone: as it is, without trees, and on the other engine, in turns."""
    variants: dict[str, dict[str, Any]] = {
        "packed": {},
        "rows one by one": {"trees": False},
        "nemo": {"engine": "nemo"},
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, options in variants.items():
            seconds[name].append(_podium(FULL, **options)["seconds"])
            print(f"{FULL}, {name}: {seconds[name][-1]:.0f} s", flush=True)
    rows = [{"full grid": name, "s": own, "÷ packed": ratios(own, seconds["packed"])} for name, own in seconds.items()]
    report("end_to_end_variants", rows, CONDITIONS)


def _factor(name: str, spent: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """One use of the machine's time, in core seconds of the full grid: theirs and ours, turn by turn."""
    theirs, ours = ([turn[side][name] for turn in spent] for side in (0, 1))
    row = {"core seconds": name, "Ray Tune + PEFT": theirs, "Podium": ours}
    return {**row, "Ray Tune + PEFT ÷ Podium": ratios(theirs, ours)}


def _spent(wall: float, training: float, evaluation: float) -> dict[str, float]:
    whole = wall * num_cores()
    return {"training": training, "evaluation": evaluation, "the rest": whole - training - evaluation, "all": whole}


def _peer(kind: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        sweep, out = _write(Path(folder), kind), Path(folder) / "out.json"
        began = time.time()
        _call(folder, "-m", "tests.benchmarks.ray_tune_peft", str(sweep), str(out))
        content: dict[str, Any] = json.loads(out.read_text())
        seconds = time.time() - began
        training, evaluation = (
            sum(trial.get(name, 0.0) for trial in content["trials"].values()) for name in ("s/training", "s/evaluation")
        )
        return {**content, "seconds": seconds, "spent": _spent(seconds, training, evaluation)}


def _podium(kind: str, *, trees: bool = True, engine: str = "packed") -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        sweep = _write(Path(folder), kind, trees)
        began = time.time()
        _call(folder, "-m", "launchers.cli", "submit", str(sweep), f"set.engine={engine}")
        run_folder = Path(folder) / "home" / "runs" / "end-to-end"
        state = read(run_folder)
        events = [json.loads(line) for line in (run_folder / "ledger.jsonl").read_text().splitlines()]
        last = max(
            event["t"] for event in events if event["event"] == "state" and event["state"] in ("DONE", "STOPPED")
        )
        costs = [event for event in events if event["event"] == "cost" and event["t"] <= last + SETTLED_S]
        training, evaluation = (
            sum(cost["unit_s"] for cost in costs if cost["kind"] == kind_) for kind_ in ("training", "evaluation")
        )
        trials = {key: trial.metrics for key, trial in state.trials.items()}
        return {"seconds": last - began, "trials": trials, "spent": _spent(last - began, training, evaluation)}


def _best(trials: dict[str, dict[str, Any]]) -> str:
    """The trial with the lowest validation loss, with that loss and its score."""
    done = {key: metrics for key, metrics in trials.items() if metrics.get("val/loss") is not None}
    key = min(done, key=lambda trial: done[trial]["val/loss"])
    score = done[key].get("quality/score")
    return f"{key} {done[key]['val/loss']:.4f}" + (f" (score {score:.3f})" if score is not None else "")


def _write(folder: Path, kind: str, trees: bool = True) -> Path:
    path = folder / "end_to_end.yaml"
    path.write_text(SWEEP.format(early=STOP_EARLY[kind], trees=str(trees).lower()))
    return path


def _call(folder: str, *arguments: str) -> None:
    environment = {**os.environ, "PODIUM_HOME": f"{folder}/home", "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
