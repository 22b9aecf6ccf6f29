"""What starts another server for a bundle and further adapters of its base: vLLM, SGLang, NVIDIA NIM.

Flags after the documentation of vLLM 0.11 and later, SGLang 0.5 and NIM for LLMs 2.1 (docs/serving.md names the pages).
"""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.export import ADAPTER, vllm_rank
from launchers.output import say
from launchers.serving.bundle import CHAMPION, Bundle
from sweeps.errors import InvalidInput, Problem

SCRIPT = "serve.sh"
STORE = "loras"  # the folder that a NIM takes adapters from
IN_CONTAINER = "/opt/nim/loras"


@dataclass(frozen=True)
class Served:
    """What a server is to serve.

    Attributes:
        base: The base's folder, or its id on the hub.
        name: What clients call the base.
        revision: Of the base on the hub.
        dtype: Of its weights, as it was measured.
        quantize: ``nf4`` where its weights were in 4 bits.
        adapters: Their folders, by the names that clients use.
        rank: The highest rank among them.
    """

    base: str
    name: str
    revision: str | None
    dtype: str
    quantize: str | None
    adapters: Mapping[str, Path]
    rank: int


def served(bundle: Bundle, more: Mapping[str, Path]) -> Served:
    """A bundle and further adapters, for another server."""
    base, adapters = bundle.recipe.base, {CHAMPION: bundle.folder, **more}
    return Served(
        base=str(bundle.base or base.path),
        name=bundle.base_name.replace(":", "-"),  # SGLang puts a colon between base and adapter
        revision=None if bundle.base else base.revision,
        dtype=base.dtype,
        quantize=base.quantize,
        adapters=adapters,
        rank=max(int(json.loads((folder / ADAPTER[1]).read_bytes())["r"]) for folder in adapters.values()),
    )


Start = list[list[str]]
"""The words that start a server: its command, and then each option with its values."""


def vllm(what: Served) -> Start:
    """vLLM with all adapters on one server."""
    return [
        ["vllm", "serve", what.base],
        *_base_options(what),
        *([["--quantization", "bitsandbytes"]] if what.quantize == "nf4" else []),
        ["--generation-config", "vllm"],  # not the base's own sampling: what a request leaves out is vLLM's default
        ["--enable-lora"],
        ["--max-loras", str(len(what.adapters))],
        ["--max-lora-rank", str(vllm_rank(what.rank))],
        ["--lora-modules", *_pairs(what)],
    ]


def sglang(what: Served) -> Start:
    """SGLang with all adapters on one server."""
    return [
        ["python", "-m", "sglang.launch_server", "--model-path", what.base],
        *_base_options(what),
        *([["--quantization", "bitsandbytes", "--load-format", "bitsandbytes"]] if what.quantize == "nf4" else []),
        ["--sampling-defaults", "openai"],
        ["--enable-lora"],
        ["--max-loras-per-batch", str(len(what.adapters) + 1)],  # the base takes a place
        ["--max-lora-rank", str(what.rank)],
        ["--lora-paths", *_pairs(what)],
    ]


def called(server: str, what: Served) -> str:
    """What clients of a server call the champion."""
    return f"{what.name}:{CHAMPION}" if server == "sglang" else CHAMPION


def argv(server: str, what: Served, port: int, tp: int) -> list[str]:
    """The command of vLLM or SGLang on this machine's loopback, on ``tp`` of the GPUs that it sees."""
    here = ["--host", "127.0.0.1", "--port", str(port), "--tensor-parallel-size", str(tp)]
    return [word for line in STARTS[server](what) for word in line] + here


