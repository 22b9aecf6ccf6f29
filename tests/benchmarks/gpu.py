"""The packed engine on one NVIDIA GPU, on a base of Llama 3.1 8B's shape with random weights: nothing is downloaded.

    python -m tests.benchmarks.gpu                     # every part, each under ten minutes
    python -m tests.benchmarks.gpu --only single tree  # some of them; each part writes its own report
    python -m tests.benchmarks.gpu --small             # every part on the CPU, with a tiny base: a rehearsal

What is compared takes turns; the tables have medians, lowest and highest. Without a GPU nothing is measured.
"""

import argparse
import gc
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.benchmarks import gpu_packs
from tests.benchmarks.gpu_packs import Setting
from tests.benchmarks.report import RESULTS, ROOT, alternate, ratios, report, table
from tests.benchmarks.shapes import random_rows

TURNS_S = 240.0  # of all turns of one comparison: fewer turns where a GPU is slow
CONTRACT_S = 560.0
FLOPS = 4  # per frozen parameter and token: 2 forward, 2 for the gradient of what goes in, none for the weights

Rows = list[dict[str, Any]]
Part = Callable[[Setting, Path], tuple[Rows, dict[str, Any]]]


def single(setting: Setting, folder: Path) -> tuple[Rows, dict[str, Any]]:
    """One trial on one row of 4,096 tokens, against what the GPU's matrix products allow."""
    network = gpu_packs.base(setting)
    rows = gpu_packs.batches(setting, 1, 1, 0, 4096, 1024)
    step = gpu_packs.rounds(setting, gpu_packs.pack_of(network, folder / "single", rows))
    (seconds,) = _turns(setting, step)
    tokens = len(rows[0][0].ids)
    speeds = [tokens / one for one in seconds]
    limit = _limit(setting, network)
    row = {
        "what": f"one trial, 1 × {tokens:,} tokens",
        "tokens/s": speeds,
        "share of the limit": [one / limit for one in speeds],
        "goal, tokens/s": _goal(setting, 19_000),
    }
    return [row], {
        "limit, tokens/s": limit,
        "limit": f"{FLOPS} FLOPs per parameter and token at the rate of square products, measured in the same run",
        "published": "NeMo AutoModel, Llama-3 8B, LoRA rank 16, bf16, 4,096 tokens: 12,473 tokens/s on one H100",
    }


def pack(setting: Setting, folder: Path) -> tuple[Rows, dict[str, Any]]:
    """Trials of one row of 1,200 tokens each: packed, packed one by one, and in PEFT."""
    network = gpu_packs.base(setting)
    rows = gpu_packs.batches(setting, setting.trials, 1, 0, 1200, 300)
    packed = gpu_packs.pack_of(network, folder / "packed", rows)
    apart = gpu_packs.pack_of(network, folder / "apart", rows, chunk=1)
    steps = [gpu_packs.rounds(setting, packed), gpu_packs.rounds(setting, apart), gpu_packs.peft_of(setting, rows)]
    seconds = _turns(setting, *steps)
    tokens = sum(len(row.ids) for batch in rows for row in batch)
    names = ("packed", "the same engine, trial by trial", "PEFT, trial by trial")
    limit = _limit(setting, network)
    table = [
        {
            "what": name,
            "s for a step of all": times,
            "tokens/s": [tokens / one for one in times],
            "share of the limit": [tokens / one / limit for one in times],
            "packed is faster by": ratios(times, seconds[0]) if times is not seconds[0] else None,
            "goal": _goal(setting, 1.8) if name.startswith("PEFT") else None,
        }
        for name, times in zip(names, seconds, strict=True)
    ]
    return table, {
        "trials": f"{setting.trials} × (1 × {len(rows[0][0].ids):,} tokens)",
        "trials in a pass": max(map(len, packed._chunks)),
        "seconds of a trial's step, by trials in a pass": str(packed.planner.measured),
        "PEFT": "eager, its adapters in float32 as it makes them, logits of all tokens; one trial stands for all",
        "limit, tokens/s": limit,
    }


