"""The GPU's kernels in Triton's interpreter, which runs them on a CPU, beside the modules that they stand in for."""

import json
import os
import subprocess
import sys

import pytest

from tests.launchers.running import ROOT

pytest.importorskip("triton")

# Triton decides when a kernel is defined whether it is interpreted, so this has a process of its own.
PROGRAM = """
import json, sys
import torch
import transformers
from recipes.engines.packed import fused
from recipes.engines.packed.kernels import rotated

torch.set_num_threads(1)
for kind, dtype in (one.split(":") for one in sys.argv[1:]):
    torch.manual_seed(0)
    config = getattr(transformers, kind + "Config")(
        hidden_size=96, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=24, vocab_size=64, initializer_range=0.3,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    ids = torch.randint(0, 64, (2, 20))
    before = model(ids).logits
    why = fused.install(model)
    replaced = sorted({type(one).__name__ for one in model.modules() if "forward" in vars(one)})
    # The exchanged function leaves a CPU's tensors to transformers' own: here they are to go through the kernel.
    module = sys.modules[type(model.model.layers[0].self_attn).__module__]
    hooked = getattr(module, fused.ROTATION)
    setattr(module, fused.ROTATION, rotated)
    apart = float((model(ids).logits - before).abs().max() / before.abs().max())
    setattr(module, fused.ROTATION, hooked)
    again = float((model(ids).logits - before).abs().max() / before.abs().max())
    found = {"why": why, "replaced": replaced, "hooked": hasattr(hooked, "__wrapped__"), "apart": max(apart, again)}
    print("found", json.dumps(found))
"""

WRONG = """
import torch, transformers
from recipes.engines.packed import fused, kernels

config = transformers.LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                                  num_key_value_heads=2, vocab_size=64)
model = transformers.AutoModelForCausalLM.from_config(config).eval()
kernels.gated = lambda gate, up: 1.01 * torch.nn.functional.silu(gate) * up
print(fused.install(model))
assert not [one for one in model.modules() if "forward" in vars(one)]
"""


def run(program: str, *arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_models_of_all_families_compute_what_they_did() -> None:
    # The random weights are so large that they magnify each rounding.
    kinds = {"Llama:float32": 1e-4, "Qwen2:float32": 1e-4, "Qwen3:float32": 1e-4, "Mistral:float32": 1e-4}
    kinds |= {"Llama:bfloat16": 0.2}
    lines = [line for line in run(PROGRAM, *kinds, TRITON_INTERPRET="1") if line.startswith("found ")]
    for (kind, at_most), line in zip(kinds.items(), lines, strict=True):
        found, family = json.loads(line.removeprefix("found ")), kind.split(":")[0]
        assert found["why"] is None, "each kind of module agreed with its own forward, gradients included"
        assert found["replaced"] == [f"{family}MLP", f"{family}RMSNorm"]
        assert found["hooked"]
        assert found["apart"] < at_most


def test_what_differs_leaves_the_model_as_it_was() -> None:
    assert run(WRONG, TRITON_INTERPRET="1")[-1].startswith("LlamaMLP differs by 1.0e-02 from its own")


def test_what_cannot_be_run_leaves_the_model_as_it_was() -> None:
    """Here for want of a GPU; there, of a compiler."""
    program = WRONG.replace("kernels.gated =", "unused =")
    assert "Error" in run(program, TRITON_INTERPRET="0")[-1]