def nim(what: Served) -> str:
    """The script for a NIM of the base: it takes every folder of its store as an adapter, under the folder's name."""
    words = ["exec docker run --rm --gpus all --shm-size 16g"]
    flags = f"--enable-lora --max-loras {len(what.adapters)} --max-lora-rank {vllm_rank(what.rank)}"
    options = [
        "-e NGC_API_KEY",
        "-e NIM_MODEL_PROFILE",
        f"-e NIM_PEFT_SOURCE={IN_CONTAINER}",
        f'-e NIM_PASSTHROUGH_ARGS="{flags}"',
        f'-v "$here/{STORE}:{IN_CONTAINER}:ro"',
        '-v "${LOCAL_NIM_CACHE:-$HOME/.cache/nim}:/opt/nim/.cache"',
        "-p 127.0.0.1:8000:8000",
        '"${NIM_IMAGE:?set it to the NIM of ' + what.name + ', nvcr.io/nim/…}"',
    ]
    text = _script("nim", what, [" ".join(words), *options])
    there = "# Where the image has profiles that end in -feat_lora, set NIM_MODEL_PROFILE to one of them.\n"
    return text.replace("set -eu\n", f'{there}set -eu\nhere=$(cd "$(dirname "$0")" && pwd)\n')


STARTS: Mapping[str, Callable[[Served], Start]] = {"vllm": vllm, "sglang": sglang}
TITLES = {"vllm": "vLLM", "sglang": "SGLang", "nim": "NVIDIA NIM"}


def script(server: str, what: Served) -> str:
    """The shell script that starts a server of ``TITLES``; its arguments are the server's own."""
    if server == "nim":
        return nim(what)
    command, *options = [shlex.join(line) for line in STARTS[server](what)]
    return _script(server, what, [f"exec {command}", *options])


def show(bundle: Bundle, more: Mapping[str, Path], server: str, out: Path | None) -> None:
    """Print the script that starts a server; with ``out`` write it there, for NIM with the store of adapters.

    Raises:
        InvalidInput: NIM without ``out``; or it holds something, or cannot be written.
    """
    what = served(bundle, more)
    text = script(server, what)
    if out is None:
        if server == "nim":
            rule = "a NIM takes its adapters from a folder of its own, and none is named"
            raise InvalidInput(Problem("--out", rule, "add --out DIR"))
        print(text, end="")
        return
    try:
        write(what, server, out)
    except OSError as error:
        raise InvalidInput(Problem("--out", f"{out} cannot be written: {error.strerror}")) from None
    print(out / SCRIPT)
    say(f"`sh {out / SCRIPT}` starts it; further arguments are the server's own")
    if bundle.is_guided:
        say("the champion was measured guided: send its schema with each request, as response_format")


def write(what: Served, server: str, out: Path) -> None:
    """Write the script, and for NIM the store of adapters.

    Raises:
        InvalidInput: Something else is there.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InvalidInput(Problem("--out", f"{out} is not empty", "choose another folder, or empty it"))
    out.mkdir(parents=True, exist_ok=True)
    if server == "nim":
        for name, folder in what.adapters.items():
            (out / STORE / name).mkdir(parents=True)
            for file in ADAPTER:
                shutil.copyfile(folder / file, out / STORE / name / file)
    path = out / SCRIPT
    path.write_text(script(server, what), encoding="utf-8")
    os.chmod(path, 0o755)


def _base_options(what: Served) -> Start:
    told = [["--revision", what.revision]] if what.revision else []
    if what.base != what.name:
        told.append(["--served-model-name", what.name])
    return [*told, ["--dtype", what.dtype]]


def _pairs(what: Served) -> list[str]:
    return [f"{name}={folder}" for name, folder in what.adapters.items()]


def _script(server: str, what: Served, lines: Sequence[str]) -> str:
    # A NIM's image ends its options: what follows is passed on to the server inside.
    command = " \\\n  ".join([*lines, '"$@"'])
    names, how = ", ".join(what.adapters), f'send `"model": "{called(server, what)}"` and `"temperature": 0`'
    return f"""#!/bin/sh
# {TITLES[server]} with {names} on {what.name}. As they were measured: {how}.
set -eu
{command}
"""