def tree(setting: Setting, folder: Path) -> tuple[Rows, dict[str, Any]]:
    """Eight rows that begin alike, computed as a tree and row by row, by the same engine."""
    network = gpu_packs.base(setting)
    rows_out: Rows = []
    for shared, own, goal in ((630, 560, 1.6), (1000, 200, 3.0)):
        rows = gpu_packs.batches(setting, 1, 8, shared, own, own // 2)
        packs = [
            gpu_packs.pack_of(network, folder / f"{shared}-{trees}", rows, packed={"trees": trees})
            for trees in (True, False)
        ]
        steps = [gpu_packs.rounds(setting, one) for one in packs]
        needs = [next(iter(one.room._needs.values())) for one in packs]
        with_trees, without = _turns(setting, *steps)
        tokens = sum(len(row.ids) for row in rows[0])
        rows_out.append(
            {
                "what": f"8 × ({setting.tokens(shared):,} shared + {setting.tokens(own):,} own tokens)",
                "tree, tokens/s": [tokens / one for one in with_trees],
                "row by row, tokens/s": [tokens / one for one in without],
                "tree is faster by": ratios(without, with_trees),
                "goal": _goal(setting, goal),
                "tokens fall by": tokens / network.batch(rows[0]).tokens,
                "activations computed again": ", ".join(
                    name for name, need in zip(("tree", "row by row"), needs, strict=True) if need.recompute
                )
                or "no",
            }
        )
        del packs, steps
        _free(setting)
    return rows_out, {"trials": "1", "attention": _attention(network)}


def memory(setting: Setting, folder: Path) -> tuple[Rows, dict[str, Any]]:
    """What a full pack takes, beside what ``packed.memory`` estimates."""
    from recipes.engines.packed.memory import GIB, Size, base_bytes, pass_bytes, slot_bytes

    network = gpu_packs.base(setting)
    number = network.shape.number_bytes
    before = _allocated(setting)
    rows = gpu_packs.batches(setting, setting.trials, 1, 0, 1200, 300)
    full = gpu_packs.pack_of(network, folder / "memory", rows)
    step = gpu_packs.rounds(setting, full)
    held = _allocated(setting)
    _reset_peak(setting)
    step()
    peak = _allocated(setting, peak=True)
    together = max(len(group) for group in full._chunks)
    member = full.trials[0].member
    count, adapted = member.state.weights.numel(), member.rank * len(member.sites)
    size = Size(together, len(rows[0][0].ids), rows[0][0].num_targets, rows[0][0].num_targets)
    copies = together * count * number if number < 4 else 0  # a slot's, made for a pass
    passing = copies + pass_bytes(network.shape, size, adapted, recompute=False)
    estimates = {
        "the base": base_bytes(sum(one.numel() for one in network.model.parameters()), number),
        f"{setting.trials} slots": setting.trials * slot_bytes(count, 4),
        f"a pass, {together} in it": passing,
    }
    measured = {
        "the base": sum(one.nbytes for one in network.model.parameters()),
        f"{setting.trials} slots": None if before is None or held is None else held - before,
        f"a pass, {together} in it": None if peak is None or held is None else peak - held,
    }
    table = [
        {
            "what": name,
            "estimated, GiB": estimate / GIB,
            "measured, GiB": None if measured[name] is None else (measured[name] or 0) / GIB,
            "estimated / measured": estimate / (measured[name] or 0) if measured[name] else None,
        }
        for name, estimate in estimates.items()
    ]
    return table, {"measured by": "torch.cuda.max_memory_allocated; on a CPU tests/recipes/packed/test_memory.py does"}


def exact(setting: Setting, folder: Path) -> tuple[Rows, dict[str, Any]]:
    """Losses in float32 against plain PEFT on the same device, on a base small enough for it."""
    import torch

    from recipes.schema import Recipe
    from tests.peers import PeftTrial

    steps, shape = (3, gpu_packs.TINY) if setting.small else (10, gpu_packs.EXACT)
    network = gpu_packs.network_of(shape, "float32", setting.device)
    rows = [random_rows(4, 200, 60, 30, seed, shape["vocab_size"]) for seed in range(4)]
    expected = []
    for place, batch in enumerate(rows):
        model = gpu_packs.plain_model(shape, "float32", setting.device)
        trial = PeftTrial(model, Recipe.model_validate(gpu_packs.settings_of(place, len(batch))))
        with torch.device(setting.device):
            expected.append([trial.step(batch) for _ in range(steps)])
    rows_out: Rows = []
    for name, packed, usable in (
        ("trees", {}, None),
        ("row by row", {"trees": False}, None),
        ("trees, activations computed again", {}, 0),
    ):
        found = gpu_packs.pack_of(network, folder / name, rows, chunk=len(rows), packed=packed)
        if usable is not None:
            found.room.usable = usable
        losses: list[list[float]] = [[] for _ in rows]
        for _ in range(steps):
            found.round()
            for number, trial in found.trials.items():
                losses[number].append(trial.loss)
        apart = max(
            abs(one - other) / other
            for ours, theirs in zip(losses, expected, strict=True)
            for one, other in zip(ours, theirs, strict=True)
        )
        rows_out.append({"what": name, "largest relative difference from PEFT": apart})
    return rows_out, {"trials": f"{len(rows)}, {steps} steps, float32", "attention": _attention(network)}


def contract(setting: Setting, folder: Path) -> tuple[Rows, dict[str, Any]]:
    """What every engine promises, in ``tests/contract``, trained on the device."""
    some = ["-k", "packed and losses_fall"] if setting.small else []
    results = folder / "contract.xml"
    command = [sys.executable, "-m", "pytest", "tests/contract", "-q", "-m", "", "-p", "no:cacheprovider", *some]
    # A run of pytest around this one may have options of its own, such as a folder that a second one would clear.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment = {**inherited, "PODIUM_TEST_DEVICE": "cpu" if setting.small else "gpu"}
    done = subprocess.run(
        [*command, f"--junitxml={results}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=CONTRACT_S,
    )
    suite = ElementTree.parse(results).getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return [{"what": "tests/contract", **counts, "s": float(suite.get("time", 0))}], {
        "device": environment["PODIUM_TEST_DEVICE"],
        "failed": "; ".join(failed) or "none",
    }


PARTS: dict[str, Part] = {
    "single": single,
    "pack": pack,
    "tree": tree,
    "memory": memory,
    "exact": exact,
    "contract": contract,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 where a part failed; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="some parts alone")
    parser.add_argument("--small", action="store_true", help="a rehearsal on the CPU: its figures mean nothing")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each comparison, at most (default: 7)")
    parser.add_argument("--to", type=Path, default=None, help="folder of the reports (default: results/)")
    given = parser.parse_args(arguments)
    if given.repeats < 1:
        parser.error(f"--repeats must be at least 1, but got {given.repeats}")
    if not given.small and (missing := _missing()):
        print(f"{missing}; nothing was measured. --small rehearses every part on the CPU.", file=sys.stderr)
        return 2
    to: Path = given.to or (Path(tempfile.mkdtemp(prefix="podium-rehearsal-")) if given.small else RESULTS)
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--to cannot be used: {error}")
    setting = Setting(given.small, given.repeats)
    if setting.small:
        import torch

        torch.set_num_threads(1)  # tiny products gain nothing by a second one
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    code = 0
    for name in given.only:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            with tempfile.TemporaryDirectory() as folder:
                rows, conditions = PARTS[name](setting, Path(folder))
        except Exception:
            traceback.print_exc()
            print(f"{name} failed; the other parts go on", file=sys.stderr)
            code = 1
            continue
        finally:
            _free(setting)
        rehearsed = {"rehearsal": "a tiny base on a CPU; these figures mean nothing"} if setting.small else {}
        conditions = {**rehearsed, "base": _words(setting), **conditions}
        report(f"gpu-{name}", rows, conditions, to)
        print("\n".join([f"## {name}", "", *table(rows), ""]), flush=True)
    print(f"reports in {to}", file=sys.stderr)
    return code


def _missing() -> str | None:
    """Why there is no GPU to measure on."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU on this machine"
    free, _ = torch.cuda.mem_get_info()
    if free < 60 * 2**30:
        return f"60 GiB of GPU memory are needed for two bases and their trials, and {free / 2**30:.0f} GiB are free"
    return None


def _turns(setting: Setting, *steps: gpu_packs.Step) -> list[list[float]]:
    """Wall seconds of each step, turn by turn, in as many turns as there is time for."""
    turn = sum(times[0] for times in alternate(*steps, repeats=1, wall=True))  # not counted
    return alternate(*steps, repeats=max(1, min(setting.repeats, int(TURNS_S / turn))), wall=True)


def _limit(setting: Setting, network: Any) -> float:
    """Tokens a second if nothing but matrix products took time, at the rate of large square ones."""
    import torch

    size = 256 if setting.small else 8192
    dtype = getattr(torch, setting.dtype)
    left, right = (torch.randn(size, size, device=setting.device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(10):
            torch.mm(left, right)
        setting.wait()

    multiply()
    (seconds,) = alternate(multiply, repeats=5, wall=True)
    rate = 10 * 2 * size**3 / statistics.median(seconds)
    num_parameters = sum(int(one.numel()) for one in network.model.parameters())
    return rate / (FLOPS * num_parameters)


def _attention(network: Any) -> str:
    from recipes.engines.packed import flex

    if network.device.type == "cpu":
        return "parts merged by their logsumexp, on the CPU"
    why = flex.why_not() or (None if not network.shape.repeats_keys else "heads too narrow")
    return "flex_attention" if why is None else f"a dense mask: {why}"


def _words(setting: Setting) -> str:
    shape = setting.shape
    size = f"hidden {shape['hidden_size']}, {shape['num_hidden_layers']} layers, vocabulary {shape['vocab_size']:,}"
    return f"Llama, random weights, {size}, {setting.dtype}; LoRA rank 16 in all projections"


def _goal(setting: Setting, goal: float) -> float | None:
    return None if setting.small else goal


def _allocated(setting: Setting, *, peak: bool = False) -> int | None:
    if setting.small:
        return None
    import torch

    return int(torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated())


def _reset_peak(setting: Setting) -> None:
    if not setting.small:
        import torch

        torch.cuda.reset_peak_memory_stats()


def _free(setting: Setting) -> None:
    gc.collect()
    if not setting.small:
        import torch

        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
